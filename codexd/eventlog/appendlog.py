"""A file that only grows, is rotated by size, and copes with a disk that does not."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import Final, NamedTuple

from codexd.platform.files import (
    NotAFile,
    flush_to_device,
    make_private_directory,
    open_clearing,
    set_aside_odd,
)
from codexd.platform.pipes import splice

_HEAL_EVERY_S: Final = 0.1
_ROTATE_AGAIN_S: Final = 1.0
_COPY_BYTES: Final = 1 << 20
_UNLIMITED: Final = 1 << 62


class Position(NamedTuple):
    """A place in a log that rotation does not move: the file's inode and an offset in it."""

    inode: int
    end: int


class AppendLog:
    """``path``, with older files beside it as ``path.1`` (the newest) to ``path.BACKUPS``.

    Nothing here raises for what the disk does, unless it says so: writes return how much is in
    the file, and :attr:`trouble` tells why it is not all. One process writes at a time; it may
    be killed at any moment. ``max_bytes`` 0: never rotate.
    """

    def __init__(self, path: str, *, max_bytes: int, backups: int) -> None:
        self.path = path
        self.error: OSError | None = None
        self._max_bytes = max_bytes
        self._backups = backups
        # Without O_APPEND, which splice(2) refuses: the descriptor's own offset is the end.
        self._fd = -1
        self._inode = self._device = self._size = 0
        # Bytes of the present file that were there when it was last seen under its path.
        self._safe = 0
        self._torn_at: int | None = None
        self._ends_inside_line = False
        self._next_heal = self._next_rotation = 0.0
        self.heal()

    @property
    def trouble(self) -> str | None:
        """Why the file does not take what it should, or None."""
        return None if self.error is None else self.error.strerror or str(self.error)

    # -- writing -----------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """Where the next byte goes."""
        return Position(self._inode, self._size)

    @property
    def full(self) -> bool:
        """Whether the present file is to be rotated before more is written."""
        return 0 < self._max_bytes <= self._size and time.monotonic() >= self._next_rotation

    @property
    def room(self) -> int:
        """Bytes that the present file still takes; never 0, for a failed rotation stops nothing."""
        left = self._max_bytes - self._size
        return left if left > 0 else _UNLIMITED

    def write_line(self, line: bytes) -> bool:
        """Append ``line`` whole or not at all, after a rotation where it would not fit."""
        if self._ends_inside_line:
            line = b"\n" + line
        if 0 < self._max_bytes < self._size + len(line) and self._size > 0:
            self.rotate()
        written = self.write(line)
        if written == len(line):
            self._ends_inside_line = False
            return True
        if written:
            self._torn_at = self._size - written
            with contextlib.suppress(OSError):
                self._cut_torn_line(self._torn_at)
        return False

    def write(self, data: bytes | bytearray) -> int:
        """Append ``data`` to the present file; returns how many bytes of it are there now."""
        done = 0
        try:
            self._prepare()
            with memoryview(data) as view:
                while done < len(view):
                    count = os.write(self._fd, view[done:])
                    self._size += count
                    done += count
        except OSError as error:
            self._note(error)
        else:
            self.error = None
        return done

    def splice_from(self, pipe_fd: int, max_bytes: int) -> int:
        """Append what is in the pipe, as :func:`codexd.platform.pipes.splice` does.

        Raises:
            BlockingIOError, CannotSplice: as there.
            OSError: the file takes no more; :attr:`trouble` says why.
        """
        try:
            self._prepare()
            count = splice(pipe_fd, self._fd, max_bytes)
        except BlockingIOError:
            raise
        except OSError as error:
            self._note(error)
            raise
        self._size += count
        self.error = None
        return count

    def read_back(self, count: int, *, before_end: int | None = None) -> bytes:
        """Up to ``count`` bytes, from ``before_end`` bytes (default: ``count``) before the end."""
        start = max(self._size - (count if before_end is None else before_end), 0)
        try:
            return os.pread(self._fd, min(count, self._size - start), start)
        except OSError:
            return b""

    def flush(self) -> None:
        """Flush the present file to the device; may be called from another thread."""
        with contextlib.suppress(OSError):
            flush_to_device(self._fd)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _prepare(self) -> None:
        if time.monotonic() >= self._next_heal:
            self.heal()
        if self._fd < 0:
            raise OSError(errno.EIO, self.trouble or "The log is not open")
        if self._torn_at is not None:
            self._cut_torn_line(self._torn_at)

    def _cut_torn_line(self, torn_at: int) -> None:
        os.ftruncate(self._fd, torn_at)
        self._size = os.lseek(self._fd, torn_at, os.SEEK_SET)
        self._torn_at = None

    def _note(self, error: OSError) -> None:
        self.error = error

    # -- rotating ----------------------------------------------------------------------------

    def rotate(self) -> None:
        """Give the present file the name ``path.1`` and begin a new one.

        Where that fails, the present file goes on; it is tried again a second later.
        """
        if time.monotonic() < self._next_rotation:
            return
        self.heal()
        fresh = f"{self.path}.new"
        descriptor = -1
        try:
            # Made before an old file goes: two files that follow each other never share an
            # inode number, so a position always tells which of them it is in.
            descriptor = self._open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            self._shift_backups()
            os.rename(fresh, self.path)
        except OSError as error:
            self._note(error)
            self._next_rotation = time.monotonic() + _ROTATE_AGAIN_S
            if descriptor >= 0:
                os.close(descriptor)
            return
        self._adopt(descriptor)

    def _shift_backups(self) -> None:
        if not self._backups:
            return
        free = 1
        while self._is_taken(free) and free < self._backups:
            free += 1
        for number in range(free, 1, -1):
            os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")
        os.rename(self.path, f"{self.path}.1")

    def _is_taken(self, number: int) -> bool:
        path = f"{self.path}.{number}"
        # What is no file could not be moved, or written over.
        return set_aside_odd(path) is None and os.path.lexists(path)

    # -- healing -----------------------------------------------------------------------------

    def heal(self) -> None:
        """See that the file is still under its path; where it is not, make it anew.

        What was written to a file that someone deleted, since it was last seen to be there, is
        copied into the new one. Costs one stat(2); call it when nothing was written for a while.
        """
        self._next_heal = time.monotonic() + _HEAL_EVERY_S
        try:
            status = os.lstat(self.path)
        except OSError:
            self._reopen()
            return
        if self._fd < 0 or (status.st_ino, status.st_dev) != (self._inode, self._device):
            self._reopen()
        elif status.st_size != self._size:
            # Someone cut it, and writing on at the old offset would leave a hole; or another
            # writer was not yet gone.
            self._go_to_end()
        else:
            self._safe = self._size

    def _reopen(self) -> None:
        descriptor = -1
        try:
            make_private_directory(os.path.dirname(self.path) or ".")
            descriptor = self._open(self.path, os.O_RDWR | os.O_CREAT)
            self._rescue(descriptor)
        except OSError as error:
            self._note(error)
            if descriptor >= 0:
                os.close(descriptor)
            return
        self._adopt(descriptor)

    @staticmethod
    def _open(path: str, flags: int) -> int:
        return open_clearing(path, flags, if_error=(NotAFile, PermissionError))

    def _rescue(self, descriptor: int) -> None:
        if self._fd < 0 or os.fstat(self._fd).st_nlink > 0:
            # Nothing to rescue, or renamed by someone: then its bytes are where they put them.
            return
        begin = os.lseek(descriptor, 0, os.SEEK_END)
        end = self._size if self._torn_at is None else self._torn_at
        try:
            _copy(self._fd, self._safe, end, descriptor)
        except OSError:
            os.ftruncate(descriptor, begin)
            raise

    def _adopt(self, descriptor: int) -> None:
        self.close()
        self._fd = descriptor
        status = os.fstat(descriptor)
        self._inode, self._device = status.st_ino, status.st_dev
        self._go_to_end()

    def _go_to_end(self) -> None:
        self._size = self._safe = os.lseek(self._fd, 0, os.SEEK_END)
        self._torn_at = None
        self._ends_inside_line = self.read_back(1) not in (b"", b"\n")


def _copy(source: int, start: int, end: int, target: int) -> None:
    while start < end:
        piece = os.pread(source, min(_COPY_BYTES, end - start), start)
        if not piece:
            return
        start += len(piece)
        while piece:
            piece = piece[os.write(target, piece) :]
