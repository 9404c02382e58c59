"""Reading an output log: its last lines, and what is still to come."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO, Final, NamedTuple

from codexd.eventlog.chain import inode, open_chain, size
from codexd.eventlog.lines import line_starts_backward

_POLL_S: Final = 0.05
_BLOCK: Final = 1 << 18


class Place(NamedTuple):
    """A place in a log: the offset ``end`` of the file that has the number ``inode``."""

    inode: int
    end: int


def read_bytes(
    path: str,
    *,
    lines: int | None = None,
    after: Place | None = None,
    stop: Callable[[], bool] = lambda: True,
    poll_s: float = _POLL_S,
) -> Iterator[bytes]:
    """The bytes of the log at ``path`` and its rotated files, oldest first.

    ``after``: only what follows that place, from the beginning of its line. ``lines``: only so
    many last lines. Goes on with what comes, through rotation and deletion, until ``stop()`` is
    true; what was written around the moment of a deletion may come twice.
    """
    for _, piece in read_logs([(path, after)], lines=lines, stop=stop, poll_s=poll_s):
        yield piece


def read_logs(
    logs: Sequence[tuple[str, Place | None]],
    *,
    lines: int | None = None,
    stop: Callable[[], bool] = lambda: True,
    poll_s: float = _POLL_S,
) -> Iterator[tuple[int, bytes]]:
    """As :func:`read_bytes`, of several logs: each piece with the number of the log it is from."""
    tails = [_Tail() for _ in logs]
    try:
        for number, (tail, (path, after)) in enumerate(zip(tails, logs, strict=True)):
            for piece in tail.begin(path, lines, after):
                yield number, piece
        while not stop():
            time.sleep(poll_s)
            for number, (tail, (path, _)) in enumerate(zip(tails, logs, strict=True)):
                for piece in tail.grown(path):
                    yield number, piece
    finally:
        for tail in tails:
            tail.close()


def read_end(path: str, lines: int, max_bytes: int) -> tuple[bytes, bool]:
    """The last ``lines`` lines of the log at ``path`` and its rotated files.

    Never more than ``max_bytes``; the second value tells whether lines are left out for that. The
    first line is a whole one then, unless it alone is too long.
    """
    # One byte more: whether anything is left out, and whether what follows begins a line.
    data, left = b"", max_bytes + 1
    with open_chain(path) as files:
        for file in files:
            end = size(file)
            start = max(end - left, 0)
            data = os.pread(file.fileno(), end - start, start) + data
            left = max_bytes + 1 - len(data)
            if left <= 0:
                break
    begin = _start_of_last(data, lines)
    if begin or len(data) <= max_bytes:
        return data[begin:], False
    begin = data.find(b"\n") + 1
    return data[begin:] if 0 < begin < len(data) else data[-max_bytes:], True


def _start_of_last(data: bytes, lines: int) -> int:
    """Where the last ``lines`` lines begin; 0 where there are no more than these."""
    if not lines:
        return len(data)
    begin = len(data) - data.endswith(b"\n")
    for _ in range(lines):
        begin = data.rfind(b"\n", 0, max(begin, 0))
        if begin < 0:
            break
    return begin + 1


class _Tail:
    """The newest file of a log that is read as it grows."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._offset = 0

    def begin(self, path: str, lines: int | None, after: Place | None) -> Iterator[bytes]:
        """What is there now, from the last ``lines`` lines on, and none before ``after``."""
        with open_chain(path) as files:
            wanted, start = _start_of(files, lines)
            if after is not None:
                wanted, start = _later((wanted, start), _start_after(files, after))
            yield from self._through(wanted, start)

    def grown(self, path: str) -> Iterator[bytes]:
        """What came since, through any number of rotations."""
        if self._file is not None and _is_at(path, self._file, self._offset):
            yield from self._rest()
            return
        with open_chain(path) as files:
            # Once the path names another file, nobody writes to this one any more.
            yield from self._rest()
            yield from self._through(_newer_than(files, self._file), 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _through(self, files: list[BinaryIO], start: int) -> Iterator[bytes]:
        for file in files:
            self.close()
            self._file, self._offset = os.fdopen(os.dup(file.fileno()), "rb"), start
            start = 0
            yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        if self._file is None:
            return
        while piece := os.pread(self._file.fileno(), _BLOCK, self._offset):
            self._offset += len(piece)
            yield piece


def _start_of(files: list[BinaryIO], lines: int | None) -> tuple[list[BinaryIO], int]:
    """Where the last ``lines`` lines of ``files`` (newest first) begin: files in order, offset."""
    if lines is None:
        return files[::-1], 0
    if lines == 0 or not files:
        return files[:1], size(files[0]) if files else 0
    for count, file in enumerate(files, start=1):
        starts = list(islice(line_starts_backward(file, size(file)), lines))
        if starts[-1:] == [0] and not _begins_a_line(files[count:]):
            # A rotation may come in the middle of a line, which then begins in the older file.
            starts.pop()
        if len(starts) == lines:
            return files[:count][::-1], starts[-1]
        lines -= len(starts)
    return files[::-1], 0


def _start_after(files: list[BinaryIO], after: Place) -> tuple[list[BinaryIO], int]:
    """Where the line begins that ``after`` is in; with its file gone, all there is comes later."""
    at = next((n for n, file in enumerate(files) if inode(file) == after.inode), None)
    if at is None or after.end > size(files[at]):
        return files[::-1], 0
    end = after.end
    if end and os.pread(files[at].fileno(), 1, end - 1) == b"\n":
        return files[: at + 1][::-1], end
    start = next(line_starts_backward(files[at], end), 0)
    while start == 0 and not _begins_a_line(files[at + 1 :]):
        at += 1
        start = next(line_starts_backward(files[at], size(files[at])), 0)
    return files[: at + 1][::-1], start


def _later(
    one: tuple[list[BinaryIO], int], other: tuple[list[BinaryIO], int]
) -> tuple[list[BinaryIO], int]:
    """Of two beginnings the one with less behind it."""

    def behind(begin: tuple[list[BinaryIO], int]) -> int:
        return sum(size(file) for file in begin[0]) - begin[1]

    return min(one, other, key=behind)


def _begins_a_line(older: list[BinaryIO]) -> bool:
    """Whether what follows ``older`` files, the newest of them first, begins a line."""
    # One that is empty tells nothing: it may lie in the middle of a line, too.
    last = next((file for file in older if size(file)), None)
    return last is None or os.pread(last.fileno(), 1, size(last) - 1) == b"\n"


def _is_at(path: str, file: BinaryIO, offset: int) -> bool:
    """Whether ``path`` still names ``file``; a path that names nothing is about to name it."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return os.path.samestat(status, os.fstat(file.fileno())) and status.st_size >= offset
    return True


def _newer_than(files: list[BinaryIO], file: BinaryIO | None) -> list[BinaryIO]:
    """Of ``files``, newest first, those that came after ``file``: oldest first."""
    if file is None:
        return files[::-1]
    known = os.fstat(file.fileno())
    newer: list[BinaryIO] = []
    for candidate in files:
        status = os.fstat(candidate.fileno())
        # Where `file` is gone from the log, an older one is told by when it was last written.
        if os.path.samestat(status, known) or (newer and status.st_mtime_ns < known.st_mtime_ns):
            break
        newer.append(candidate)
    return newer[::-1]
