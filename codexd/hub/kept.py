"""What the next hub of a daemon must know, because the server does not keep it, or not for it.

A hub that dies leaves a server that lives. Whoever follows it has the threads from the server, and
from here what nobody could ask for.
"""

from __future__ import annotations

from typing import Any

import msgspec


class KeptSetting(msgspec.Struct, frozen=True):
    """What a client has set for the whole process; ``client`` was its number."""

    method: str
    params: dict[str, Any]
    client: int


class KeptLogin(msgspec.Struct, rename="camel", frozen=True):
    """A login that is in progress, and the request that began it."""

    method: str
    login_id: str | None = None
    name: str | None = None
    thread_id: str | None = None
    import_id: str | None = None


class KeptHandle(msgspec.Struct, frozen=True):
    """A handle that a client had open, by its name at the server, and the method that opened it."""

    method: str
    handle: str


class Kept(msgspec.Struct, frozen=True):
    """All of it. ``threads`` is, by thread, what it was opened with.

    ``unset`` says that the server may not have been given all ``settings`` yet.
    """

    threads: dict[str, dict[str, Any]] = {}
    settings: list[KeptSetting] = []
    logins: list[KeptLogin] = []
    handles: list[KeptHandle] = []
    unset: bool = False
