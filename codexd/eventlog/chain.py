"""The files of one log, newest to oldest, while someone else rotates them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from codexd.platform.files import identity_of, open_to_read

# Rotations that come while the files are opened; more than one is a matter of tiny files.
_ATTEMPTS: Final = 100


@contextlib.contextmanager
def open_chain(path: str) -> Iterator[list[BinaryIO]]:
    """Every file of the log that can be read, newest first; closed at the end."""
    with contextlib.ExitStack() as stack:
        before = identity_of(path)
        files = _open_all(path, stack)
        for _ in range(_ATTEMPTS):
            now = identity_of(path)
            if now == before:
                break
            stack.pop_all().close()
            before, files = now, _open_all(path, stack)
        yield files


def inode(file: BinaryIO) -> int:
    """The inode number of an open file."""
    return os.fstat(file.fileno()).st_ino


def size(file: BinaryIO) -> int:
    """The size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def _open_all(path: str, stack: contextlib.ExitStack) -> list[BinaryIO]:
    # From the newest to the oldest, the way that a rotation moves names: a file may be met
    # twice, and is left out the second time, but none is missed.
    files: list[BinaryIO] = []
    seen: set[tuple[int, int]] = set()
    for candidate in _names(path):
        with contextlib.suppress(OSError):
            file = stack.enter_context(os.fdopen(open_to_read(candidate), "rb"))
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                files.append(file)
    return files


def _names(path: str) -> list[str]:
    directory, name = os.path.split(path)
    try:
        entries = os.listdir(directory or ".")
    except OSError:
        return [path]
    suffixes = [entry[len(name) + 1 :] for entry in entries if entry.startswith(f"{name}.")]
    numbers = {int(suffix) for suffix in suffixes if suffix.isascii() and suffix.isdigit()}
    # A rotation may be about to move each of them one up.
    moved = {number + 1 for number in numbers | {0}}
    return [path, *(f"{path}.{number}" for number in sorted(numbers | moved))]
