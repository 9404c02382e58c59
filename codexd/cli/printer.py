"""Two streams that may be one screen: what the agent says on stdout, notes on stderr."""

from __future__ import annotations

import sys
from typing import TextIO

from codexd.cli.called import as_called
from codexd.cli.streams import discard_stderr
from codexd.cli.terminal import clipped, columns, is_terminal, painter
from codexd.cli.transcript import Note, Said, Shown


class Unwritable(Exception):
    """Nothing more can be written to stdout; the text says why."""


class Printer:
    """Prints a turn. On a terminal the text comes as it is said; elsewhere only notes come here."""

    def __init__(self) -> None:
        self.streams_text = is_terminal(sys.stdout)
        self._is_shared = self.streams_text and is_terminal(sys.stderr)
        self._paint = painter(sys.stderr)
        self._is_in_line = False

    def show(self, shown: Shown) -> None:
        """A piece of a transcript."""
        if isinstance(shown, Note):
            self.note(shown)
        elif isinstance(shown, Said) and self.streams_text and shown.text:
            write(shown.text)
            self._is_in_line = not shown.text.endswith("\n")

    def note(self, note: Note) -> None:
        """A line about what happened, no longer than the terminal is wide."""
        text = clipped(note.text, columns()) if is_terminal(sys.stderr) else note.text
        self.say(self._paint(text, "red" if note.went_well is False else "cyan"))

    def tell(self, text: str) -> None:
        """A sentence of codexd's own."""
        shown = as_called(text) if is_terminal(sys.stderr) else text
        self.say(self._paint(f"codexd: {shown}", "dim"))

    def say(self, line: str) -> None:
        """A line on stderr, whatever stands on the screen."""
        if self._is_in_line and self._is_shared:
            write("\n")
            self._is_in_line = False
        try:
            _write(sys.stderr, _encoded(sys.stderr, line + "\n"))
        except OSError:
            # The turn is wanted more than what is told about it.
            discard_stderr()

    def end_line(self) -> None:
        """What is said next begins on a line of its own."""
        if self._is_in_line:
            write("\n")
            self._is_in_line = False


def write(text: str) -> None:
    """As :func:`write_bytes`, in whatever encoding stdout has."""
    write_bytes(_encoded(sys.stdout, text))


def write_bytes(data: bytes) -> None:
    """Write to stdout at once.

    Raises:
        Unwritable: it takes nothing any more.
    """
    try:
        _write(sys.stdout, data)
    except BrokenPipeError as error:
        raise Unwritable("nobody reads what the agent says") from error
    except OSError as error:
        raise Unwritable(f"the output cannot be written ({error.strerror})") from error


def _encoded(stream: TextIO, text: str) -> bytes:
    return text.encode(stream.encoding or "utf-8", "replace")


def _write(stream: TextIO, data: bytes) -> None:
    stream.buffer.write(data)
    stream.buffer.flush()
