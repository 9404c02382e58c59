"""What is computed once, by much that nobody needs afterwards: a fork of this process does it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Final, NoReturn

from codexd.platform.forked import can_fork

# Longer than anything takes that is worth it; then it is done here.
_PATIENCE_S: Final = 5.0
_PIECE: Final = 1 << 16
_DONE: Final = b"\n."


class Aside:
    """Calls ``make`` in a process of its own, at once.

    Where that cannot be, or brings no whole result, ``make`` is called here when it is wanted: an
    error is raised here, too.
    """

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._pid = 0
        self._reader = -1
        if can_fork():
            with contextlib.suppress(OSError):
                self._begin()

    def result(self) -> bytes:
        """What ``make`` returned. To be asked for once."""
        found = self._end(_PATIENCE_S) if self._pid else b""
        return found.removesuffix(_DONE) if found.endswith(_DONE) else self._make()

    def give_up(self) -> None:
        """Nobody will ask: end the process, if there is one."""
        if self._pid:
            self._end(0)

    def _begin(self) -> None:
        self._reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if pid == 0:
            _work(self._make, writer)
        os.close(writer)
        self._pid = pid

    def _end(self, patience_s: float) -> bytes:
        # The end of the pipe says that it has ended, and not the kernel: where whoever started
        # codexd ignores SIGCHLD, that tells nothing.
        pid, self._pid = self._pid, 0
        until = time.monotonic() + patience_s
        found = b""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while poll.poll(max(0, until - time.monotonic()) * 1000):
            piece = os.read(self._reader, _PIECE)
            if not piece:
                break
            found += piece
        else:
            # It had the pipe just now, so nobody else has its number.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self._reader)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return found


def _work(make: Callable[[], bytes], writer: int) -> NoReturn:
    # Whatever happens, nothing of what the process was in the middle of is gone on with.
    try:
        left = make() + _DONE
        while left:
            left = left[os.write(writer, left) :]
    finally:
        os._exit(0)
