"""Whether a server that is somebody else's is the one before, or another in its place.

Of a child the system tells it; of an external server only the server itself can: it may be behind
a relay, or on another machine.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.link.errors import LinkTimeout, RequestFailed

_ASK_S = 5.0


class Asks(Protocol):
    """A connection to the server."""

    async def request(self, method: str, params: Any, timeout_s: float) -> bytes: ...


class Told(msgspec.Struct, frozen=True):
    """What a server says of itself: the pid of its process, and the threads it has loaded."""

    pid: int | None = None
    loaded: frozenset[str] = frozenset()

    def is_same_as(self, before: Told, heard: frozenset[str]) -> bool:
        """Whether this is the server that was ``before``.

        ``heard`` are the threads that it had loaded for us when it was heard last: a server keeps
        them for longer than a connection is missed, and a new one has none of them. A pid alone
        may be another's, as in a container that was started again.
        """
        if self.pid is None or before.pid is None:
            return bool(heard & self.loaded)
        return self.pid == before.pid and (not heard or bool(heard & self.loaded))


class _Process(msgspec.Struct):
    id: int | None = None


class _Diagnostics(msgspec.Struct):
    process: _Process = msgspec.field(default_factory=_Process)


class _Loaded(msgspec.Struct):
    data: frozenset[str] = frozenset()


async def ask_who(link: Asks) -> Told:
    """Ask a server who it is; one that does not know the question has no pid.

    Raises:
        codexd.link.errors.LinkError: the connection is gone.
    """
    process = (await _ask(link, "server/diagnostics", _Diagnostics)) or _Diagnostics()
    loaded = (await _ask(link, "thread/loaded/list", _Loaded)) or _Loaded()
    return Told(process.process.id, loaded.data)


async def _ask(link: Asks, method: str, type_: type[Any]) -> Any:
    try:
        return decode_json(await link.request(method, {}, _ASK_S), type_)
    except (RequestFailed, LinkTimeout, *UNDECODABLE):
        return None
