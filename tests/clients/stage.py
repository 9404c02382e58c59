"""What a client is played on: a model, a directory, and codex with codexd or without."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.codex import codex_path
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

ANSWER = "Hello, world"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Stage:
    """``codex`` is what a client is told to run: the real one, or codexd's in its place."""

    def __init__(self, *, with_codexd: bool) -> None:
        self.with_codexd = with_codexd
        # A short path: sockets are below it.
        self.root = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
        self.model = ModelServer()
        self.box = DaemonBox(self.root)
        # Clients name models and effort of their own; a model server for all of them is there.
        self.model.write_config(self.box.codex_home)
        # Nothing but the loopback: what is asked elsewhere fails at once.
        nowhere = {name: "http://127.0.0.1:9" for name in _PROXIES}
        nowhere |= {name.upper(): value for name, value in nowhere.items()}
        self.env = {
            **self.box.env,
            **nowhere,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "BAA_CODEXD_REPO_ROOT": str(self.root),
            "BAA_CODEXD_SERVER_COMMAND": codex_path(),
            "OPENAI_API_KEY": "sk-not-a-key",
            "CODEX_API_KEY": "sk-not-a-key",
        }
        ours = Path(sys.executable).with_name("codexd-codex")
        self.codex = str(ours) if with_codexd else codex_path()
        self._held: threading.Event | None = None
        self.answer()

    @property
    def hub_socket(self) -> str:
        """codexd.sock."""
        return str(self.box.state_dir / "run" / "codexd.sock")

    def open(self) -> None:
        """Start the daemon, if there is to be one."""
        if self.with_codexd:
            self.box.start()

    def answer(self) -> None:
        """From now on the model answers; what it holds back comes, too.

        Slowly enough that a terminal can be seen to be at work.
        """
        self.model.default = lambda: Reply(delay_s=0.4)
        if self._held is not None:
            self._held.set()

    def hold(self) -> int:
        """From now on the model begins and does not end; how many requests it has had so far."""
        held = self._held = threading.Event()
        self.model.default = lambda: Reply(deltas=["thinking"], hold=held)
        return len(self.model.requests)

    def wait_for_requests(self, count: int) -> None:
        """Until the model has been asked so often."""
        eventually(lambda: len(self.model.requests) >= count, within_s=20, what="turns that run")

    def kill_servers(self) -> None:
        """SIGKILL what runs the turns (not a terminal UI); with codexd, until there is another."""
        if self.with_codexd:
            child = self.box.wait_ready()
            os.kill(child["pid"], signal.SIGKILL)
            self.answer()
            self.box.wait_ready(other_than=child["pid"])
            return
        for process in self._servers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.answer()

    def _servers(self) -> Iterator[psutil.Process]:
        home = str(self.box.codex_home)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_codex = Path(process.exe()).name == "codex"
                is_server = bool({"app-server", "exec"} & set(process.cmdline()))
                if is_codex and is_server and process.environ().get("CODEX_HOME") == home:
                    yield process

    def close(self) -> None:
        """End everything, whatever happened."""
        self.answer()
        self.box.clean_up()
        self.model.close()
        shutil.rmtree(self.root, ignore_errors=True)
