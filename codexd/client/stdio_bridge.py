"""Joins stdin and stdout, a JSON message a line, to a WebSocket on a Unix socket.

One loop over select(2), without asyncio: a tool that starts an app-server waits for it.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from codexd.wire.frames import MessageAssembler, send_message
from codexd.wire.lines import LineSplitter, as_line

_READ_BYTES = 256 << 10
# What is held for a side that is slow to take it, before the other side is left to wait.
_HELD_BYTES = 4 << 20
_CONNECT_S = 10.0
# After the end of stdin: how long answers that are under way are waited for. codex itself ends
# at once and loses them.
_LINGER_S = 2.0


class BridgeError(Exception):
    """The other side cannot be reached, or has gone. The text is one line for the user."""


class _Envelope(msgspec.Struct):
    id: int | str | None = None
    method: str | None = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def connect(socket_path: str) -> socket.socket:
    """Connect to a Unix socket.

    Raises:
        OSError: nobody is there.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(socket_path)
    except BaseException:
        connected.close()
        raise
    return connected


class StdioBridge:
    """One client's stdin and stdout on one connection."""

    def __init__(self, connected: socket.socket, stdin_fd: int, stdout_fd: int) -> None:
        self._socket = connected
        self._stdin = stdin_fd
        self._stdout = stdout_fd
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self._assembler = MessageAssembler(self._protocol)
        self._lines = LineSplitter(self._take_line)
        self._to_socket = _Outgoing()
        self._to_stdout = _Outgoing()
        self._in_flight: set[int | str] = set()
        self._stdin_open = True
        self._socket_open = True
        self._deadline = 0.0

    @property
    def ignored(self) -> int:
        """How many lines of stdin were no JSON objects."""
        return self._lines.noise

    def run(self) -> None:
        """Upgrade, and carry messages until stdin ends and its requests are answered.

        Returns also, and at once, when nobody reads stdout any more.

        Raises:
            BridgeError: the other side refused, or went away first.
        """
        self._upgrade()
        try:
            while not self._is_done():
                self._turn()
        except BrokenPipeError:
            return
        if self._socket_open:
            self._farewell()
        else:
            reason = self._protocol.close_rcvd.reason if self._protocol.close_rcvd else ""
            raise BridgeError(f"The daemon closed the connection{f': {reason}' if reason else ''}.")

    def _upgrade(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        try:
            for data in self._protocol.data_to_send():
                self._socket.sendall(data)
            while self._protocol.state is State.CONNECTING and self._socket_open:
                self._receive(self._socket.recv(_READ_BYTES))
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
        self._socket.setblocking(False)

    def _is_done(self) -> bool:
        if self._to_stdout.size:
            return not self._stdin_open and time.monotonic() > self._deadline
        if not self._socket_open:
            return True
        if self._stdin_open:
            return False
        is_answered = not self._in_flight and not self._to_socket.size
        return is_answered or time.monotonic() > self._deadline

    def _turn(self) -> None:
        readers: list[int | socket.socket] = []
        writers: list[int | socket.socket] = []
        # Also with the socket gone: its end tells that nobody will read the rest either.
        if self._stdin_open and self._to_socket.size < _HELD_BYTES:
            readers.append(self._stdin)
        if self._socket_open and self._to_stdout.size < _HELD_BYTES:
            readers.append(self._socket)
        if self._to_socket.size:
            writers.append(self._socket)
        if self._to_stdout.size:
            writers.append(self._stdout)
        timeout = None if self._stdin_open else max(0.0, self._deadline - time.monotonic())
        readable, writable, _ = select.select(readers, writers, [], timeout)
        if self._stdout in writable:
            self._write_stdout()
        if self._socket in writable:
            self._write_socket()
        if self._socket in readable:
            self._read_socket()
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
        if self._to_socket.size:
            self._write_socket()

    def _take_line(self, line: bytes) -> None:
        envelope = _read_envelope(line)
        if envelope.method is not None and envelope.id is not None:
            self._in_flight.add(envelope.id)
        if self._protocol.state is State.OPEN:
            send_message(self._protocol, line)
            self._to_socket.extend(self._protocol.data_to_send())

    def _read_socket(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._receive(data)
        if self._socket_open:
            self._to_socket.extend(self._protocol.data_to_send())
        else:
            self._to_socket.clear()

    def _receive(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self._socket_open = False
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                message = self._assembler.add(event)
                if message is not None:
                    self._take_message(message)
        if self._protocol.state in (State.CLOSING, State.CLOSED):
            self._socket_open = False

    def _take_message(self, message: bytes) -> None:
        envelope = _read_envelope(message)
        if envelope.method is None and envelope.id is not None:
            self._in_flight.discard(envelope.id)
        self._to_stdout.extend([as_line(message)])

    def _write_socket(self) -> None:
        try:
            self._to_socket.sent(self._socket.send(self._to_socket.first))
        except BlockingIOError:
            return
        except OSError:
            # What it said before it went may still be there to read; then comes the end.
            self._to_socket.clear()

    def _write_stdout(self) -> None:
        # As much as never blocks where select(2) says that it can be written.
        self._to_stdout.sent(os.write(self._stdout, self._to_stdout.first[: select.PIPE_BUF]))
        if not self._stdin_open:
            self._deadline = time.monotonic() + _LINGER_S

    def _farewell(self) -> None:
        try:
            self._protocol.send_close(1000)
            for data in self._protocol.data_to_send():
                self._socket.send(data)
        except OSError:
            return


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


def _read_envelope(message: bytes) -> _Envelope:
    try:
        return _decode_envelope(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Envelope()
