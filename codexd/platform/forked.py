"""Making a text in a process of its own, so that what that takes is not kept in this one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

_MADE: Final = b"+"
_REFUSED: Final = b"-"


class ForkedText:
    """The text that ``make()`` gives, made from now on beside this process.

    Call it while this process has one thread: the other has no more. ``make()`` may raise a
    ValueError, whose text is for the user. Where there is no other process to be had, or it dies,
    the text is made here.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._pid = 0
        self._source = -1
        with contextlib.suppress(OSError):
            self._begin()

    def _begin(self) -> None:
        self._source, sink = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(sink)
            raise
        if pid == 0:
            # Held here, too, it would keep this end from seeing that nobody listens any more.
            os.close(self._source)
            _be_the_other(self._make, sink)
        self._pid = pid
        os.close(sink)

    def result(self) -> str:
        """The text, once it is made.

        Raises:
            ValueError: as ``make()`` raised it.
        """
        told = self._read()
        if told[:1] == _MADE:
            return os.fsdecode(told[1:])
        if told[:1] == _REFUSED:
            raise ValueError(os.fsdecode(told[1:]))
        return self._make()

    def _read(self) -> bytes:
        if not self._pid:
            return b""
        with open(self._source, "rb", closefd=False) as file:
            told = file.read()
        # One that was killed may have said half of it.
        return told if self.close() == 0 else b""

    def close(self) -> int | None:
        """Let go of the other process, and wait for its end; its exit code, if it was there."""
        if self._source >= 0:
            os.close(self._source)
            self._source = -1
        pid, self._pid = self._pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None


def _be_the_other(make: Callable[[], str], sink: int) -> None:
    code = 1
    try:
        with open(sink, "wb") as file:
            try:
                told = _MADE + os.fsencode(make())
            except ValueError as error:
                told = _REFUSED + os.fsencode(str(error))
            file.write(told)
        code = 0
    finally:
        # Nothing of what the other process has begun is to be ended, or written, twice.
        os._exit(code)
