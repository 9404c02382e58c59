"""The vendor's terminal UI on the hub, in a real terminal (tmux)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from codex_cli_bin import bundled_codex_path

from tests.conftest import MakeBox
from tests.support.codex import short_directory
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Terminal:
    """One program in a tmux server of its own."""

    def __init__(self, socket: Path, box: DaemonBox, *command: str) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", os.devnull]
        size = ["-x", "120", "-y", "45"]
        env = {**box.env, "TERM": "xterm-256color"}
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-s", "t", *size, *command],
            env=env,
            cwd=box.root,
            check=True,
        )

    def screen(self) -> str:
        """What is on it."""
        shown = subprocess.run(
            [*self._tmux, "capture-pane", "-p", "-t", "t"], capture_output=True, text=True
        )
        return shown.stdout

    def wait_for(self, text: str) -> None:
        """Wait until a text is on the screen."""
        eventually(lambda: text in self.screen(), what=f"{text!r} in\n{self.screen()}")

    def type(self, text: str) -> None:
        """Type a line, once what was typed is there to be seen."""
        subprocess.run([*self._tmux, "send-keys", "-t", "t", "-l", text], check=True)
        self.wait_for(text)
        # A paste is told from typing by its speed: Enter must not seem a part of it.
        eventually(lambda: self._enter(text), what=f"{text!r} to be sent")

    def _enter(self, text: str) -> bool:
        subprocess.run([*self._tmux, "send-keys", "-t", "t", "Enter"], check=True)
        lines = self.screen().splitlines()
        prompt = next((line for line in reversed(lines) if line.startswith("›")), "")
        return text not in prompt

    def close(self) -> None:
        """End it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


def _ready_box(box: DaemonBox, model: ModelServer) -> None:
    model.write_config(box.codex_home)
    with (box.codex_home / "config.toml").open("a") as config:
        config.write(f'\n[projects."{box.root}"]\ntrust_level = "trusted"\n')
    box.start()


def test_it_goes_on_on_the_same_connection_when_the_server_is_killed(
    make_box: MakeBox, model: ModelServer, tmp_path: Path
) -> None:
    box = make_box()
    _ready_box(box, model)
    socket = box.config.runtime.hub_socket_path
    command = [str(bundled_codex_path()), "--remote", f"unix://{socket}"]
    terminal = Terminal(tmp_path / "tmux", box, *command)
    try:
        terminal.wait_for("Ask Codex")
        model.default = lambda: Reply(deltas=["the first", " answer"])
        terminal.type("hello there")
        terminal.wait_for("the first answer")
        child = box.wait_ready()
        os.kill(child["pid"], signal.SIGKILL)
        box.wait_ready(other_than=child["pid"])
        model.default = lambda: Reply(deltas=["the second", " answer"])
        terminal.type("and once more")
        terminal.wait_for("the second answer")
        assert len(box.events("client.connected")) == 1
        assert box.events("session.recovered")
    finally:
        terminal.close()


def test_a_plain_codex_attaches_to_the_hub_on_the_vendors_socket(
    model: ModelServer, tmp_path: Path
) -> None:
    with short_directory() as root, daemon_box(root / "r", "--hub-default-socket=true") as box:
        _ready_box(box, model)
        _attach_plainly(Terminal(tmp_path / "tmux", box, str(bundled_codex_path())), box)


def _attach_plainly(terminal: Terminal, box: DaemonBox) -> None:
    try:
        terminal.wait_for("Ask Codex")
        terminal.type("/status")
        terminal.wait_for("Local background server")
        assert box.events("client.connected")
    finally:
        terminal.close()
