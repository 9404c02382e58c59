"""Writing to an stdout whose reader may leave at any time."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO

from codexd.cli.called import as_called


@contextlib.contextmanager
def writing_to(out: BinaryIO) -> Iterator[BinaryIO]:
    """End quietly when nobody reads ``out`` any more."""
    try:
        yield out
        out.flush()
    except BrokenPipeError:
        _discard(out.fileno())


def discard_stdout() -> None:
    """Nobody takes what is printed: at exit Python would try, and complain, once more."""
    _discard(1)


def discard_stderr() -> None:
    """As :func:`discard_stdout`."""
    _discard(2)


def _discard(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def tell(text: str) -> None:
    """A sentence of codexd's own on stderr; what it is about goes on where that takes nothing."""
    line = f"codexd: {as_called(text) if sys.stderr.isatty() else text}\n"
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:
        # The log of a daemon, on a full disk, takes it later.
        if not stat.S_ISREG(os.fstat(2).st_mode):
            discard_stderr()


def open_what_is_closed() -> None:
    """Where a shell closed stdin, stdout or stderr (``>&-``), let /dev/null be in its place.

    The next file that is opened would be taken for it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno == errno.EBADF:
                # The lowest number that is free is this one.
                os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def show_what_has_no_letters(stream: TextIO) -> None:
    """A title may be in letters that ``stream``'s encoding has not: they are spelt out."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def tell_if_nothing_is(path: str) -> None:
    """Say once that nothing is at ``path`` yet, for those who wait for what comes."""
    if not os.path.exists(path):
        print(f"codexd: there is no {path} yet; waiting for it", file=sys.stderr)


def reader_is_gone(out: BinaryIO) -> Callable[[], bool]:
    """A check for a pipe whose other end was closed, for those who have nothing to write."""
    poll = select.poll()
    # Asked for nothing, macOS does not tell of a hang-up either.
    poll.register(out.fileno(), select.POLLOUT)
    return lambda: any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
