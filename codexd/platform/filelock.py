"""An flock on a file, signed by who has it; the kernel gives it back whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Final

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.platform.files import open_clearing, read_whole
from codexd.platform.process import ProcessId, identify

_POLL_S: Final = 0.01


class FileLock:
    """A lock at ``path``, for one holder in this process.

    The file stays when the lock is given back, so that no one locks a name that is gone. It may
    be taken away under the holder; :meth:`acquire` of one that is held makes it anew.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._signed = False

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock; False if another process has it for ``timeout_s`` seconds on.

        Where it is held already, see that its name still leads to it. False then means that
        another process has taken the name; the old file is kept.

        Raises:
            OSError: the file cannot be made.
        """
        deadline = time.monotonic() + timeout_s
        while not self._is_named():
            descriptor = open_clearing(self.path)
            if try_flock(descriptor):
                self._adopt(descriptor)
                # Round once more: the name may have gone between the opening and the lock.
                continue
            os.close(descriptor)
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        self._sign()
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd, self._signed = -1, False

    def signature(self) -> ProcessId | None:
        """The process that last took the lock, whether it still has it or not. Only reads."""
        try:
            return decode_json(read_whole(self.path), ProcessId)
        except (OSError, *UNDECODABLE):
            return None

    def _is_named(self) -> bool:
        if self._fd < 0:
            return False
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def _adopt(self, descriptor: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._signed = descriptor, False

    def _sign(self) -> None:
        # A disk that takes no word more must not keep anybody from the lock; the next time.
        if self._signed:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, msgspec.json.encode(identify(os.getpid())) + b"\n", 0)
            self._signed = True


def wait_for_flock(descriptor: int, timeout_s: float) -> bool:
    """As :func:`try_flock`, but whoever has it may take ``timeout_s`` seconds to let go.

    Raises:
        OSError: the file system has no locks.
    """
    deadline = time.monotonic() + timeout_s
    while not try_flock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def try_flock(descriptor: int) -> bool:
    """Take the flock on an open file or directory; False if another process has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
