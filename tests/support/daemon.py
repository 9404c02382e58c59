"""A real `codexd start` in a temporary directory, whose processes end with the test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from codexd.config import Config, resolve
from tests.support.waiting import eventually

CODEXD = [sys.executable, "-m", "codexd"]
SETTINGS_PREFIXES = ("BAA_", "CODEX_")


class DaemonBox:
    """Directories, environment and flags of one daemon under test."""

    def __init__(self, root: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.codex_home = root / "codex-home"
        self.codex_home.mkdir(mode=0o700, exist_ok=True)
        self.flags = ["--repo-root", str(root), *flags]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS_PREFIXES)}
        self.env = {**clean, "CODEX_HOME": str(self.codex_home), **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.started: list[subprocess.Popen[bytes]] = []
        self.seen: dict[int, psutil.Process] = {}

    # -- running -----------------------------------------------------------------------------

    def start(self, *flags: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Run `codexd start`; with ``wait``, until the status line is out."""
        with open(self.root / "start.out", "ab") as out, open(self.root / "start.err", "ab") as err:
            self.process = subprocess.Popen(
                [*CODEXD, "start", *self.flags, *flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.env,
                cwd=self.root,
            )
        self.started.append(self.process)
        if wait:
            self.wait_ready()
        return self.process

    def run(
        self, *arguments: str, timeout_s: float = 60, flags: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one codexd command to its end."""
        command = [*CODEXD, arguments[0], *(self.flags if flags else []), *arguments[1:]]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.root,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        assert self.process is not None
        self.note_processes()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def wait_ready(self, *, other_than: int | None = None) -> dict[str, Any]:
        """The child's record once it is ready (as another process than ``other_than``)."""

        def look() -> dict[str, Any] | None:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.errors()}")
            child = self.child()
            self.note_processes()
            ready = child is not None and child["ready"] and child["pid"] != other_than
            return child if ready else None

        return eventually(look, what="a ready child")

    # -- looking -----------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The configuration, as the daemon resolves it."""
        result = self.run("config", "--json")
        assert result.returncode == 0, result.stderr
        values = json.loads(result.stdout)
        environ = {**self.env, "BAA_CODEXD_STATE_DIR": values["paths"]["stateRootDir"]}
        environ["BAA_CODEXD_LOGS_DIR"] = values["paths"]["logsRootDir"]
        return resolve({"repo_root": str(self.root)}, environ, cwd=str(self.root))

    @property
    def state_dir(self) -> Path:
        """STATE/codexd."""
        return self.root / "state" / "codexd"

    @property
    def logs_dir(self) -> Path:
        """LOGS/codexd."""
        return self.root / "logs" / "codexd"

    def read(self, name: str) -> dict[str, Any] | None:
        """One state file; None while it is not there."""
        try:
            document: dict[str, Any] = json.loads((self.state_dir / name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return document

    def child(self) -> dict[str, Any] | None:
        """The child's record."""
        state = self.read("daemon-state.json")
        return None if state is None else state["child"]

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Every event, or those of some types."""
        path = self.logs_dir / "events.jsonl"
        if not path.exists():
            return []
        events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [event for event in events if not types or event["type"] in types]

    def errors(self) -> str:
        """What the daemon said on stderr, and its log."""
        texts = []
        for path in (self.root / "start.err", self.logs_dir / "codexd.log"):
            with contextlib.suppress(OSError):
                texts.append(path.read_text("utf-8"))
        return "\n".join(texts)

    def processes(self) -> list[psutil.Process]:
        """The daemon and everything below it."""
        if self.process is None or self.process.poll() is not None:
            return []
        try:
            daemon = psutil.Process(self.process.pid)
            return [daemon, *daemon.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def plugin(self) -> psutil.Process:
        """The plugin's process."""

        def look() -> psutil.Process | None:
            for process in self.processes()[1:]:
                with contextlib.suppress(psutil.Error):
                    if "circus" in " ".join(process.cmdline()):
                        return process
            return None

        return eventually(look, what="a plugin")

    # -- cleaning up -------------------------------------------------------------------------

    def note_processes(self) -> None:
        """Remember every process there is, to be ended by :meth:`clean_up` if it stays."""
        for process in self.processes():
            self.seen[process.pid] = process

    def leftovers(self) -> list[psutil.Process]:
        """Processes of this daemon that still run."""
        return [
            process
            for process in self.seen.values()
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def clean_up(self) -> None:
        """End whatever is left, whatever happened."""
        self.note_processes()
        for started in self.started:
            if started.poll() is None:
                started.send_signal(signal.SIGCONT)
                started.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    started.wait(10)
        for process in self.leftovers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for started in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(5)
