"""A checkout whose ops/ scripts run this very codexd, with no package installed."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A copy of ops/ with an environment that is up to date, and a PATH of fake programs."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root.resolve()
        self.home = home
        self.fakes = home.parent / "fakes"
        self.calls = home.parent / "calls.log"
        self.more_environ: dict[str, str] = {}
        self.fakes.mkdir()
        self.home.mkdir()
        shutil.copytree(ROOT / "ops", root / "ops")
        shutil.copy(ROOT / "pyproject.toml", root)
        binaries = root / ".venv/bin"
        binaries.mkdir(parents=True)
        _script(binaries / "codexd", f'exec {shlex.quote(sys.executable)} -m codexd "$@"')
        _script(binaries / "python", f'exec {shlex.quote(sys.executable)} "$@"')
        stamp = subprocess.run(
            ["cksum"], stdin=(root / "pyproject.toml").open(), capture_output=True, text=True
        ).stdout.strip()
        (root / ".venv/.has-codex").write_text(f"{self.root} {stamp}")

    def fake(self, name: str, body: str = "") -> None:
        """Put a program on PATH that notes its calls and then runs the shell text ``body``."""
        note = f'printf "%s" {name} >>"$CALLS"; printf " %s" "$@" >>"$CALLS"; echo >>"$CALLS"'
        _script(self.fakes / name, f"{note}\n{body}")

    @property
    def environ(self) -> dict[str, str]:
        """What the scripts run with."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self.fakes}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            **self.more_environ,
        }

    @contextlib.contextmanager
    def running(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside; it ends with the block."""
        process = subprocess.Popen(command, cwd=self.root, env=self.environ)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)

    def run(self, script: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a script of ops/ in the checkout."""
        return subprocess.run(
            [str(self.root / "ops" / script), *args],
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def taken_calls(self) -> list[str]:
        """The calls of the fakes since the last time, one a line."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    os.chmod(path, 0o755)
