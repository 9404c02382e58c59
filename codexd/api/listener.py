"""Taking in connections, without ever using up the open files that the rest needs.

asyncio's own server, short of descriptors, tries as often as its backlog is long and logs each try
(python/cpython#151615). Here a part of them is kept back (see :mod:`.places`). Where connections
would take it, those that say nothing make room, the oldest first. Where all speak, a newcomer is
let in as a guest; and where there are too many of these, the oldest that says nothing makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from codexd.api.connection import Connection
from codexd.api.places import Places, reserve

if TYPE_CHECKING:
    from ssl import SSLContext

# Taken in by one turn of the loop: a crowd of newcomers does not hold up those who are there.
_BURST: Final = 16
_BACKLOG: Final = 1024
# How long a client may take over the beginning of TLS, and over its end.
_HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 2.0
# Before the listener looks again, where not even a guest can be let in.
_PAUSE_S: Final = 0.25


class Listener:
    """Accepts on a bound socket until it is closed.

    ``make(accepted, address)`` makes a new connection; ``make_room(lasting)`` ends one that can be
    spared, and tells whether there was one; with ``lasting``, only one whose end leaves a place
    for good. ``guests`` is how much of what is kept back guests may use. ``tls()`` gives the
    context where there is TLS.
    """

    def __init__(
        self,
        bound: socket.socket,
        make: Callable[[socket.socket, Any], Connection],
        make_room: Callable[[bool], bool],
        places: Places,
        *,
        guests: float,
        tls: Callable[[], SSLContext] | None = None,
    ) -> None:
        self._socket = bound
        self._make = make
        self._make_room = make_room
        self._places = places
        self._guests = guests
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        bound.listen(_BACKLOG)
        self._resume()

    def close(self) -> None:
        """Take in nobody more; who is connected stays."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for task in list(self._beginning):
            task.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept_some)

    def _wait(self) -> None:
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(_PAUSE_S, self._resume)

    def _accept_some(self) -> None:
        # Those that have only begun are not yet among those that could make room; those who begin
        # with TLS take their time over it.
        beginning = len(self._beginning) if self._tls is None else 0
        for accepted in range(_BURST - beginning):
            # Whether somebody more waits is not known: nobody is sent away for that.
            if not self._places.has_room(self._socket.fileno()) and (
                accepted or not self._finds_room()
            ):
                return
            try:
                connected, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # The system's own limits: they pass, or do not, and nobody is helped by a log.
                self._wait()
                return
            self._take_in(connected, address)

    def _finds_room(self) -> bool:
        """Whether a guest may come in. Else it waits, if only for this turn of the loop to end."""
        if self._make_room(True):
            # It is gone after this turn.
            return False
        kept = reserve()
        if self._places.left(self._socket.fileno()) >= kept - int(kept * self._guests):
            return True
        if not self._make_room(False):
            self._wait()
        return False

    def _take_in(self, connected: socket.socket, address: Any) -> None:
        connected.setblocking(False)
        connection = self._make(connected, address)
        task = self._loop.create_task(self._begin(connected, connection))
        self._beginning.add(task)

        def begun(done: asyncio.Task[None]) -> None:
            self._beginning.discard(done)
            if connection.is_over_if_not_made():
                connected.close()

        task.add_done_callback(begun)
        connection.begins(connected, task.cancel)

    async def _begin(self, connected: socket.socket, connection: Connection) -> None:
        # It may be gone already, or speak no TLS.
        with contextlib.suppress(OSError):
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: connection, connected)
                return
            await self._loop.connect_accepted_socket(
                lambda: connection,
                connected,
                ssl=self._tls(),
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
