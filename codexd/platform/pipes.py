"""Moving bytes from a pipe to a file, and how much a pipe holds.

Linux moves them inside the kernel (splice(2)): there is no moment at which a byte has left the
pipe and is not yet in the file, so a kill between the two loses nothing. macOS has no such call.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import termios


class CannotSplice(Exception):
    """This system, or this file's file system, cannot splice: read and write instead."""


def splice(pipe_fd: int, file_fd: int, max_bytes: int) -> int:
    """Move up to ``max_bytes`` from the pipe to the file's present position; never wait.

    The file must not be open with O_APPEND, which splice(2) refuses.

    Returns:
        How many bytes were moved; 0 once the pipe has no writer left and is empty.

    Raises:
        BlockingIOError: the pipe is empty.
        CannotSplice: not here.
        OSError: the file takes no more; what it did not take is still in the pipe.
    """
    if sys.platform != "linux":
        raise CannotSplice
    try:
        return os.splice(pipe_fd, file_fd, max_bytes, flags=os.SPLICE_F_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise CannotSplice from error
        raise


def set_pipe_capacity(pipe_fd: int, wanted: int) -> int:
    """Let the pipe hold ``wanted`` bytes where the system allows it.

    Returns:
        How many bytes it holds now; 0 where nobody can tell. A named pipe of macOS holds 8 KiB,
        always; only its unnamed ones grow.
    """
    if sys.platform != "linux":
        return 0
    try:
        return fcntl.fcntl(pipe_fd, fcntl.F_SETPIPE_SZ, wanted)
    except PermissionError:
        # Past /proc/sys/fs/pipe-user-pages-soft a user's pipes stay as they are.
        return fcntl.fcntl(pipe_fd, fcntl.F_GETPIPE_SZ)


def unread_bytes(pipe_fd: int) -> int:
    """How many bytes the pipe holds (FIONREAD).

    The descriptor is to be open for reading only: of one that is open for both, macOS would tell
    of the other direction (xnu, fifo_ioctl).
    """
    answer = fcntl.ioctl(pipe_fd, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
