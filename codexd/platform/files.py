"""Files for this user alone, flushed as far as the system lets them be, and bad ones kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from datetime import UTC, datetime
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700


def make_private_directory(path: str) -> None:
    """Make ``path`` and what is missing above it, each for this user alone.

    Raises:
        OSError: it cannot be made.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_private_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE_DIRECTORY)


def flush_to_device(descriptor: int) -> None:
    """fsync(2), and on macOS what it takes there for the device to write, too (fcntl(2)).

    Raises:
        OSError: the data may not be on the device.
    """
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def flush_directory(path: str) -> None:
    """Flush the names in a directory, so that a rename survives a power cut.

    Raises:
        OSError: the directory cannot be opened or flushed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: str) -> str | None:
    """Rename what is at ``path`` to ``path.bad-YYYYMMDDTHHMMSSZ[-n]``.

    Returns:
        The new path, or None where it cannot be renamed.
    """
    aside = _free_aside_path(path)
    try:
        os.rename(path, aside)
    except OSError:
        return None
    return aside


def keep_copy_aside(path: str) -> str | None:
    """Give the file at ``path`` a second name as :func:`set_aside` would, and leave it there.

    For a file that is about to be replaced by its repaired self: at no moment is it missing.

    Returns:
        The second path, or None where there can be none.
    """
    aside = _free_aside_path(path)
    try:
        os.link(path, aside)
    except OSError:
        return set_aside(path)
    return aside


def _free_aside_path(path: str) -> str:
    stem = f"{path}.bad-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    candidate, number = stem, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = f"{stem}-{number}"
    return candidate
