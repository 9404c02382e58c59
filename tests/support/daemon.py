"""A real `codexd start` in a temporary directory, whose processes end with the test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from codexd.cli.config import config as config_command
from codexd.cli.options import SETTINGS_FILE
from codexd.config import Config, resolve
from codexd.settings import SETTINGS
from codexd.settings_file import read_settings_file
from tests.support.client import AppClient
from tests.support.waiting import eventually

CODEXD = [sys.executable, "-m", "codexd"]
SETTINGS_PREFIXES = ("BAA_", "CODEX_")


@contextlib.contextmanager
def daemon_box(root: Path, *flags: str, env: dict[str, str] | None = None) -> Iterator[DaemonBox]:
    """A box whose processes end with the block, for fixtures of more than one test."""
    root.mkdir(exist_ok=True)
    box = DaemonBox(root, *flags, env=env)
    try:
        yield box
    finally:
        box.clean_up()


class DaemonBox:
    """Directories, environment and flags of one daemon under test."""

    def __init__(self, root: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.codex_home = root / "codex-home"
        self.codex_home.mkdir(mode=0o700, exist_ok=True)
        self.flags = ["--repo-root", str(root), *flags]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS_PREFIXES)}
        # codex runs the user's login shell, and whatever that has in its start-up files.
        ours = {"HOME": str(root), "CODEX_HOME": str(self.codex_home)}
        # The list of running daemons is not that of whoever runs this suite.
        ours["XDG_STATE_HOME"] = str(root / "xdg-state")
        self.env = {**clean, **ours, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.started: list[psutil.Process] = []
        self.seen: dict[int, psutil.Process] = {}

    # -- running -----------------------------------------------------------------------------

    def start(self, *flags: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Run `codexd start`; with ``wait``, until the child is ready."""
        process = self.launch(*CODEXD, "start", *self.flags, *flags)
        if wait:
            self.wait_ready()
        return process

    def launch(self, *command: str) -> subprocess.Popen[bytes]:
        """Run a command that is the daemon, or becomes it."""
        with open(self.root / "start.out", "ab") as out, open(self.root / "start.err", "ab") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.env,
                cwd=self.root,
            )
        self.started.append(psutil.Process(self.process.pid))
        return self.process

    def adopt(self, pid: int) -> psutil.Process:
        """A daemon that another command started; it is ended with the test like any other."""
        self.started.append(psutil.Process(pid))
        return self.started[-1]

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

    def order(self, action: str) -> None:
        """`codexd ctl ACTION` for the server, once circus has ended what it is doing."""

        def look() -> subprocess.CompletedProcess[str] | None:
            done = self.run("ctl", action, "codex-app-server")
            return None if "already running" in done.stderr else done

        done = eventually(look, what=f"an end of what hinders {action}")
        assert done.returncode == 0, done.stderr

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        assert self.process is not None
        self.note_processes()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def stop_cleanly(self) -> None:
        """SIGTERM; fails unless the daemon ends well and leaves no process behind."""
        assert self.stop() == 0, self.errors()
        self.wait_for_nobody()

    def wait_for_nobody(self) -> None:
        """Fails unless every process of this box ends by itself (codex has helpers, too)."""
        eventually(lambda: not self.leftovers(), what=f"an end of {self.leftovers()}")

    def wait_ready(self, *, other_than: int | None = None) -> dict[str, Any]:
        """The child's record once it is ready (as another process than ``other_than``)."""

        def look() -> dict[str, Any] | None:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.errors()}")
            child = self.child()
            if child is None or not child["ready"]:
                return None
            return None if child["pid"] is not None and child["pid"] == other_than else child

        try:
            return eventually(look, what="a ready child", within_s=60)
        finally:
            # Not at each look: it reads what the system tells of every process there is.
            self.note_processes()

    def wait_quiet(self) -> None:
        """Wait until what the child wrote so far is in a log, and what is told of it in the cache.

        The talk on stdout is told of once a minute only. A client comes and goes, for until there
        was one codexd waits for a while before it introduces itself, and asks who is logged in.
        """
        AppClient(self.config.runtime.hub_socket_path).close()
        log = self.logs_dir / "stdout.log"
        handshake = Path(self.config.runtime.runtime_dir, "handshake.json")

        def missing() -> str | None:
            if not handshake.exists() or b"OpenaiAuth" not in log.read_bytes():
                return "an introduction and an answer about the login"
            events = self.events()
            cached = self.read("recent-events.json")
            if not events or cached is None or cached["events"][-1] != events[-1]:
                return "the last event in the cache"
            absent = {"child.ready", "client.disconnected"} - {event["type"] for event in events}
            if absent:
                return f"events: {absent}"
            told = sum(e["detail"]["bytes"] for e in events if e["type"] == "child.stderr")
            written = (self.logs_dir / "stderr.log").stat().st_size
            return None if told == written > 0 else f"stderr: {told} of {written} bytes are told"

        try:
            eventually(lambda: missing() is None, what="a quiet child")
        except AssertionError as error:
            raise AssertionError(f"{error}; it lacks {missing()}") from None

    # -- looking -----------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The configuration, as the daemon resolves it."""
        context = config_command.make_context("config", list(self.flags))
        flags = {setting.name: context.params[setting.name] for setting in SETTINGS}
        file = read_settings_file(context.params[SETTINGS_FILE], self.env)
        return resolve(flags, self.env, cwd=str(self.root), file=file)

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

    def output(self) -> str:
        """What the daemon printed so far."""
        return (self.root / "start.out").read_text("utf-8", "replace")

    def errors(self) -> str:
        """What the daemon said on stderr, and its log."""
        texts = []
        for path in (self.root / "start.err", self.logs_dir / "codexd.log"):
            with contextlib.suppress(OSError):
                texts.append(path.read_text("utf-8", "replace"))
        return "\n".join(texts)

    def processes(self) -> list[psutil.Process]:
        """Each daemon that runs, and everything below it."""
        found = []
        for daemon in self.started:
            with contextlib.suppress(psutil.NoSuchProcess):
                if _runs(daemon):
                    found += [daemon, *daemon.children(recursive=True)]
        return found

    def plugin(self) -> psutil.Process:
        """The plugin's process."""

        def look() -> psutil.Process | None:
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    if any("plugins.main()" in word for word in process.cmdline()):
                        return process
            return None

        return eventually(look, what="a plugin")

    # -- cleaning up -------------------------------------------------------------------------

    def note_processes(self) -> None:
        """Remember every process there is, to be ended by :meth:`clean_up` if it stays."""
        for process in self.processes():
            self.seen[process.pid] = process

    def leftovers(self) -> list[psutil.Process]:
        """Processes that this box brought about and that still run."""
        home = str(self.codex_home)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("CODEX_HOME") == home:
                    self.seen[process.pid] = process
        return [process for process in self.seen.values() if _runs(process)]

    def _note_what_stubs_started(self) -> None:
        """They have no environment to be known by, and may be below nobody any more."""
        with contextlib.suppress(OSError):
            told = re.findall(rb"(?:helper|grandchild) (\d+)\n", self._stub_output())
            for pid in map(int, told):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    if "-ISc" in process.cmdline():
                        self.seen[pid] = process

    def _stub_output(self) -> bytes:
        return (self.logs_dir / "stderr.log").read_bytes()

    def clean_up(self) -> None:
        """End whatever is left, whatever happened."""
        self.note_processes()
        running = [daemon for daemon in self.started if _runs(daemon)]
        for daemon in running:
            with contextlib.suppress(psutil.Error):
                daemon.resume()
                daemon.terminate()
        psutil.wait_procs(running, timeout=10)
        self.note_processes()
        self._note_what_stubs_started()
        for process in self.leftovers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs([daemon for daemon in self.started if _runs(daemon)], timeout=5)
        # A daemon that was killed leaves its sockets, where a long path is not that of the test.
        runtime = resolve({"repo_root": str(self.root)}, {}, cwd="/").runtime
        shutil.rmtree(runtime.runtime_dir, ignore_errors=True)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
