"""Who gives leave to a turn that was started from the command line."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from collections.abc import Callable
from typing import NamedTuple, Protocol

from codexd.cli.approval_text import details, gist
from codexd.cli.called import as_called
from codexd.cli.terminal import is_terminal, painter
from codexd.shapes import Approval

_TICK_S = 0.2
# How long a look at whether it still waits may be old.
_LOOK_EVERY = 3

_KEYS = {"y": "accept", "a": "acceptForSession", "n": "decline", "c": "cancel"}
_MEANING = {
    "accept": "yes",
    "acceptForSession": "always in this session",
    "decline": "no",
    "cancel": "no, and end the turn",
}
# What shows of a long diff; `codexd approvals show` has all of it.
_MAX_LINES = 40


class Verdict(NamedTuple):
    """A word; None where somebody else decides, or has decided.

    ``is_nobodys`` tells that it was declined because nobody was there.
    """

    word: str | None
    is_nobodys: bool = False


class Desk(Protocol):
    """Decides what may be done."""

    def decide(self, approval: Approval, still_waits: Callable[[], bool]) -> Verdict:
        """What is to be answered."""


class AnswerAll:
    """The same for all."""

    def __init__(self, decision: str, *, is_nobodys: bool = False) -> None:
        self._decision = decision
        self._is_nobodys = is_nobodys

    def decide(self, approval: Approval, still_waits: Callable[[], bool]) -> Verdict:
        """The decision, or what the kind has in its place."""
        del still_waits
        # What has no yes (a question, a tool of the client's) is declined.
        word = self._decision if self._decision in approval.decisions else _refusal(approval)
        return Verdict(word, self._is_nobodys)


class LeaveToOthers:
    """The daemon has a command that tells somebody, or decides."""

    def decide(self, approval: Approval, still_waits: Callable[[], bool]) -> Verdict:
        """Nothing, ever."""
        del approval, still_waits
        return Verdict(None)


class AskOnTerminal:
    """Asks whoever sits at the terminal ``tty`` (a descriptor to read), by way of stderr.

    ``stopped()`` tells that nobody wants to decide any more.
    """

    def __init__(
        self,
        tty: int,
        say: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._tty = tty
        self._say = say
        self._stopped = stopped
        self._typed = b""

    def decide(self, approval: Approval, still_waits: Callable[[], bool]) -> Verdict:
        """What was answered, if anything was."""
        for line in _cut(list(details(approval, painter(sys.stderr))), approval):
            self._say(line)
        # What was typed before it was asked is no answer to it.
        self._typed = b""
        with contextlib.suppress(termios.error):
            termios.tcflush(self._tty, termios.TCIFLUSH)
        keys = {key: word for key, word in _KEYS.items() if word in approval.decisions}
        if not keys:
            self._say(
                "codexd: that is of a kind which can be answered over the protocol only; the turn "
                "waits until a client does"
            )
            return Verdict(None)
        asked = ", ".join(f"[{key}] {_MEANING[word]}" for key, word in keys.items())
        while True:
            self._prompt(f"{asked}: ")
            answer = self._line(still_waits)
            if answer is None:
                return Verdict(None)
            if answer == "":
                self._say("")
                return Verdict(_refusal(approval), is_nobodys=True)
            word = keys.get(answer.strip().lower()[:1])
            if word is not None:
                return Verdict(word)

    def _prompt(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def _line(self, still_waits: Callable[[], bool]) -> str | None:
        """A line; "" at the end of input; None where it is not to be answered any more."""
        ticks = 0
        while b"\n" not in self._typed:
            if self._stopped():
                self._say("")
                return None
            ticks += 1
            if ticks % _LOOK_EVERY == 0 and not still_waits():
                self._say("")
                self._say("codexd: that is not asked any more")
                return None
            if select.select([self._tty], [], [], _TICK_S)[0]:
                data = b""
                # A terminal that was hung up is as one that has ended.
                with contextlib.suppress(OSError):
                    data = os.read(self._tty, 1024)
                if not data:
                    return ""
                self._typed += data
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace") + "\n"


def open_terminal(*, reads_stdin: bool) -> int | None:
    """What the answers of whoever sits there are read from; None where nobody does.

    Where stdin is read for something else (``reads_stdin``), it is the controlling terminal.
    """
    if not is_terminal(sys.stderr):
        return None
    if not reads_stdin:
        return 0 if sys.stdin is not None and is_terminal(sys.stdin) else None
    try:
        return os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def declined_for_nobody(approval: Approval) -> str:
    """What is said of it."""
    return f"codexd: declined, for nobody is here to give leave: {gist(approval)}"


def _refusal(approval: Approval) -> str | None:
    return next((word for word in ("decline", "cancel") if word in approval.decisions), None)


def _cut(lines: list[str], approval: Approval) -> list[str]:
    if len(lines) <= _MAX_LINES:
        return lines
    left = len(lines) - _MAX_LINES
    more = as_called(f"  … {left} lines more: `codexd approvals show {approval.approval_id}`")
    return [*lines[:_MAX_LINES], more]
