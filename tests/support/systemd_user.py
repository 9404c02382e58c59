"""A systemd user manager of our own, in namespaces that end with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import psutil

from tests.support.waiting import eventually

SYSTEMD = Path("/lib/systemd/systemd")
# systemd only runs as a user's manager where it believes that the machine was booted with it,
# and not as process 1, which is the shell.
_PREPARE = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user && chmod 700 /run/user
"$0" --user --log-target=console & wait
"""


def can_run() -> bool:
    """Whether this machine and user can have one: Linux, root, systemd installed."""
    tools = ("unshare", "nsenter", "systemctl")
    is_root = sys.platform == "linux" and os.getuid() == 0
    return is_root and SYSTEMD.exists() and all(shutil.which(tool) for tool in tools)


class UserManager:
    """Starts the manager on entry and ends it, with all it runs, on exit."""

    def __init__(self, home: Path) -> None:
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        self.environ = {
            "HOME": str(home),
            "PATH": path,
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": "/run/user",
        }
        self._log = (home / "systemd.log").open("wb")

    def __enter__(self) -> UserManager:
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._unshare = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", _PREPARE, str(SYSTEMD)],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        eventually(lambda: self._pid() is not None and self._answers(), what="the manager")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._unshare.kill()
        self._unshare.wait()
        self._log.close()

    def _pid(self) -> int | None:
        children = psutil.Process(self._unshare.pid).children()
        return children[0].pid if children else None

    def _answers(self) -> bool:
        return self.run("systemctl", "--user", "is-system-running").stdout == "running\n"

    def run(
        self, *command: str, cwd: Path | None = None, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where the manager runs."""
        where = f"--wd={cwd}" if cwd else "--wd=/"
        return subprocess.run(
            ["nsenter", f"--target={self._pid()}", "--mount", "--pid", where, *command],
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
