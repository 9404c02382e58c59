"""A client of an app-server's WebSocket that costs next to nothing: sockets and bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any, Final

import msgspec

from codexd.platform.peer import peer_pid

_PATIENCE_S: Final = 60.0
_READ: Final = 1 << 18
_UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FIN_TEXT: Final = 0x81
PING: Final = 0x89
PONG: Final = 0x8A
_DELTA: Final = b'"item/agentMessage/delta"'
_DONE: Final = b'"turn/completed"'
_INITIALIZE: Final[dict[str, Any]] = {
    "clientInfo": {"name": "bench", "title": None, "version": "0"},
    "capabilities": {"experimentalApi": True},
}


class _Envelope(msgspec.Struct):
    id: int | str | None = None
    method: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Envelope).decode
_encode = msgspec.json.Encoder().encode


def masked(payload: bytes, opcode: int = FIN_TEXT) -> bytes:
    """A frame as clients send it; a mask of zeros leaves the bytes as they are."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", opcode, 0xFF, size)
    return head + b"\0\0\0\0" + payload


def first_frame(data: bytes) -> tuple[int, int, int] | None:
    """First byte, where the payload begins and where it ends; None while some is still to come."""
    if len(data) < 2:
        return None
    size, begin = data[1] & 0x7F, 2
    if size == 126:
        size, begin = int.from_bytes(data[2:4]), 4
    elif size == 127:
        size, begin = int.from_bytes(data[2:10]), 10
    return (data[0], begin, begin + size) if len(data) >= begin + size else None


class RawClient:
    """One connection, which asks one thing after the other."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(_PATIENCE_S)
        self._count = 0
        self._rest = b""
        try:
            self.socket.connect(path)
            self.socket.sendall(_UPGRADE)
            while b"\r\n\r\n" not in self._rest:
                self._rest += self._read()
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(head.decode(errors="replace"))
            self.ask("initialize", _INITIALIZE)
            self.send({"method": "initialized"})
        except BaseException:
            self.socket.close()
            raise

    def send(self, message: dict[str, Any]) -> None:
        """One message."""
        self.socket.sendall(masked(_encode(message)))

    def ask(self, method: str, params: dict[str, Any]) -> msgspec.Raw:
        """The result of a request, as it came."""
        self._count += 1
        self.send({"id": self._count, "method": method, "params": params})
        while True:
            message = _decode(self.payload())
            if message.id == self._count and message.method is None:
                return message.result

    def payload(self) -> bytes:
        """The next message."""
        while True:
            found = first_frame(self._rest)
            if found is None:
                self._rest += self._read()
                continue
            opcode, begin, end = found
            payload, self._rest = self._rest[begin:end], self._rest[end:]
            if opcode == FIN_TEXT:
                return payload
            if opcode == PING:
                self.socket.sendall(masked(payload, PONG))
            else:
                raise ConnectionError(f"a frame that begins with {opcode:#x}")

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _read(self) -> bytes:
        data = self.socket.recv(_READ)
        if not data:
            raise ConnectionResetError("the server has hung up")
        return data


class Listener(RawClient):
    """Counts the deltas of a turn without taking messages apart."""

    def begin(self) -> None:
        """Count from now on."""
        self.deltas = 0
        self.is_done = False
        self._tail, self._rest = self._rest, b""

    def hear(self) -> None:
        """Take what can be read now."""
        data = self._tail + self._read()
        self.deltas += data.count(_DELTA)
        self.is_done = self.is_done or _DONE in data
        # What one read has the beginning of, the next one has whole.
        self._tail = data[1 - len(_DELTA) :]


def first_answer(path: str, *, other_than: int | None = None, within_s: float = _PATIENCE_S) -> int:
    """Ask again and again until a server answers `initialize`; its pid.

    ``other_than`` is the pid of one that has been killed, and may still take a connection.
    """
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError):
            client = RawClient(path)
            pid = peer_pid(client.socket)
            client.close()
            if pid != other_than:
                return pid
        if time.monotonic() > deadline:
            raise TimeoutError(f"no server answers on {path}")
        time.sleep(0.001)
