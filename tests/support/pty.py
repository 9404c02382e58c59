"""A command on a terminal of its own: what it prints, and what is typed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.waiting import eventually


class OnTerminal:
    """One command; ``text`` is all that has come on the terminal."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        columns: int = 80,
        term: str = "xterm",
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "TERM": term, "COLUMNS": str(columns), "NO_COLOR": ""},
            cwd=cwd,
            # So the terminal is its controlling one, and Ctrl-C reaches it.
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.text = ""
        self._bytes = b""

    def shows(self, text: str) -> str:
        """All that is there once ``text`` is."""

        def look() -> bool:
            self._read()
            return text in self.text

        try:
            eventually(look, what=f"{text!r} on the terminal")
        except AssertionError as error:
            raise AssertionError(f"{text!r} is not in {self.text!r}") from error
        return self.text

    def type(self, text: str) -> None:
        """What somebody types."""
        os.write(self._master, text.encode())

    def ends(self) -> int:
        """The exit code, once it has ended."""

        def look() -> bool:
            self._read()
            return self.process.poll() is not None

        eventually(look, what=f"an end after {self.text!r}")
        self._read()
        return self.process.returncode

    def close(self) -> None:
        """End it, whatever happened."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        os.close(self._master)

    def _read(self) -> None:
        while select.select([self._master], [], [], 0)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self._bytes += data
            self.text = self._bytes.decode("utf-8", "replace").replace("\r\n", "\n")


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def on_terminal(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    columns: int = 80,
    term: str = "xterm",
) -> Iterator[OnTerminal]:
    """A command that ends with the block."""
    made = OnTerminal(command, env, cwd, columns, term)
    try:
        yield made
    finally:
        made.close()
