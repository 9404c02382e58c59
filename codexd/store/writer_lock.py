"""One writer of the state files at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Final

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.platform.files import PRIVATE_FILE, make_private_directory
from codexd.platform.process import ProcessId, identify

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
                self._sign()
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.release()
                    return False
            time.sleep(_POLL_S)

    def holder(self) -> ProcessId | None:
        """The process that last took the lock, whether it still has it or not."""
        try:
            with open(self._path, "rb") as file:
                return msgspec.json.decode(file.read(), type=ProcessId)
        except (OSError, *UNDECODABLE):
            return None

    def _sign(self) -> None:
        # A disk that takes no word more must not keep the files from being written later.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, msgspec.json.encode(identify(os.getpid())), 0)

    def release(self) -> None:
        """Give the lock back; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
