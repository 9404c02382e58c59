"""One writer of the state files at a time."""

from __future__ import annotations

import fcntl
import os
import time
from typing import Final

from codexd.platform.files import PRIVATE_FILE, make_private_directory

_POLL_S: Final = 0.01


class WriterLock:
    """An flock on ``path``; the kernel gives it back whatever happens to the process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock; False if another process has it for ``timeout_s`` seconds on.

        Raises:
            OSError: the file cannot be made.
        """
        make_private_directory(os.path.dirname(self._path) or ".")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.release()
                    return False
            time.sleep(_POLL_S)

    def release(self) -> None:
        """Give the lock back; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
