"""The vendor's terminal UI, in a real terminal."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
from pathlib import Path

from tests.clients.client import Client
from tests.clients.place import CannotInstall, Place
from tests.clients.play import Actor
from tests.clients.stage import ANSWER, Stage
from tests.support.codex import codex_path
from tests.support.screen import Screen
from tests.support.waiting import eventually


class VendorTui(Client):
    """`codex --remote`: on a server of its own that listens on a socket, or on the hub's."""

    name = "codex TUI"
    version = "0.163.0"
    attached = "`codex --remote unix://…/codexd.sock`"
    remark = "bare: nobody starts the server again"

    def install(self, place: Place) -> None:
        """See :class:`.client.Client`."""
        del place
        if shutil.which("tmux") is None:
            raise CannotInstall("tmux is not on this machine")

    def actor(self, stage: Stage) -> Actor:
        """See :class:`.client.Client`."""
        socket = stage.hub_socket
        if not stage.with_codexd:
            socket = str(stage.root / "app.sock")
            _serve(stage, socket)
        return _Terminal(stage, f"unix://{socket}")


def _serve(stage: Stage, socket: str) -> None:
    """A server on ``socket``, if there is none yet."""
    if Path(socket).exists():
        return
    with open(stage.root / "server.err", "ab") as errors:
        subprocess.Popen(
            [codex_path(), "app-server", "--listen", f"unix://{socket}"],
            env=stage.env,
            cwd=stage.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    eventually(lambda: Path(socket).exists(), what="a server of its own")


class _Terminal:
    """Its answers and its troubles are counted on the screen: each turn shows one more."""

    _numbers = itertools.count(1)

    def __init__(self, stage: Stage, remote: str) -> None:
        self._screen = Screen(stage.root / f"tmux{next(self._numbers)}")
        self._answers = self._troubles = 0
        env = {**stage.env, "TERM": "xterm-256color"}
        self._screen.start([codex_path(), "--remote", remote], env, stage.root)
        self._screen.shows("mock default")

    def ask(self, text: str) -> None:
        """See :class:`.play.Actor`."""
        with contextlib.suppress(AssertionError):
            self._screen.enter(f"number {text}", "esc to interrupt")

    def heard(self, within_s: float) -> str:
        """See :class:`.play.Actor`."""

        def look() -> str | None:
            screen = self._screen.text()
            if screen.count(ANSWER) > self._answers:
                self._answers = screen.count(ANSWER)
                return "answered"
            lines = [line.strip() for line in screen.splitlines() if "■" in line]
            if len(lines) > self._troubles:
                self._troubles = len(lines)
                return f"it shows {lines[-1]!r}"
            return None

        with contextlib.suppress(AssertionError):
            return eventually(look, within_s=within_s)
        return "no end"

    def close(self) -> None:
        """See :class:`.play.Actor`."""
        self._screen.close()
