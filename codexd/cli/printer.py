"""Two streams that may be one screen: what the agent says on stdout, notes on stderr."""

from __future__ import annotations

import sys
from typing import TextIO

from codexd.cli.terminal import clipped, columns, is_terminal, painter
from codexd.cli.transcript import Note, Said, Shown


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
            write(sys.stdout, shown.text)
            self._is_in_line = not shown.text.endswith("\n")

    def note(self, note: Note) -> None:
        """A line about what happened, no longer than the terminal is wide."""
        text = clipped(note.text, columns()) if is_terminal(sys.stderr) else note.text
        self.say(self._paint(text, "red" if note.went_well is False else "cyan"))

    def tell(self, text: str) -> None:
        """A sentence of codexd's own."""
        self.say(self._paint(f"codexd: {text}", "dim"))

    def say(self, line: str) -> None:
        """A line on stderr, whatever stands on the screen."""
        if self._is_in_line and self._is_shared:
            write(sys.stdout, "\n")
            self._is_in_line = False
        write(sys.stderr, line + "\n")

    def end_line(self) -> None:
        """What is said next begins on a line of its own."""
        if self._is_in_line:
            write(sys.stdout, "\n")
            self._is_in_line = False


def write(stream: TextIO, text: str) -> None:
    """Write at once, in whatever encoding the stream has."""
    stream.buffer.write(text.encode(stream.encoding or "utf-8", "replace"))
    stream.buffer.flush()
