"""The server: WebSocket clients for the hub, HTTP for everybody else, on codexd.sock and on TCP.

Clients speak to it as to `codex app-server --listen unix://PATH`: it upgrades a request on any
path, ignores binary messages, and lets in only processes of the same user. What codex does not
have, plain HTTP on the same socket, is answered by an :class:`.exchange.HttpService`. On TCP a
:class:`.door.Door` says who may come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from websockets.frames import CloseCode

from codexd.api.connection import Connection, Visitor
from codexd.api.http import Problem
from codexd.api.listener import Listener
from codexd.api.places import Places, is_lasting
from codexd.api.stale import clear_path
from codexd.api.websocket import Cork, HubAdapter
from codexd.platform.files import (
    PRIVATE_FILE,
    identity_of,
    make_private_directory,
    require_private_directory,
)
from codexd.platform.vanished import end_when_vanished
from codexd.wire.unfinished import UNFINISHED_BYTES, Unfinished

if TYPE_CHECKING:
    from ssl import SSLContext

    from codexd.api.door import Closable, Door

MAX_MESSAGE_BYTES: Final = 100 << 20

_FULL: Final = (
    "codexd may open no file more for another client: end some, or raise the limit of open files "
    "(ulimit -n) and start it anew."
)

# What guests may use of the open files that are kept back: who is on this machine always some more
# than who comes over TCP.
_GUESTS: Final = 0.5
_FAR_GUESTS: Final = 0.25

_FAREWELL_S = 1.0
_TELL_FULL_S = 60.0


class ServerLimits(msgspec.Struct):
    """``max_message_bytes`` may change while clients are connected; new ones are held to it."""

    backlog_bytes: int = 64 << 20
    max_message_bytes: int = MAX_MESSAGE_BYTES
    unfinished_bytes: int = UNFINISHED_BYTES
    head_timeout_s: float = 30.0


class _Served(msgspec.Struct):
    listener: Listener
    identity: tuple[int, int]


class HubServer:
    """Serves any number of sockets with one adapter. Call all of it from the loop.

    ``owners`` is everybody who comes over a Unix socket.

    ``on_cut(client, unread_bytes)`` is called, before ``closed``, for a client that was cut off
    because it does not read (None: one of HTTP); ``on_full(connections)``, from time to time,
    while there are no open files left for more.
    """

    def __init__(
        self,
        adapter: HubAdapter,
        owners: Visitor,
        limits: ServerLimits,
        *,
        on_cut: Callable[[int | None, int], None],
        on_full: Callable[[int], None],
        cork: Cork | None = None,
    ) -> None:
        self._adapter = adapter
        self._owners = owners
        self._limits = limits
        self._on_cut = on_cut
        self._on_full = on_full
        self._told_full_at = -math.inf
        self._served: dict[str, _Served] = {}
        self._doors: dict[Door, Listener] = {}
        self._cork = cork or Cork()
        self._unfinished = Unfinished(limits.unfinished_bytes)
        self._connections: set[Connection] = set()
        self._places = Places()
        # Those that have never sent a message, or have their answer and ask for nothing more, in
        # the order in which they came.
        self._mute: dict[Connection, None] = {}
        self._emptied = asyncio.Event()

    async def listen(self, path: str) -> None:
        """Serve ``path``; a socket that nobody serves any more is replaced.

        Raises:
            codexd.api.stale.SocketInUse: somebody serves it, or it is no socket.
            OSError: it cannot be made.
        """
        directory = os.path.dirname(path)
        make_private_directory(directory)
        # Before each bind: who can put another socket there would be taken for this daemon.
        require_private_directory(directory)
        await asyncio.to_thread(clear_path, path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(path)
            os.chmod(path, PRIVATE_FILE)
            identity = identity_of(path)
            assert identity is not None
            listener = Listener(
                listening, self._owner_comes, self._make_room, self._places, guests=_GUESTS
            )
        except BaseException:
            listening.close()
            raise
        self._served[path] = _Served(listener, identity)

    def open_door(
        self, door: Door, bound: socket.socket, tls: Callable[[], SSLContext] | None
    ) -> None:
        """Serve who comes through a door, on a TCP socket that is bound; ``tls()`` gives a context.

        Raises:
            OSError: it cannot be listened on.
        """

        def comes(accepted: socket.socket, address: Any) -> Connection:
            end_when_vanished(accepted)
            return Connection(self, door.visit(str(address[0])))

        def make_room(lasting: bool) -> bool:
            self._tell_full()
            return door.make_room(lambda stranger: stranger.is_silent and _gives(stranger, lasting))

        self._doors[door] = Listener(
            bound, comes, make_room, self._places, guests=_FAR_GUESTS, tls=tls
        )

    async def heal(self) -> None:
        """Serve anew every path whose socket file was taken away or replaced.

        Raises:
            OSError: as :meth:`listen`.
        """
        for path, served in list(self._served.items()):
            if identity_of(path) != served.identity:
                served.listener.close()
                await self.listen(path)

    async def close(self) -> None:
        """Take the sockets away and say farewell (1001); a client has a second to take it."""
        for path, served in self._served.items():
            served.listener.close()
            if identity_of(path) == served.identity:
                os.unlink(path)
        self._served.clear()
        for listener in self._doors.values():
            listener.close()
        self._doors.clear()
        for connection in list(self._connections):
            connection.close(CloseCode.GOING_AWAY, "codexd is ending")
        self._emptied.clear()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), _FAREWELL_S)
        for connection in list(self._connections):
            connection.abort()

    # -- for the connections -------------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """See :class:`ServerLimits`."""
        return self._limits.backlog_bytes

    @property
    def max_message_bytes(self) -> int:
        """See :class:`ServerLimits`."""
        return self._limits.max_message_bytes

    @property
    def head_timeout_s(self) -> float:
        """See :class:`ServerLimits`."""
        return self._limits.head_timeout_s

    @property
    def adapter(self) -> HubAdapter:
        """Who hears what the clients say."""
        return self._adapter

    @property
    def cork(self) -> Cork:
        """What has several messages for a client leave in one write."""
        return self._cork

    @property
    def unfinished(self) -> Unfinished:
        """What all connections together hold of messages that are not whole yet."""
        return self._unfinished

    def made(self, connection: Connection) -> bool:
        """Whether whoever connected may stay."""
        self._connections.add(connection)
        self._mute[connection] = None
        transport = connection.transport
        assert transport is not None
        try:
            return connection.visitor.may_stay(transport.get_extra_info("socket"))
        except OSError:
            return False

    def is_guest(self, connection: Connection) -> bool:
        """Whether a connection was let in on what is kept back, and leaves with its answer."""
        return connection.transport is None or not is_lasting(connection.descriptor)

    def require_room(self, connection: Connection) -> None:
        """See that a connection can stay.

        Raises:
            Problem: it cannot.
        """
        is_there = connection.transport is not None
        if not (is_there and self._places.take(connection, connection.descriptor)):
            self._tell_full()
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "full", _FULL)

    def spoke(self, connection: Connection) -> None:
        """A client has sent its first message, or a request."""
        self._mute.pop(connection, None)

    def rests(self, connection: Connection) -> None:
        """A connection has its answer: it is there for a request that may come, or to be read."""
        if connection in self._connections:
            self._mute[connection] = None

    def cut(self, client: int | None, unread: int) -> None:
        """A client is being cut off."""
        self._on_cut(client, unread)

    def gone(self, connection: Connection) -> None:
        """A connection is lost."""
        self._connections.discard(connection)
        self._mute.pop(connection, None)
        self._places.leave(connection)
        if not self._connections:
            self._emptied.set()

    # -- for the listeners ---------------------------------------------------------------------

    def _owner_comes(self, accepted: socket.socket, address: Any) -> Connection:
        del accepted, address
        return Connection(self, self._owners)

    def _make_room(self, lasting: bool) -> bool:
        self._tell_full()
        # Strangers, whatever they are about: whoever is on this machine comes first.
        if any(door.make_room(lambda found: _gives(found, lasting)) for door in self._doors):
            return True
        spared = (one for one in self._mute if _gives(one, lasting) and one.is_silent)
        oldest = next(spared, None)
        if oldest is None:
            return False
        del self._mute[oldest]
        oldest.abort()
        return True

    def _tell_full(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_full_at >= _TELL_FULL_S:
            self._told_full_at = now
            self._on_full(len(self._connections))


def _gives(found: Closable, lasting: bool) -> bool:
    """Whether the end of a connection leaves what is needed."""
    return not lasting or is_lasting(found.descriptor)
