"""Joins stdin and stdout, a JSON message a line, to WebSockets on a Unix socket.

One loop over select(2), without asyncio: a tool that starts an app-server waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from codexd.client.continuity import Continuity
from codexd.hub.profile import NOTHING, PROFILE_HEADER, ClientProfile
from codexd.platform.peer import require_own_peer
from codexd.wire.frames import MessageAssembler, send_message
from codexd.wire.lines import LineSplitter, as_line

_READ_BYTES = 256 << 10
# What is held for a side that is slow to take it, before the other side is left to wait.
_HELD_BYTES = 4 << 20
_CONNECT_S = 10.0
# After the end of stdin: how long answers that are under way are waited for. codex itself ends
# at once and loses them.
_LINGER_S = 10.0
# A connection that lived shorter is not made anew at once.
_SHORT_LIFE_S = 1.0
_RETRY_DELAY_S = 0.02
# A request head is at most 16 KiB.
_PROFILE_LIMIT = 14 << 10


class BridgeError(Exception):
    """The other side cannot be reached, or has gone. The text is one line for the user."""


def connect(socket_path: str) -> socket.socket:
    """Connect to a Unix socket.

    Raises:
        ForeignPeer: another user serves it.
        OSError: nobody is there.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(socket_path)
        require_own_peer(connected)
    except BaseException:
        connected.close()
        raise
    return connected


