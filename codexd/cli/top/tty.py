"""The terminal as the view needs it, and as it was before; signals as bytes on a pipe."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import termios
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

# A terminal of which nobody knows the size (a serial line).
_USUAL: Final = (80, 24)
_LFLAG, _IFLAG, _CC = 3, 0, 6


class TerminalGone(Exception):
    """Nobody is at the terminal any more."""


class Terminal:
    """Keys one by one and not echoed, between :meth:`enter` and :meth:`leave`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None

    def enter(self) -> None:
        """Also again, after somebody else has had the terminal.

        Raises:
            TerminalGone: it was hung up, or the shell that had it is gone.
        """
        try:
            self._enter()
        except termios.error as error:
            raise TerminalGone from error

    def _enter(self) -> None:
        before = termios.tcgetattr(self._descriptor)
        self._before = before if self._before is None else self._before
        mode = [*before[:_CC], list(before[_CC])]
        # Signals of the keyboard stay. Ctrl-S would stop all that is drawn.
        mode[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        mode[_IFLAG] &= ~(termios.IXON | termios.ICRNL)
        mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
        self._set(mode)

    def leave(self) -> None:
        """As it was. A terminal that is gone needs nothing."""
        before, self._before = self._before, None
        if before is not None:
            with contextlib.suppress(termios.error):
                self._set(before)

    def _set(self, mode: list[Any]) -> None:
        while True:
            try:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)
            except termios.error as error:
                # In the background it stops, and is continued when it may.
                if error.args[0] == errno.EINTR:
                    continue
                raise
            return

    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        try:
            columns, lines = os.get_terminal_size(self._descriptor)
        except OSError:
            return _USUAL
        return (columns, lines) if columns and lines else _USUAL


# Those that end it, and then those that do not.
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OTHERS: Final = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


@contextlib.contextmanager
def signals_to(descriptor: int) -> Iterator[None]:
    """Write the number of each signal to a pipe that does not block, instead of obeying it.

    The second of those that end a program is obeyed: it may be blocked by a terminal that takes
    nothing. One that was ignored stays so (nohup).
    """
    handled = [one for one in (*ENDS, *_OTHERS) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, _noted(one)) for one in handled}
    woken = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for one, handler in before.items():
            signal.signal(one, handler)


def _noted(number: signal.Signals) -> Callable[[int, FrameType | None], None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        if number in ENDS:
            signal.signal(number, signal.SIG_DFL)

    return handle


def obey(number: signal.Signals) -> None:
    """Let a signal do to this process what it would have done; returns where it only stops."""
    before = signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.signal(number, before)
