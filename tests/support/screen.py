"""A terminal program in a tmux of its own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import eventually

_ENTERS = 4


class Screen:
    """One program on one screen, of 100 by 40 where nothing else is said."""

    def __init__(self, socket: Path, columns: int = 100, rows: int = 40) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self._size = (columns, rows)

    def start(
        self,
        command: list[str],
        env: dict[str, str],
        cwd: Path,
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Run ``command``; the screen stays when it ends."""
        columns, lines = map(str, size or self._size)
        self._run(
            "new-session",
            "-d",
            "-x",
            columns,
            "-y",
            lines,
            "-c",
            str(cwd),
            "-s",
            "s",
            "sleep 600",
            env=env,
        )
        self._run("set-option", "-g", "remain-on-exit", "on")
        self._run("respawn-pane", "-k", "-c", str(cwd), "-t", "s", *command)

    def text(self) -> str:
        """What is on the screen."""
        return self._run("capture-pane", "-p", "-t", "s").stdout

    def shows(self, text: str, within_s: float = 30.0) -> str:
        """The screen once ``text`` is on it."""

        def look() -> str | None:
            screen = self.text()
            return screen if text in screen else None

        try:
            return eventually(look, within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{text!r} is not on the screen:\n{self.text()}") from error

    def press(self, *keys: str) -> None:
        """Keys, as tmux names them."""
        self._run("send-keys", "-t", "s", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        self._run("resize-window", "-t", "s", "-x", str(columns), "-y", str(lines))

    def is_alternate(self) -> bool:
        """Whether it is the screen that programs draw on, and not the one of the shell."""
        return self._run("display-message", "-p", "-t", "s", "#{alternate_on}").stdout == "1\n"

    def enter(self, line: str, answer: str) -> None:
        """Type a line, and press Enter until the answer is on the screen.

        Codex takes an Enter that follows its line too fast for a part of pasted text.
        """
        self._run("send-keys", "-t", "s", "-l", line)
        self.shows(line)
        for _ in range(_ENTERS):
            self._run("send-keys", "-t", "s", "Enter")
            with contextlib.suppress(AssertionError):
                self.shows(answer, within_s=3.0)
                return
        self.shows(answer)

    def close(self) -> None:
        """End the program and the tmux server."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("kill-server")

    def _run(
        self, *arguments: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._tmux, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=env,
            timeout=20,
        )


@contextlib.contextmanager
def screen(socket: Path, columns: int = 100, rows: int = 40) -> Iterator[Screen]:
    """A screen whose program ends with the block."""
    made = Screen(socket, columns, rows)
    try:
        yield made
    finally:
        made.close()
