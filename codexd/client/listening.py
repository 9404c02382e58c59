"""A server of a client's own, as `codex app-server --listen` is one: the daemon's hub behind it.

Each connection is a client with a bridge in a thread of its own, so one that waits (for a plugin
that hangs, say) keeps nobody else waiting.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from codexd.client.bridge import Bridge
from codexd.client.doorway import Doorway
from codexd.client.hub_wire import BridgeError, HubWire
from codexd.client.websocket_end import WebSocketEnd
from codexd.platform.limits import files_left_above
from codexd.platform.peer import ForeignPeer, require_own_peer

# Each is two open files, and select(2) takes descriptors below 1,024.
MAX_CLIENTS: Final = 400
# Beyond that, so many at once are told so; the others are hung up on.
_TURNED_AWAY: Final = 50
# Open files that are no client's.
_OWN_FILES: Final = 16
_BACKLOG: Final = 128
# Before it is tried again, where the system lets nobody in.
_PAUSE_S: Final = 0.25
_LOOK_S: Final = 0.05
# How long clients may take to read what there is for them, its end included.
_FAREWELL_S: Final = 3.0
_LINGER_S: Final = 1.0
ENDING: Final = "codexd app-server is ending"


@dataclass(eq=False, slots=True)
class _Guest:
    """One connection; ``bridge`` once it is a client."""

    socket: socket.socket
    bridge: Bridge | None = None
    thread: threading.Thread = field(default_factory=threading.Thread)


class ClientListener:
    """Serves clients on a bound socket until it is told to stop.

    ``connect()`` makes what connects one client to the hub; ``tell(text)`` says why a client was
    sent away.
    """

    def __init__(
        self,
        bound: socket.socket,
        doorway: Doorway,
        connect: Callable[[], Callable[[], HubWire | None]],
        tell: Callable[[str], None],
    ) -> None:
        self._socket = bound
        self._doorway = doorway
        self._connect = connect
        self._tell = tell
        self._guests: set[_Guest] = set()
        self._stops = 0
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        bound.setblocking(False)
        bound.listen(_BACKLOG)

    def stop(self) -> None:
        """Begin nothing more, and end with the last running turn; called again, end at once.

        A signal handler may call it.
        """
        self._stops += 1
        # Full, it has been woken.
        try:
            os.write(self._wake_writer, b"\0")
        except BlockingIOError:
            return

    def run(self) -> None:
        """Serve until :meth:`stop`; then everybody gets a farewell."""
        try:
            while not self._is_over():
                # While turns end, nothing tells that they have.
                self._wait(_LOOK_S if self._stops else None)
        finally:
            self._socket.close()
            self._send_all_away()
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    def _is_over(self) -> bool:
        if self._stops == 1:
            for guest in list(self._guests):
                if guest.bridge is not None:
                    guest.bridge.drain()
        return self._stops > 1 or (self._stops == 1 and not self._is_busy())

    def _is_busy(self) -> bool:
        return any(guest.bridge and guest.bridge.is_busy for guest in list(self._guests))

    def _wait(self, timeout_s: float | None) -> None:
        listening = self._socket.fileno()
        readable = select.select([listening, self._wake_reader], [], [], timeout_s)[0]
        if self._wake_reader in readable:
            os.read(self._wake_reader, 64)
        if listening in readable:
            self._accept()

    def _accept(self) -> None:
        try:
            connected, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # Too many open files, say: that passes, or does not.
            time.sleep(_PAUSE_S)
            return
        _prepare(connected)
        count, (most, more) = len(self._guests), _room()
        if count >= most + more:
            connected.close()
            return
        guest = _Guest(connected)
        task = self._host if count < most else self._turn_away
        guest.thread = threading.Thread(target=task, args=(guest,), daemon=True)
        self._guests.add(guest)
        try:
            guest.thread.start()
        except RuntimeError:
            # The system has no more threads for this user.
            self._guests.discard(guest)
            connected.close()

    # -- in the thread of a connection ---------------------------------------------------------

    def _host(self, guest: _Guest) -> None:
        try:
            with guest.socket as connected:
                if connected.family == socket.AF_UNIX:
                    require_own_peer(connected)
                descriptor = connected.fileno()
                end = self._doorway.enter(descriptor, descriptor)
                if end is not None:
                    self._serve(guest, end)
                if end is None or not end.is_cut:
                    _linger(connected)
        except (ForeignPeer, OSError):
            # Gone, or nobody to be served.
            return
        finally:
            self._guests.discard(guest)

    def _turn_away(self, guest: _Guest) -> None:
        try:
            with guest.socket as connected:
                self._doorway.turn_away(connected.fileno(), connected.fileno())
                _linger(connected)
        except OSError:
            return
        finally:
            self._guests.discard(guest)

    def _serve(self, guest: _Guest, end: WebSocketEnd) -> None:
        bridge = Bridge(self._connect(), end)
        if self._stops:
            bridge.drain()
        guest.bridge = bridge
        reason = ENDING
        try:
            bridge.run()
        except BridgeError as error:
            reason = str(error)
            self._tell(reason)
        end.leave(reason)

    # -- at the end ----------------------------------------------------------------------------

    def _send_all_away(self) -> None:
        deadline = time.monotonic() + _FAREWELL_S
        guests = list(self._guests)
        for guest in guests:
            try:
                # Its bridge takes this for the client's last word.
                guest.socket.shutdown(socket.SHUT_RD)
            except OSError:
                continue
        for guest in guests:
            guest.thread.join(max(0.0, deadline - time.monotonic()))


def _room() -> tuple[int, int]:
    """How many may be clients, and how many more can be told that they cannot."""
    files = files_left_above(-1) - _OWN_FILES
    more = min(_TURNED_AWAY, files // 8)
    return min(MAX_CLIENTS, (files - more) // 2), more


def _prepare(connected: socket.socket) -> None:
    connected.setblocking(False)
    if connected.family == socket.AF_UNIX:
        return
    # Messages are small and many, and one does not wait for the other's acknowledgement; who has
    # vanished without a word is found out in time. macOS refuses it for one that is gone already.
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _linger(connected: socket.socket) -> None:
    """Closed with something unread, the client would lose what it has not read yet."""
    deadline = time.monotonic() + _LINGER_S
    connected.shutdown(socket.SHUT_WR)
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([connected], [], [], left_s)[0] or not connected.recv(64 << 10):
            return
