"""The child's stdin and stdout as a transport: one JSON message a line.

Writing goes to the named pipe that is the child's stdin. Reading is done elsewhere: whoever
moves the child's stdout into its log hands every byte to :meth:`StdioTransport.feed`.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque

from codexd.link.errors import LinkLost, NotReading
from codexd.link.transport import (
    UNREAD_LIMIT,
    OnLost,
    OnMessage,
    ignore_loss,
    ignore_message,
)
from codexd.platform.pipes import unread_bytes
from codexd.wire.lines import LineSplitter, as_line

# Messages are kept until it is known that the child has read them; that is looked up once they
# are so many bytes.
_LOOK_BYTES = 64 << 10


class StdioTransport:
    """A transport over the pipe at ``stdin_path``; see :class:`.transport.Transport`.

    ``is_first`` says that nobody has written to the pipe before.
    """

    def __init__(self, stdin_path: str, *, is_first: bool) -> None:
        self._path = stdin_path
        self._is_first = is_first
        self._descriptor: int | None = None
        # Never read from: it tells how much the child has left in the pipe.
        self._gauge: int | None = None
        self._unsent: deque[memoryview] = deque()
        # Messages that the child may not have read, with the place in the stream where each ends.
        self._sent: deque[tuple[int, bytes]] = deque()
        self._sent_bytes = 0
        self._end = 0
        self._on_lost: OnLost = ignore_loss
        self._splitter = LineSplitter(ignore_message)
        self.buffered = 0

    def bind(self, on_message: OnMessage, on_lost: OnLost) -> None:
        """See :class:`.transport.Transport`."""
        self._splitter = LineSplitter(on_message)
        self._on_lost = on_lost

    async def connect(self) -> None:
        """Open the pipe. Raises OSError if it is not there."""
        self._gauge = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Read-write: opening it for writing only fails while the child has not opened it.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise
        if not self._is_first:
            # An earlier plugin may have died in the middle of a line: end it. codex notes an
            # empty line as an error.
            self._write(b"\n")
        self._is_first = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the child's stdout."""
        if self._descriptor is not None:
            self._splitter.feed(data)

    def send(self, data: bytes) -> None:
        """See :class:`.transport.Transport`."""
        if self._descriptor is None:
            raise LinkLost("The server's stdin is not open.")
        if self.buffered > UNREAD_LIMIT:
            raise NotReading(f"The server has left {self.buffered} bytes of its stdin unread.")
        self._write(as_line(data))
        if self._gauge is None:
            # It could not be written; that is told.
            return
        self._sent.append((self._end, data))
        self._sent_bytes += len(data)
        if self._sent_bytes > _LOOK_BYTES:
            self._forget_read()

    def unread(self) -> list[bytes]:
        """See :class:`.transport.Transport`: the pipe is held open, and has what was not read."""
        if self._gauge is None:
            return []
        self._forget_read()
        return [data for _, data in self._sent]

    def _forget_read(self) -> None:
        assert self._gauge is not None
        read_to = self._end - self.buffered - unread_bytes(self._gauge)
        while self._sent and self._sent[0][0] <= read_to:
            self._sent_bytes -= len(self._sent.popleft()[1])

    def close(self) -> None:
        """Let go of the pipe; what the child has not taken is dropped."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        if self._gauge is not None:
            os.close(self._gauge)
            self._gauge = None
        self._unsent.clear()
        self._sent.clear()
        self._sent_bytes = 0
        self.buffered = 0

    def _write(self, data: bytes) -> None:
        size = len(data)
        self._end += size
        written = 0 if self._unsent else self._write_some(data)
        if written < size and self._descriptor is not None:
            if not self._unsent:
                asyncio.get_running_loop().add_writer(self._descriptor, self._flush)
            self._unsent.append(memoryview(data)[written:])
            self.buffered += size - written

    def _write_some(self, data: bytes | memoryview) -> int:
        """Write what the pipe takes now; how much that was."""
        assert self._descriptor is not None
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.close()
            self._on_lost(f"The server's stdin cannot be written: {error.strerror}.")
            return 0

    def _flush(self) -> None:
        while self._unsent:
            written = self._write_some(self._unsent[0])
            if self._descriptor is None:
                return
            self.buffered -= written
            if written < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][written:]
                return
            self._unsent.popleft()
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
