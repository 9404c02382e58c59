"""Answers HTTP requests by the table of routes, and says who may ask for what."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable

from codexd.api.http import Access, Head
from codexd.api.table import Result, Table
from codexd.platform.peer import peer_uid


class Service:
    """A :class:`.connection.Visitor` for Unix sockets, on which only the owner can be."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def comes(self, connection: object) -> None:
        """They are all alike."""

    def may_stay(self, connected: socket.socket) -> bool:
        """Only a process of the same user may."""
        return peer_uid(connected) == os.getuid()

    def left(self) -> None:
        """They are all alike."""

    def admit(self, head: Head) -> Access:
        """Whoever reaches the socket is its owner."""
        del head
        return Access.OWNER

    def find(self, head: Head, access: Access) -> Callable[[bytes], Awaitable[Result]]:
        """See :meth:`.table.Table.find`."""
        return self._table.find(head, access)[1]
