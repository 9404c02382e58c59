"""Stand-ins for what macOS does otherwise, to force its branches on Linux."""

from __future__ import annotations

import fcntl
import os
import selectors
import stat
import threading
from typing import Any

FIFO_BYTES = 8192


class FifoWriter:
    """A child that writes into a named pipe of 8 KiB, each piece in one call of write(2)."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR)
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, FIFO_BYTES)
        self.is_writing = False
        self._thread: threading.Thread | None = None

    def write(self, *pieces: bytes) -> None:
        """Begin to write; returns at once."""
        self.is_writing = True
        self._thread = threading.Thread(target=self._write, args=(pieces,), daemon=True)
        self._thread.start()

    def _write(self, pieces: tuple[bytes, ...]) -> None:
        for piece in pieces:
            self.is_writing = True
            assert os.write(self._descriptor, piece) == len(piece)
            self.is_writing = False

    def close(self) -> None:
        """Let go; what is still to be written is read here."""
        # Opened anew: a dup would make the writer's end one that does not wait, too.
        reader = os.open(f"/dev/fd/{self._descriptor}", os.O_RDONLY | os.O_NONBLOCK)
        while self._thread is not None and self._thread.is_alive():
            try:
                os.read(reader, 1 << 20)
            except BlockingIOError:
                self._thread.join(0.01)
        os.close(reader)
        os.close(self._descriptor)


class KqueueLikeSelector(selectors.SelectSelector):
    """Tells of a FIFO's data only once the whole write(2) has returned, as kqueue does."""

    def __init__(self, writer: FifoWriter) -> None:
        super().__init__()
        self._writer = writer
        self.withheld = 0

    def select(self, timeout: float | None = None) -> Any:
        """As ever, but for FIFOs."""
        ready = super().select(0.01 if timeout is None else min(timeout, 0.01))
        if not self._writer.is_writing:
            return ready
        told = [(key, events) for key, events in ready if not _is_fifo(key.fd)]
        self.withheld += len(ready) - len(told)
        return told


def _is_fifo(descriptor: int) -> bool:
    # A selector's own wake-up is a socket; unnamed pipes have no such rule, but none is used.
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
