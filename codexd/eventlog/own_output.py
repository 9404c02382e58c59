"""What the daemon itself prints, where that goes into a log of its own: it has an end, too."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterable
from typing import Final

from codexd.platform.files import open_to_read, write_aside

_MAX_BYTES: Final = 4 << 20
_STDOUT: Final = 1
_STDERR: Final = 2


def bound_own_output(paths: Callable[[], Iterable[str]], *, max_bytes: int = _MAX_BYTES) -> None:
    """Where stdout or stderr is one of ``paths()`` and too long, move its end to ``PATH.1``.

    Whoever opened it (launchd, `codexd start --detach`) holds it open for as long as the daemon
    lives, so it is emptied and not renamed. One that is not opened for appending is left alone:
    emptied, it would get a hole.
    """
    for descriptor in (_STDOUT, _STDERR):
        try:
            _bound(descriptor, paths, max_bytes)
        except OSError:
            # A full disk takes no copy; it takes no more output either.
            continue


def _bound(descriptor: int, paths: Callable[[], Iterable[str]], max_bytes: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= max_bytes:
        return
    path = next((path for path in paths() if _is_at(path, status)), None)
    if path is None or not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
        return
    with open(open_to_read(path), "rb") as file:
        # All of it, unless there came a flood since the last look.
        file.seek(max(status.st_size - 2 * max_bytes, 0))
        write_aside(f"{path}.1", file.read(), flush=False)
    os.ftruncate(descriptor, 0)


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), status)
    except OSError:
        return False
