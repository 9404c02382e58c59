"""Being told that a named pipe holds something.

Linux: the loop's own selector. macOS: select(2) in a thread. A FIFO there is a pair of sockets of
8 KiB, and kqueue tells of what is in it only once the whole write(2) has returned
(python/cpython#95600): with 9 KiB in one call, writer and reader would wait for each other for
ever. select(2) has no such rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Protocol

# What select(2) takes: descriptors below FD_SETSIZE.
_SELECT_LIMIT = 1024
# How often a pipe with a higher descriptor is looked at.
_POLL_S = 0.02


class PipeWatch(Protocol):
    """A watch over one pipe."""

    def close(self) -> None:
        """End it; the callback is not called any more. Before the descriptor is closed."""


def watch_pipe(
    loop: asyncio.AbstractEventLoop, descriptor: int, on_data: Callable[[], object]
) -> PipeWatch:
    """Call ``on_data`` from the loop whenever the pipe can be read, as often as it takes.

    ``descriptor`` is non-blocking; ``on_data`` need not empty the pipe.
    """
    if sys.platform != "darwin":
        return _LoopWatch(loop, descriptor, on_data)
    if descriptor < _SELECT_LIMIT:
        return _ThreadWatch(loop, descriptor, on_data)
    return _PollWatch(loop, on_data)


class _LoopWatch:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, on_data: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        loop.add_reader(descriptor, on_data)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)


class _ThreadWatch:
    """Waits in a thread, and not again before the loop has read what there was."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, on_data: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._on_data = on_data
        self._closed = False
        self._read = threading.Event()
        self._read.set()
        # A byte in it ends the wait. Its descriptors may be too high for select(2), too.
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._wait, name="pipe-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        os.write(self._wake_write, b"\0")
        self._read.set()
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wait(self) -> None:
        watched = [fd for fd in (self._descriptor, self._wake_read) if fd < _SELECT_LIMIT]
        # Without the pipe that wakes it, it looks about from time to time.
        timeout = None if self._wake_read in watched else 1.0
        while True:
            self._read.wait()
            if self._closed:
                return
            readable, _, _ = select.select(watched, [], [], timeout)
            if self._closed:
                return
            if self._descriptor in readable:
                self._read.clear()
                # The loop may be at its end.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self._closed:
            return
        try:
            self._on_data()
        finally:
            self._read.set()


class _PollWatch:
    def __init__(self, loop: asyncio.AbstractEventLoop, on_data: Callable[[], object]) -> None:
        self._loop = loop
        self._on_data = on_data
        self._timer = loop.call_later(_POLL_S, self._look)

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(_POLL_S, self._look)
        self._on_data()
