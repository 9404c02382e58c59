"""Where the clients are installed: a virtual environment or a node_modules for each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_INSTALL_S = 600
_DONE = ".installed"


class CannotInstall(Exception):
    """A client cannot be had here. The text says why, for the table."""


class Place:
    """A directory that is kept from run to run: what is there already is not fetched again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def pip(self, *packages: str, python: str = "") -> Path:
        """The python of a virtual environment that has ``packages`` (NAME==VERSION).

        ``python`` is the version that they need, such as "3.13", where ours does not do.
        """
        target = self._directory / "pypi" / packages[0]
        interpreter = target / "bin" / "python"
        if not (target / _DONE).exists():
            _run([_interpreter(python), "-m", "venv", "--clear", "--without-pip", str(target)])
            pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "-q"]
            _run([*pip, "--disable-pip-version-check", *packages])
            (target / _DONE).touch()
        return interpreter

    def npm(self, *packages: str) -> Path:
        """A directory whose node_modules have ``packages`` (NAME@VERSION); no script is run."""
        if shutil.which("npm") is None or shutil.which("node") is None:
            raise CannotInstall("node and npm are not on this machine")
        target = self._directory / "npm" / packages[0].replace("/", "+")
        if not (target / _DONE).exists():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            _run(["npm", "install", *options, *packages], cwd=target)
            (target / _DONE).touch()
        return target


def _interpreter(version: str) -> str:
    if not version:
        return sys.executable
    candidates = [shutil.which(f"python{version}") or ""]
    pyenv = Path.home() / ".pyenv" / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python3"))]
    for candidate in candidates:
        # A shim of pyenv may be there for a version that it does not run.
        if candidate and subprocess.run([candidate, "-V"], capture_output=True).returncode == 0:
            return candidate
    raise CannotInstall(f"it needs Python {version}, which is not on this machine")


def _run(command: list[str], cwd: Path | None = None) -> None:
    try:
        result = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=_INSTALL_S
        )
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"not installed within {_INSTALL_S} s") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "WARN" not in line]
        raise CannotInstall(f"not installed: {lines[-1] if lines else result.returncode}")