class _Wire:
    """One WebSocket connection to the daemon."""

    def __init__(self, connected: socket.socket, profile: ClientProfile) -> None:
        self.socket = connected
        self.unsent = _Outgoing()
        self.is_open = True
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self._assembler = MessageAssembler(self._protocol)
        self._profile = profile
        self._response: Response | None = None
        self.early: list[bytes] = []
        self._upgrade()
        connected.setblocking(False)

    @property
    def farewell(self) -> str:
        """Why the daemon closed the connection, where it said so."""
        return self._protocol.close_rcvd.reason if self._protocol.close_rcvd else ""

    def send(self, message: bytes) -> None:
        """Queue a message."""
        if self._protocol.state is State.OPEN:
            send_message(self._protocol, message)
            self.unsent.extend(self._protocol.data_to_send())

    def write(self) -> None:
        """Send of what is queued as much as can be sent now."""
        try:
            self.unsent.sent(self.socket.send(self.unsent.first))
        except BlockingIOError:
            return
        except OSError:
            # What it said before it went may still be there to read; then comes the end.
            self.unsent.clear()

    def read(self) -> list[bytes]:
        """The messages that have come."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        messages = self._receive(data)
        if self.is_open:
            self.unsent.extend(self._protocol.data_to_send())
        else:
            self.unsent.clear()
        return messages

    def close(self) -> None:
        """Say farewell where that is possible at once."""
        self.unsent.clear()
        with self.socket, contextlib.suppress(OSError):
            if self.is_open:
                self._protocol.send_close(1000)
                for data in self._protocol.data_to_send():
                    self.socket.send(data)

    def _upgrade(self) -> None:
        request = self._protocol.connect()
        if self._profile is not NOTHING:
            request.headers[PROFILE_HEADER] = _as_header(self._profile)
        self._protocol.send_request(request)
        try:
            for data in self._protocol.data_to_send():
                self.socket.sendall(data)
            while self._protocol.state is State.CONNECTING and self.is_open:
                self.early += self._receive(self.socket.recv(_READ_BYTES))
        except OSError as error:
            raise BridgeError(f"The daemon did not answer: {error}.") from error
        refusal = self._protocol.handshake_exc
        # Once accepted it may be closing already: a farewell may come in one piece with the answer.
        if refusal is not None or self._protocol.state is State.CONNECTING:
            status = refusal.response.status_code if isinstance(refusal, InvalidStatus) else None
            raise BridgeError(
                "The daemon closed the connection at once."
                if status is None
                else f"The daemon refused the connection: HTTP {status}."
            )
        taken = self._response is not None and PROFILE_HEADER in self._response.headers
        if self._profile.config and not taken:
            raise BridgeError(
                "The daemon that runs is older than this command and cannot give "
                f"{', '.join(self._profile.config)}: restart it."
            )

    def _receive(self, data: bytes) -> list[bytes]:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self.is_open = False
        messages = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._response = event
            elif isinstance(event, Frame):
                message = self._assembler.add(event)
                if message is not None:
                    messages.append(message)
        if self._protocol.state in (State.CLOSING, State.CLOSED):
            self.is_open = False
        return messages


class StdioBridge:
    """One client's stdin and stdout on a daemon, over as many connections as it takes.

    ``connect()`` gives a connection, also after one was lost, or None where there is none yet; it
    raises BridgeError where there is to be none any more.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket | None],
        stdin_fd: int,
        stdout_fd: int,
        profile: ClientProfile = NOTHING,
    ) -> None:
        self._connect = connect
        self._stdin = stdin_fd
        self._stdout = stdout_fd
        self._profile = profile
        self._lines = LineSplitter(self._take_line)
        self._to_stdout = _Outgoing()
        self._continuity = Continuity()
        self._stdin_open = True
        self._deadline = 0.0

    @property
    def ignored(self) -> int:
        """How many lines of stdin were no JSON objects."""
        return self._lines.noise

    def run(self) -> None:
        """Carry messages until stdin ends and its requests are answered.

        Returns also, and at once, when nobody reads stdout any more.

        Raises:
            BridgeError: the other side refused, or went away and did not come back, or did not
                answer everything in time.
        """
        self._open_wire(self._first_connection())
        try:
            self._take_messages(self._wire.early)
            while not self._is_done():
                if self._wire.is_open or self._is_spoken_out:
                    self._turn(None if self._stdin_open else self._deadline - time.monotonic())
                else:
                    self._go_on()
        except BrokenPipeError:
            return
        finally:
            self._wire.close()
        if self._continuity.unanswered:
            count = self._continuity.unanswered
            raise BridgeError(f"Its stdin ended, and {count} of its requests had no answer yet.")
        if self._to_stdout.size:
            raise BridgeError("Its stdin ended, and nobody read the rest of its output.")

    def _first_connection(self) -> socket.socket:
        while (connected := self._connect()) is None:
            time.sleep(_RETRY_DELAY_S)
        return connected

    def _open_wire(self, connected: socket.socket) -> None:
        self._wire = _Wire(connected, self._profile)
        self._connected_at = time.monotonic()

    @property
    def _is_spoken_out(self) -> bool:
        """Whether all that is left to do is to have stdout read."""
        return not self._stdin_open and not self._continuity.is_waiting

    def _is_done(self) -> bool:
        if self._stdin_open:
            return False
        if time.monotonic() > self._deadline:
            return True
        return self._is_spoken_out and not self._to_stdout.size and not self._wire.unsent.size

    def _go_on(self) -> None:
        """The connection is lost: what came on it is written, then comes the next one."""
        reason = self._wire.farewell
        self._wire.close()
        self._to_stdout.extend([as_line(message) for message in self._continuity.lost()])
        again_at = self._connected_at + _SHORT_LIFE_S
        try:
            while (connected := self._try(again_at)) is None:
                self._turn(_RETRY_DELAY_S)
                if self._is_done():
                    return
            self._open_wire(connected)
        except BridgeError as error:
            self._flush_stdout()
            text = f"The daemon closed the connection{f': {reason}' if reason else ''}. {error}"
            raise BridgeError(text) from error
        for message in self._continuity.reconnected():
            self._wire.send(message)
        self._take_messages(self._wire.early)

    def _try(self, not_before: float) -> socket.socket | None:
        return self._connect() if time.monotonic() >= not_before else None

    def _flush_stdout(self) -> None:
        deadline = time.monotonic() + _LINGER_S
        while self._to_stdout.size and time.monotonic() < deadline:
            if select.select([], [self._stdout], [], _LINGER_S)[1]:
                self._write_stdout()

    def _turn(self, timeout: float | None) -> None:
        """Wait until something can be carried on, ``timeout`` seconds at most, and carry it."""
        readers: list[int | socket.socket] = []
        writers: list[int | socket.socket] = []
        wire = self._wire
        # Also with the socket gone: its end tells that nobody will read the rest either.
        if self._stdin_open and wire.unsent.size + self._continuity.held_bytes < _HELD_BYTES:
            readers.append(self._stdin)
        if wire.is_open and self._to_stdout.size < _HELD_BYTES:
            readers.append(wire.socket)
        if wire.unsent.size:
            writers.append(wire.socket)
        if self._to_stdout.size:
            writers.append(self._stdout)
        timeout = None if timeout is None else max(0.0, timeout)
        readable, writable, _ = select.select(readers, writers, [], timeout)
        if self._stdout in writable:
            self._write_stdout()
        if wire.socket in writable:
            wire.write()
        if wire.socket in readable:
            self._take_messages(wire.read())
        if self._stdin in readable:
            self._read_stdin()

    def _read_stdin(self) -> None:
        data = os.read(self._stdin, _READ_BYTES)
        if data:
            self._lines.feed(data)
        else:
            self._lines.finish()
            self._stdin_open = False
            self._deadline = time.monotonic() + _LINGER_S
        if self._wire.unsent.size:
            self._wire.write()

    def _take_line(self, line: bytes) -> None:
        for message in self._continuity.from_client(line):
            self._wire.send(message)

    def _take_messages(self, messages: list[bytes]) -> None:
        for message in messages:
            sends = self._continuity.from_server(message)
            for own in sends.to_server:
                self._wire.send(own)
            self._to_stdout.extend([as_line(line) for line in sends.to_client])

    def _write_stdout(self) -> None:
        # As much as never blocks where select(2) says that it can be written.
        self._to_stdout.sent(os.write(self._stdout, self._to_stdout.first[: select.PIPE_BUF]))
        if not self._stdin_open:
            self._deadline = time.monotonic() + _LINGER_S


class _Outgoing:
    """Bytes that wait to be written."""

    def __init__(self) -> None:
        self._chunks: deque[memoryview] = deque()
        self.size = 0

    @property
    def first(self) -> memoryview:
        return self._chunks[0]

    def extend(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            if chunk:
                self._chunks.append(memoryview(chunk))
                self.size += len(chunk)

    def sent(self, count: int) -> None:
        self.size -= count
        if count == len(self._chunks[0]):
            self._chunks.popleft()
        else:
            self._chunks[0] = self._chunks[0][count:]

    def clear(self) -> None:
        self._chunks.clear()
        self.size = 0


def _as_header(profile: ClientProfile) -> str:
    try:
        (profile.cwd or "").encode()
    except UnicodeEncodeError as error:
        text = f"The working directory {profile.cwd!r} is no text: start it in another."
        raise BridgeError(text) from error
    text = json.dumps(msgspec.to_builtins(profile))
    if len(text) > _PROFILE_LIMIT:
        raise BridgeError(f"The overrides are longer than {_PROFILE_LIMIT} bytes.")
    return text
