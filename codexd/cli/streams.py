"""Writing to an stdout whose reader may leave at any time."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from typing import BinaryIO


@contextlib.contextmanager
def writing_to(out: BinaryIO) -> Iterator[BinaryIO]:
    """End quietly when nobody reads ``out`` any more."""
    try:
        yield out
        out.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and would complain there.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def reader_is_gone(out: BinaryIO) -> Callable[[], bool]:
    """A check for a pipe whose other end was closed, for those who have nothing to write."""
    poll = select.poll()
    poll.register(out.fileno(), 0)
    return lambda: any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
