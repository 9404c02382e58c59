"""Lines of a file that may grow: forwards from anywhere, backwards from the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Final

_BLOCK: Final = 1 << 16
_SEARCH_BLOCK: Final = 1 << 20
# A longer line is no event; it is passed over without being held in memory.
MAX_LINE: Final = 16 << 20


def line_starts_backward(file: BinaryIO, end: int) -> Iterator[int]:
    """Offsets at which the lines of ``file[:end]`` begin, the last line first.

    ``end`` is just after a newline, or the end of a line that has none.
    """
    block_end = end
    # The newline that ends the last line begins no other.
    searched = end - 1
    while block_end > 0:
        block_start = max(block_end - _BLOCK, 0)
        block = os.pread(file.fileno(), block_end - block_start, block_start)
        found = block.rfind(b"\n", 0, max(searched - block_start, 0))
        while found >= 0:
            yield block_start + found + 1
            found = block.rfind(b"\n", 0, found)
        block_end = searched = block_start
    if end > 0:
        yield 0


def lines_backward(file: BinaryIO, end: int) -> Iterator[bytes]:
    """The lines of ``file[:end]`` with their newlines, the last first, without too long ones."""
    line_end = end
    for start in line_starts_backward(file, end):
        if line_end - start <= MAX_LINE:
            yield os.pread(file.fileno(), line_end - start, start)
        line_end = start


def lines_with(file: BinaryIO, marker: bytes) -> Iterator[bytes]:
    """The whole lines that hold ``marker``, the last first, found without looking at each line.

    Each block is read once, however many of its lines hold the marker, which has no newline.
    """
    end = size = os.fstat(file.fileno()).st_size
    while end > 0:
        start = max(end - _SEARCH_BLOCK, 0)
        # A marker may begin in this block and end in the one before it was searched.
        count = min(end - start + len(marker) - 1, size - start)
        block, end = os.pread(file.fileno(), count, start), start
        found = block.rfind(marker)
        while found >= 0:
            begin = block.rfind(b"\n", 0, found) + 1
            line_end = block.find(b"\n", found)
            if begin > 0 and line_end >= 0:
                yield block[begin:line_end]
            else:
                line_start = next(line_starts_backward(file, start + found + 1))
                line = _line_at(file, line_start)
                if line is not None:
                    yield line
                # One that begins in an earlier block: that is searched up to there.
                end = min(end, line_start)
            found = block.rfind(marker, 0, begin)


def _line_at(file: BinaryIO, start: int) -> bytes | None:
    """The line that begins at ``start`` without its newline; None if it is cut or too long."""
    line = b""
    while len(line) <= MAX_LINE:
        block = os.pread(file.fileno(), _BLOCK, start + len(line))
        head, newline, _ = block.partition(b"\n")
        line += head
        if newline:
            return line
        if not block:
            return None
    return None


def lines_forward(file: BinaryIO, start: int) -> Iterator[tuple[bytes, int]]:
    """The whole lines from offset ``start`` to the end as it is now.

    Each without its newline, and with the offset after it. Reads past Python's buffer: what
    follows the last newline may be replaced before it becomes a line.
    """
    offset, rest = start, b""
    while block := os.pread(file.fileno(), _BLOCK, offset + len(rest)):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            offset += len(line) + 1
            yield line, offset
        if len(rest) > MAX_LINE:
            offset, rest = offset + len(rest), b""
