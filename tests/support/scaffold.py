"""What a daemon of the original leaves in its directories, and processes that pass for its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests.support.waiting import eventually

DAEMON_ID = "5f0c8f6a-3f0f-4c43-9c7b-1b2f6d1a0001"
_NOW = "2026-03-22T13:16:04.123Z"
_SLEEP = "import time; time.sleep(600)"


class ScaffoldBox:
    """STATE/codexd as the original writes it; its processes end with :meth:`clean_up`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = root / "state/codexd"
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def run_daemon(self, *words: str, cwd: str = "apps/codexd") -> subprocess.Popen[bytes]:
        """A process like `node dist/index.js start`."""
        place = self.root / cwd
        (place / "dist").mkdir(parents=True, exist_ok=True)
        (place / "dist/index.js").write_text(_SLEEP)
        return self._run(list(words) or ["node", "dist/index.js", "start"], place, {})

    def run_child(self, *, mark: str | None = None) -> subprocess.Popen[bytes]:
        """A process like `codex app-server`; ``mark`` is the daemon's id in its environment."""
        (self.root / "app-server").write_text(_SLEEP)
        environ = {} if mark is None else {"BAA_CODEXD_DAEMON_ID": mark}
        return self._run(["codex", "app-server"], self.root, environ)

    def _run(self, words: list[str], cwd: Path, more: dict[str, str]) -> subprocess.Popen[bytes]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("BAA_")}
        # argv is what the words say; the program is Python.
        process = subprocess.Popen(
            words, executable=sys.executable, cwd=cwd, env={**environ, **more}
        )
        self.processes.append(process)
        # In the middle of exec(2) a process has no command line.
        eventually(lambda: psutil.Process(process.pid).cmdline() == words, what="a command line")
        return process

    def record(self, daemon: int | None, child: int | None, **changes: Any) -> None:
        """Write the state files of a daemon that runs, or was killed while it did."""
        self._write(
            "identity.json",
            {
                "daemonId": DAEMON_ID,
                "nodeId": "mini-main",
                "repoRoot": str(self.root),
                "createdAt": _NOW,
                "version": None,
            },
        )
        document = {
            "started": daemon is not None,
            "startedAt": _NOW,
            "stoppedAt": None,
            "updatedAt": _NOW,
            "pid": daemon,
            "child": {
                "strategy": "spawn",
                "mode": "app-server",
                "endpoint": "stdio://codex-app-server",
                "status": "idle" if child is None else "running",
                "command": "codex",
                "args": ["app-server"],
                "cwd": str(self.root),
                "pid": child,
                "startedAt": _NOW,
                "exitedAt": None,
                "exitCode": None,
                "signal": None,
                "lastError": None,
                **changes,
            },
        }
        self._write("daemon-state.json", document)

    def age(self, seconds: float) -> None:
        """Have the record be that old."""
        then = time.time() - seconds
        os.utime(self.state_dir / "daemon-state.json", (then, then))

    def _write(self, name: str, document: dict[str, Any]) -> None:
        (self.state_dir / name).write_text(json.dumps(document, indent=2) + "\n")

    def clean_up(self) -> None:
        """End what was started here."""
        for process in self.processes:
            process.kill()
            process.wait(10)
