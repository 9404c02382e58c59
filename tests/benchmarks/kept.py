"""A codex on a Unix socket, kept by each of the other supervisors as its manual says."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.benchmarks.peers import Peers, Unavailable, pm2_env
from tests.benchmarks.raw_client import first_answer
from tests.benchmarks.scene import Scene, end_all_below, of_home
from tests.support.codex import codex_path

_START_S: Final = 60.0
_ANSWER_S: Final = 20.0
_SUPERVISORD: Final = """\
[unix_http_server]
file={root}/supervisor.sock
[supervisord]
nodaemon=true
logfile={root}/supervisord.log
pidfile={root}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:codex]
command={command}
"""
_CIRCUS: Final = """\
[circus]
endpoint = ipc://{root}/circus.sock
pubsub_endpoint = ipc://{root}/pubsub.sock
[watcher:codex]
cmd = {command}
copy_env = true
"""
_BARE_PLUGIN: Final = """\
[plugin:bare]
use = bare_plugin.Bare
"""
_BARE: Final = """\
from circus.plugins import CircusPlugin


class Bare(CircusPlugin):
    name = "bare"

    def handle_recv(self, data):
        pass
"""
_RUN: Final = "#!/bin/sh\nexec {command}\n"


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be run, and whether it ends once the supervisor runs behind."""

    command: list[str]
    env: dict[str, str]
    goes_behind: bool = False


class Kept:
    """One supervisor with its codex, in a directory of its own."""

    def __init__(self, name: str, scene: Scene, *, with_plugin: bool = False) -> None:
        self.name = name
        self.root = scene.place(name.partition(" ")[0])
        self.home = self.root / "home"
        self.home.mkdir(mode=0o700)
        self.socket = str(self.root / "app.sock")
        if name in scene.peers.missing:
            raise Unavailable(scene.peers.missing[name])
        command = [codex_path(), "app-server", "--listen", f"unix://{self.socket}"]
        launch = _LAUNCHES[name](scene.peers, self.root, command)
        if with_plugin:
            (self.root / "bare_plugin.py").write_text(_BARE)
            with open(self.root / "circus.ini", "a") as file:
                file.write(_BARE_PLUGIN)
            launch.env["PYTHONPATH"] = str(self.root)
        self._run(launch)
        self.pid = self._wait()

    def _run(self, launch: Launch) -> None:
        env = {**os.environ, **launch.env, "HOME": str(self.root), "CODEX_HOME": str(self.home)}
        try:
            with open(self.root / "log", "ab") as log:
                self._process = subprocess.Popen(
                    launch.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=env,
                    cwd=self.root,
                    start_new_session=True,
                )
        except OSError as error:
            raise Unavailable(f"it does not start: {error}") from error
        if launch.goes_behind and self._process.wait(_START_S) != 0:
            self.close()
            raise Unavailable(f"it does not start: {self._last_word()}")

    def _wait(self) -> int:
        try:
            return first_answer(self.socket, within_s=_ANSWER_S)
        except TimeoutError as error:
            self.close()
            raise Unavailable(f"it brings up no codex: {self._last_word()}") from error

    def _last_word(self) -> str:
        lines = (self.root / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"

    def others(self) -> list[psutil.Process]:
        """Every process of it but codex."""
        return [process for process in of_home(self.home) if not is_server(process)]

    def close(self) -> None:
        """End it, and its codex."""
        end_all_below(self.home)
        self._process.wait()


def is_server(process: psutil.Process) -> bool:
    """Whether this is `codex app-server` itself, and not what keeps it."""
    try:
        return process.name() == "codex" and "pid-update-loop" not in process.cmdline()
    except psutil.Error:
        return False


def _runit(peers: Peers, root: Path, command: list[str]) -> Launch:
    programs, env = peers.debian("runit")
    _executable(root / "service" / "codex" / "run", _RUN.format(command=" ".join(command)))
    return Launch([str(programs / "runsvdir"), "-P", str(root / "service")], env)


def _s6(peers: Peers, root: Path, command: list[str]) -> Launch:
    # s6-svscan, which keeps these, looks for them where the package would have been installed.
    programs, env = peers.debian("s6")
    _executable(root / "service" / "codex" / "run", _RUN.format(command=" ".join(command)))
    return Launch([str(programs / "s6-supervise"), str(root / "service" / "codex")], env)


def _supervisord(peers: Peers, root: Path, command: list[str]) -> Launch:
    ini = root / "supervisord.conf"
    ini.write_text(_SUPERVISORD.format(root=root, command=" ".join(command)))
    return Launch([str(peers.python), "-m", "supervisor.supervisord", "-c", str(ini)], {})


def _circus(peers: Peers, root: Path, command: list[str]) -> Launch:
    ini = root / "circus.ini"
    ini.write_text(_CIRCUS.format(root=root, command=" ".join(command)))
    return Launch([str(peers.python), "-m", "circus.circusd", str(ini)], {})


def _pm2(peers: Peers, root: Path, command: list[str]) -> Launch:
    start = [str(peers.pm2), "start", command[0], "--interpreter", "none", "--name", "codex"]
    return Launch([*start, "--", *command[1:]], pm2_env(root / "pm2"), goes_behind=True)


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


_LAUNCHES: Final[dict[str, Callable[[Peers, Path, list[str]], Launch]]] = {
    "runit": _runit,
    "pm2": _pm2,
    "s6": _s6,
    "supervisord": _supervisord,
    "circus": _circus,
}


class Vendors:
    """`codex app-server daemon start`: the server, and what updates it."""

    def __init__(self, scene: Scene) -> None:
        root = scene.place("vendor")
        self.home = root / "home"
        self.home.mkdir(mode=0o700)
        self._env = {**os.environ, "HOME": str(root), "CODEX_HOME": str(self.home)}
        if self._daemon("start") != 0 or not self.others():
            self.close()
            raise Unavailable("codex cannot install its daemon here")

    def _daemon(self, verb: str) -> int:
        command = [codex_path(), "app-server", "daemon", verb]
        try:
            return subprocess.run(
                command, env=self._env, capture_output=True, timeout=_START_S, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired):
            return 1

    def others(self) -> list[psutil.Process]:
        """Every process of it but the server."""
        return [process for process in of_home(self.home) if not is_server(process)]

    def close(self) -> None:
        """End it; its updater outlives `daemon stop`."""
        self._daemon("stop")
        end_all_below(self.home)
