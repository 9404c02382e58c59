"""JSON messages in WebSocket frames, as codex takes and sends them.

Measured on codex 0.163: it takes a frame of at most 16 MiB and a message of at most 64 MiB, and
drops the connection without a word above that; what it sends is never fragmented, whatever its
size. It ignores binary messages and drops a connection that sends text which is not UTF-8.
"""

from __future__ import annotations

import struct
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol

CODEX_FRAME_BYTES: Final = 16 << 20
CODEX_MESSAGE_BYTES: Final = 64 << 20
_HEAD_16: Final = struct.Struct("!BBH")
_HEAD_64: Final = struct.Struct("!BBQ")
# A longer one is not kept for the next client: its copy costs less than the memory.
_KEPT_BYTES: Final = 1 << 20
# Codex tells its clients in the handshake how large an unfragmented message it takes.
FRAME_LIMIT_HEADER: Final = "x-codex-websocket-max-unfragmented-message-bytes"


class Framer:
    """Frames messages as a server does: one frame each, unmasked (RFC 6455, section 5.2).

    One that goes to many clients, one after the other, is framed once.
    """

    def __init__(self) -> None:
        self._message = b""
        self._frame = b"\x81\x00"

    def frame(self, message: bytes) -> bytes:
        """The frame of a text message."""
        if message is self._message:
            return self._frame
        size = len(message)
        if size < 126:
            head = bytes((0x81, size))
        elif size < 1 << 16:
            head = _HEAD_16.pack(0x81, 126, size)
        else:
            head = _HEAD_64.pack(0x81, 127, size)
        frame = head + message
        if size <= _KEPT_BYTES:
            self._message, self._frame = message, frame
        return frame


def send_message(protocol: Protocol, data: bytes) -> None:
    """Frame one message, in pieces that codex takes; the caller sends what comes of it."""
    if len(data) <= CODEX_FRAME_BYTES:
        protocol.send_text(data)
        return
    view = memoryview(data)
    protocol.send_text(view[:CODEX_FRAME_BYTES], fin=False)
    for start in range(CODEX_FRAME_BYTES, len(data), CODEX_FRAME_BYTES):
        end = start + CODEX_FRAME_BYTES
        protocol.send_continuation(view[start:end], fin=end >= len(data))


class MessageAssembler:
    """Puts the frames of one connection together to messages."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._parts: list[bytes] = []
        self._size = 0
        self._is_text = False
        self._failed = False

    @property
    def held(self) -> int:
        """Bytes that have come of a message which is not whole yet."""
        return self._size + len(self._protocol.reader.buffer)

    def add(self, frame: Frame) -> bytes | None:
        """The message that ``frame`` completes, if it does.

        Text that is not UTF-8 fails the connection with close code 1007, and ends it.
        """
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return None
        if not self._is_text or self._failed:
            return None
        self._parts.append(bytes(frame.data))
        self._size += len(frame.data)
        if not frame.fin:
            return None
        return self._whole()

    def _whole(self) -> bytes | None:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._size = 0
        # One client's bad text must not reach the connection that all of them share.
        if not _is_utf8(data):
            self._failed = True
            self._protocol.fail(CloseCode.INVALID_DATA, "not UTF-8")
            return None
        return data


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
