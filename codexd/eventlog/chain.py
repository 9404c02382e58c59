"""The files of one log, oldest to newest, while someone else rotates them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


def chain_paths(path: str) -> list[str]:
    """``path`` and its rotated files as they are named now, newest first."""
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory or ".")
    except OSError:
        return [path]
    suffixes = [entry[len(name) + 1 :] for entry in names if entry.startswith(f"{name}.")]
    numbers = [int(suffix) for suffix in suffixes if suffix.isascii() and suffix.isdigit()]
    # One more than there are: a rotation may be about to make it.
    return [path, *(f"{path}.{number}" for number in range(1, max(numbers, default=0) + 2))]


@contextlib.contextmanager
def open_chain(path: str) -> Iterator[list[BinaryIO]]:
    """Every file of the log that can be read, newest first; closed at the end.

    Opened from the newest to the oldest, the way that a rotation moves names: a file may be met
    twice (and is then left out the second time), but is never missed.
    """
    files: list[BinaryIO] = []
    with contextlib.ExitStack() as stack:
        seen: set[tuple[int, int]] = set()
        for candidate in chain_paths(path):
            with contextlib.suppress(OSError):
                file = open(candidate, "rb")  # noqa: SIM115
                stack.callback(file.close)
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    files.append(file)
        yield files


def inode(file: BinaryIO) -> int:
    """The inode number of an open file."""
    return os.fstat(file.fileno()).st_ino


def size(file: BinaryIO) -> int:
    """The size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size
