"""The view on a terminal: sleeps until something comes, and draws what has changed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleDimensions
from rich.control import Control
from rich.text import Text

from codexd.cli.top.drawing import Canvas, draw
from codexd.cli.top.feed import Feed
from codexd.cli.top.keys import Keys
from codexd.cli.top.model import Model
from codexd.cli.top.shown import Fed
from codexd.cli.top.tty import ENDS, Terminal, TerminalGone, obey, signals_to
from codexd.config import Config

# The clock goes on, also while nobody answers.
_TICK_S: Final = 1.0
# A burst of events is drawn so often; what is pressed, at once.
_AT_MOST_EVERY_S: Final = 0.5
# After which an Escape was one, and not the beginning of an arrow.
_ESCAPE_S: Final = 0.05


class Screen:
    """One run of the view, on stdin and stdout. ``place`` names the daemon."""

    def __init__(self, config: Config, place: str) -> None:
        self._model = Model(place)
        self._keys = Keys()
        self._terminal = Terminal(sys.stdin.fileno())
        # Its own idea of the size would be that of COLUMNS and LINES, which do not change.
        self._console = Console(
            file=sys.stdout, force_terminal=True, highlight=False, markup=False, emoji=False
        )
        self._ascii_only = self._console.options.ascii_only
        self._lines: list[Text] = []
        self._drawn_at = 0.0
        self._fed: deque[Fed] = deque()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._feed = Feed(config, self._tell)

    def run(self) -> None:
        """Until it is quit."""
        with contextlib.suppress(UnicodeError, ValueError):
            # What an odd locale cannot show is a question mark, and no end.
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        end: signal.Signals | None = None
        with signals_to(self._wake_writer):
            try:
                self._enter()
                self._feed.start()
                end = self._loop()
            except TerminalGone:
                end = signal.SIGHUP
            finally:
                self._leave()
        if end is signal.SIGINT:
            raise KeyboardInterrupt
        if end is not None:
            obey(end)

    # -- the terminal --------------------------------------------------------------------------

    def _enter(self) -> None:
        self._terminal.enter()
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        self._lines = []

    def _leave(self) -> None:
        try:
            # A terminal that was hung up takes nothing more.
            with contextlib.suppress(OSError):
                self._console.show_cursor(True)
                self._console.set_alt_screen(False)
        finally:
            self._terminal.leave()

    # -- what comes ----------------------------------------------------------------------------

    def _tell(self, fed: Fed) -> None:
        """From another thread."""
        self._fed.append(fed)
        # A full pipe wakes as well as one more byte.
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"\0")

    def _loop(self) -> signal.Signals | None:
        """Returns the signal that ended it, or None where the user did."""
        self._draw()
        is_stale = False
        while True:
            keys, signals = self._wait(_AT_MOST_EVERY_S if is_stale else _TICK_S)
            for number in signals:
                if number in ENDS:
                    return number
                self._obey(number)
            if any([self._press(key) for key in keys]):
                return None
            is_stale = self._hear() or is_stale
            thread_id = self._model.thread_to_read(time.monotonic())
            if thread_id is not None:
                self._feed.look(thread_id)
            pause = _AT_MOST_EVERY_S if is_stale else _TICK_S
            if keys or signals or time.monotonic() - self._drawn_at >= pause:
                self._draw()
                is_stale = False

    def _wait(self, pause: float) -> tuple[list[str], list[signal.Signals]]:
        """Until something comes, or it is time to draw: ``pause`` seconds after the last time."""
        rest = max(self._drawn_at + pause - time.monotonic(), 0.0)
        timeout = min(rest, _ESCAPE_S) if self._keys.waits else rest
        keyboard = sys.stdin.fileno()
        readable, _, _ = select.select([keyboard, self._wake_reader], [], [], timeout)
        signals = list(self._signals()) if self._wake_reader in readable else []
        if keyboard not in readable:
            return [] if readable else self._keys.flush(), signals
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(keyboard, 1024)
        if not data:
            # The terminal is gone, and nobody will ever press a key.
            signals.append(signal.SIGHUP)
        return self._keys.feed(data), signals

    def _signals(self) -> Iterator[signal.Signals]:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._wake_reader, 4096):
                yield from (signal.Signals(number) for number in data if number)

    def _obey(self, number: signal.Signals) -> None:
        if number is signal.SIGTSTP:
            self._leave()
            obey(number)
        if number in (signal.SIGTSTP, signal.SIGCONT):
            # Whoever had the terminal meanwhile has it otherwise.
            self._enter()
        self._lines = []

    def _hear(self) -> bool:
        """Whether there was something."""
        was_fed = bool(self._fed)
        while self._fed:
            self._model.hear(self._fed.popleft(), time.monotonic())
        return was_fed

    def _press(self, key: str) -> bool:
        """Whether it is over."""
        effect = self._model.press(key, time.monotonic())
        if effect == "restart":
            self._feed.restart()
        return effect == "quit"

    # -- drawing -------------------------------------------------------------------------------

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        width, height = self._terminal.size()
        now = datetime.now(UTC)
        canvas = Canvas(width, height, now, self._drawn_at, ascii_only=self._ascii_only)
        frame = draw(self._model, canvas)
        if self._model.look is not None:
            self._model.look.fit(frame.most, frame.page)
        console = self._console
        console.size = ConsoleDimensions(width, height)
        is_new = len(self._lines) != len(frame.lines)
        with console:
            if is_new:
                console.control(Control.clear(), Control.home())
            for number, line in enumerate(frame.lines):
                if is_new or self._lines[number] != line:
                    console.control(Control.move_to(0, number))
                    console.print(line, end="", no_wrap=True, overflow="crop")
        self._lines = frame.lines
