"""JSON messages in WebSocket frames, as codex takes and sends them.

Measured on codex 0.163: it takes a frame of at most 16 MiB and a message of at most 64 MiB, and
drops the connection without a word above that; what it sends is never fragmented, whatever its
size. It ignores binary messages and drops a connection that sends text which is not UTF-8.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

CODEX_FRAME_BYTES: Final = 16 << 20
CODEX_MESSAGE_BYTES: Final = 64 << 20
_HEAD_16: Final = struct.Struct("!BBH")
_HEAD_64: Final = struct.Struct("!BBQ")
_TEXT: Final = 0x81
_MASKED: Final = 0x80
_MASK_BYTES: Final = 4
_OF_MESSAGES: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
# A longer one is not kept for the next client: its copy costs less than the memory.
_KEPT_BYTES: Final = 1 << 20
# Codex tells its clients in the handshake how large an unfragmented message it takes.
FRAME_LIMIT_HEADER: Final = "x-codex-websocket-max-unfragmented-message-bytes"


# The heads of what is short.
_HEADS: Final = tuple(bytes((_TEXT, size)) for size in range(126))


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
        frame = (_HEADS[size] if size < 126 else _head(size, 0)) + message
        if size <= _KEPT_BYTES:
            self._message, self._frame = message, frame
        return frame


def _head(size: int, masked: int) -> bytes:
    """The head of a text message in one frame; ``masked`` is the bit that says so, or 0."""
    if size < 126:
        return bytes((_TEXT, masked | size))
    if size < 1 << 16:
        return _HEAD_16.pack(_TEXT, masked | 126, size)
    return _HEAD_64.pack(_TEXT, masked | 127, size)


def masked_frame(message: bytes) -> bytes:
    """The frame of a text message as a client sends it; at most ``CODEX_FRAME_BYTES`` long."""
    mask = os.urandom(_MASK_BYTES)
    return _head(len(message), _MASKED) + mask + apply_mask(message, mask)


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


class MessageReader:
    """Cuts what comes over an open connection into messages.

    Nearly all that comes is a whole text message in a frame of its own, and is taken as it is.
    Everything else, from the first part of a long message to a farewell or a breach of the
    protocol, goes to ``protocol``: frame by frame, so that it is known where the next one begins.
    """

    def __init__(self, protocol: Protocol, max_message_bytes: int) -> None:
        self._protocol = protocol
        self._max_bytes = max_message_bytes
        self._assembler = MessageAssembler(protocol)
        self._mask_bit = 0 if protocol.side is CLIENT else _MASKED
        # Whether more parts of a message are to come.
        self._is_in_parts = False
        # A frame whose head is not whole; how much is to come of one that the protocol has begun.
        self._begun = b""
        self._rest = 0
        # Whether the protocol had a part in the last call: it may have something to say.
        self.has_passed_on = False

    @property
    def held(self) -> int:
        """Bytes that have come of a message which is not whole yet."""
        return self._assembler.held + len(self._begun)

    def sole(self, data: bytes) -> bytes | None:
        """The message that ``data`` is, from the first byte to the last, as it is of a client that
        asks one thing after the other; None where it is anything else, for :meth:`feed`.
        """
        if self._begun or self._rest or len(data) < 2:
            return None
        length, begin = data[1] & 0x7F, 2
        if length >= 126:
            begin = 4 if length == 126 else 10
            length = int.from_bytes(data[2:begin], "big")
        if self._mask_bit:
            begin += _MASK_BYTES
        if (
            begin + length != len(data)
            or data[0] != _TEXT
            or data[1] & _MASKED != self._mask_bit
            or length > self._max_bytes
            or self._is_in_parts
            or self._protocol.state is not OPEN
        ):
            return None
        message = data[begin:]
        if self._mask_bit:
            message = apply_mask(message, data[begin - _MASK_BYTES : begin])
        if message.isascii() or _is_utf8(message):
            self.has_passed_on = False
            return message
        return None

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes."""
        self.has_passed_on = False
        if self._begun:
            data, self._begun = self._begun + data, b""
        messages: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if not self._rest:
                begin, end = self._place(data, at)
                if not begin:
                    self._begun = data[at:]
                    break
                if end <= size and self._is_simple(data[at], data[at + 1], end - begin):
                    message = data[begin:end]
                    if self._mask_bit:
                        message = apply_mask(message, data[begin - _MASK_BYTES : begin])
                    if message.isascii() or _is_utf8(message):
                        messages.append(message)
                        at = end
                        continue
                self._rest = end - at
            at = self._pass_on(data, at, messages)
        return messages

    def _place(self, data: bytes, at: int) -> tuple[int, int]:
        """Where the payload of the frame at ``at`` begins, and its end; 0 if that is yet to come.

        That a frame is masked which must not be, or the other way round, the protocol finds out.
        """
        size = len(data)
        if size - at < 2:
            return 0, 0
        length = data[at + 1] & 0x7F
        begin = at + 2
        if length >= 126:
            begin += 2 if length == 126 else 8
            if begin > size:
                return 0, 0
            length = int.from_bytes(data[at + 2 : begin], "big")
        if data[at + 1] & _MASKED:
            begin += _MASK_BYTES
            if begin > size:
                return 0, 0
        return begin, begin + length

    def _is_simple(self, first: int, second: int, length: int) -> bool:
        return (
            first == _TEXT
            and second & _MASKED == self._mask_bit
            and length <= self._max_bytes
            and not self._is_in_parts
            and self._protocol.state is OPEN
        )

    def _pass_on(self, data: bytes, at: int, messages: list[bytes]) -> int:
        """Give the protocol what there is of the frame at ``at``; where that ends."""
        self.has_passed_on = True
        piece = data[at : at + self._rest]
        self._rest -= len(piece)
        self._protocol.receive_data(piece)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode in _OF_MESSAGES:
                    self._is_in_parts = not event.fin
                message = self._assembler.add(event)
                if message is not None:
                    messages.append(message)
        return at + len(piece)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
