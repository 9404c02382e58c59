"""Answers HTTP requests by the table of routes, and says who may ask for what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from codexd.api.http import Access, Head
from codexd.api.table import Result, Table


class Service:
    """A :class:`.exchange.HttpService` for sockets on which only the owner can be."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def admit(self, head: Head) -> Access:
        """Whoever reaches the socket is its owner."""
        del head
        return Access.ADMIN

    def find(self, head: Head, access: Access) -> Callable[[bytes], Awaitable[Result]]:
        """See :meth:`.table.Table.find`."""
        return self._table.find(head, access)[1]
