"""The daemon of a kill matrix with everything around it: what is done to it, and what is seen."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil

from tests.support.codex import free_port
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.faults import lives
from tests.support.matrix_checks import Evidence, Rest, rest_violations, violations
from tests.support.matrix_clients import (
    AttachLine,
    Client,
    IdleClient,
    PassingClient,
    SocketLine,
    Turn,
)
from tests.support.model import ModelServer, Reply
from tests.support.stub import backoff, quick_health
from tests.support.waiting import eventually

# How long anything may take to be well again once nobody hurts it any more.
SETTLE_S = 45.0
_LOOK_S = 0.03
# What there is as long as one waits, and what one has left that was promoted on a socket.
_OF_A_SPARE = re.compile(r"/io/spare-|/io/\d+/spoken$|/spare[01]\.sock$")
_FLAGS = [*quick_health(timeout_ms=400), *backoff(20, 200), "--stop-timeout-ms=8000"]
VICTIMS = ("server", "plugin", "circusd")
# Where there is one; it is no server, and no twin of it.
SPARE = "spare"


class Violated(Exception):
    """Something did not hold. ``lines`` says what."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Servers(threading.Thread):
    """Looks every few milliseconds which app-servers there are on one CODEX_HOME.

    A process is looked at closely while it is new: a fork is not what it will be, yet.
    ``find_spare()`` gives the pid on record of one that is no server; who has a thread is one.
    """

    def __init__(self, home: str, find_spare: Callable[[], int | None] | None = None) -> None:
        super().__init__(name="servers", daemon=True)
        self._home = home
        self._has_spare = find_spare is not None
        self._find_spare = find_spare or (lambda: None)
        self._known: dict[int, tuple[float, psutil.Process | None]] = {}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.twins: list[str] = []

    def run(self) -> None:
        """Look until the end."""
        while not self._ending.wait(_LOOK_S):
            pids = self.look_at_all()
            if len(pids) > 1:
                self._suspect(pids)

    def _suspect(self, pids: list[int]) -> None:
        # One that was killed may be on its way out at the first look.
        time.sleep(0.01)
        still = sorted({*pids} & {*self.look_at_all()})
        if self._has_spare and len(still) == 2:
            # Which of them is the spare may not be on record yet: it is the one without a thread.
            still = [pid for pid in still if _has_thread(pid)]
        if len(still) > 1:
            self.twins.append(f"two servers at {time.time():.3f}: {still}")

    def end(self) -> None:
        """Stop looking."""
        self._ending.set()
        self.join()

    def look(self) -> list[int]:
        """The pids of those that run now; a spare without a thread is none."""
        spare = self._find_spare()
        return [pid for pid in self.look_at_all() if pid != spare or _has_thread(pid)]

    def look_at_all(self) -> list[int]:
        """Those, and the spare."""
        with self._lock:
            now, pids = time.monotonic(), psutil.pids()
            self._known = {pid: self._known[pid] for pid in pids if pid in self._known}
            found = []
            for pid in pids:
                since, process = self._known.get(pid, (now, None))
                if process is None and now - since < 2.0:
                    process = self._server(pid)
                    self._known[pid] = (since, process)
                if process is not None and _is_server(process):
                    found.append(process)
            # A server that is about to run a command is there twice until it does.
            numbers = {process.pid for process in found}
            return sorted(pid for pid in numbers if _parent(pid) not in numbers)

    def _server(self, pid: int) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if _is_server(process) and process.environ().get("CODEX_HOME") == self._home:
                return process
        return None


def _is_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        words = process.cmdline()
        is_it = "app-server" in words and "python" not in os.path.basename(words[0])
        return is_it and bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _has_thread(pid: int) -> bool:
    """Whether a process has the file of a thread open."""
    with contextlib.suppress(psutil.Error, OSError):
        return any("/sessions/" in entry.path for entry in psutil.Process(pid).open_files())
    return False


def _parent(pid: int) -> int | None:
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).ppid())
    return None


class World:
    """One daemon, the model behind it, its clients, and what runs to trouble it."""

    def __init__(
        self,
        root: Path,
        seed: str,
        endpoint: str = "stdio",
        without: Collection[str] = (),
        *,
        spare: bool = False,
    ) -> None:
        flags = [*_endpoint_flags(endpoint, root), *(["--spare", "true"] if spare else [])]
        self.box = DaemonBox(root, *_FLAGS, *flags)
        self._has_spare = spare
        self.state_dir = self.box.state_dir
        self.kills = 0
        self.hurt = {"server", "turns"}
        self.may_be_stopped = False
        self._dice = Random(seed)
        self._without = without
        self._model = ModelServer(self._reply)
        self._model.write_config(self.box.codex_home)
        self._servers = Servers(str(self.box.codex_home), self._find_spare if spare else None)
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._commands: list[tuple[str, float, subprocess.Popen[str]]] = []
        self._commands_s: dict[str, float] = {}
        self._wakes: list[threading.Timer] = []
        self._clients: list[Client] = []
        self._first: Evidence | None = None
        self._transient: list[str] = []
        self.took = ""
        self._server_before: list[int] = []
        self._cut_before: set[str] = set()

    def _reply(self) -> Reply:
        # A turn of about a second, whose text comes slowly.
        return Reply(["la "] * self._dice.randint(5, 25), delay_s=0.05)

    # -- beginning and ending ------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The daemon and its clients, for as long as the block."""
        try:
            self.start_daemon()
            self._servers.start()
            self._make_clients()
            if self._has_spare:
                # What is held open for it is no leak.
                _eventually(lambda: self.box.events("spare.ready"), "a spare")
            self.settle()
            yield
        finally:
            self._end()

    def stop(self) -> None:
        """End the daemon in order, with its clients there.

        Raises:
            Violated: it does not end well, or leaves something behind.
        """
        for client in self._clients:
            client.rest()
        _eventually(self._all_rest, "clients that rest")
        self.box.process = self.living_daemons()[0]
        code = self.box.stop()
        wrong = [] if code == 0 else [f"the daemon ended with {code}"]
        for client in self._clients:
            client.end()
            client.join(20)
        with contextlib.suppress(AssertionError):
            self.box.wait_for_nobody()
        wrong += [f"left behind: {_words(process)}" for process in self.box.leftovers()]
        if (self.state_dir / "run").exists():
            wrong.append("the runtime directory is left behind")
        if wrong:
            raise Violated(wrong)
        self._await_rest(daemon_runs=False)

    def _make_clients(self) -> None:
        path = self.box.config.runtime.hub_socket_path
        socket = functools.partial(SocketLine, path)
        command = [*CODEXD, "attach", *self.box.flags]
        attach = functools.partial(AttachLine, command, self.box.env, str(self.box.root))
        self._clients = [
            *(Client(f"worker-{number}", socket) for number in range(3)),
            Client("attached", attach),
            *(IdleClient(f"idle-{number}", socket) for number in range(2)),
            PassingClient("passing", socket, self._dice),
        ]
        for client in self._clients:
            client.start()

    def _end(self) -> None:
        for timer in self._wakes:
            timer.join()
        for client in self._clients:
            client.end()
        for client in self._clients:
            client.join(20)
        for _, _, process in self._commands:
            process.kill()
            process.communicate()
        if self._servers.is_alive():
            self._servers.end()
        self.box.clean_up()
        for daemon in self._daemons:
            daemon.wait(10)
        self._model.close()

    # -- doing ---------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """`codexd start`, whatever runs already."""
        self._daemons.append(self.box.start(wait=False))

    def living_daemons(self) -> list[subprocess.Popen[bytes]]:
        """Each `codexd start` that has not ended."""
        self._daemons = [daemon for daemon in self._daemons if daemon.poll() is None]
        return self._daemons

    def find(self, victim: str) -> psutil.Process | None:
        """One of the daemon's processes, if there is one now."""
        with contextlib.suppress(psutil.Error):
            if victim == "server":
                servers = self._servers.look()
                return psutil.Process(servers[-1]) if servers else None
            if victim == SPARE:
                pid = self._find_spare()
                alive = pid is not None and pid in self._servers.look_at_all()
                return psutil.Process(pid) if alive else None
            daemons = self.living_daemons()
            if victim == "circusd":
                return psutil.Process(daemons[0].pid) if daemons else None
            return next(iter(self.plugins()), None)
        return None

    def _find_spare(self) -> int | None:
        record = self.box.read("watcher.json") if self._has_spare else None
        spare = None if record is None else record.get("spare")
        return None if spare is None else int(spare["process"]["pid"])

    def plugins(self) -> list[psutil.Process]:
        """The plugins of the daemons that run."""
        found = []
        for daemon in self.living_daemons():
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(daemon.pid).children():
                    with contextlib.suppress(psutil.Error):
                        if any("plugins.main()" in word for word in process.cmdline()):
                            found.append(process)
        return found

    def strike(self, victims: list[str], signame: str, wake_after_s: float) -> None:
        """Send a signal to some processes; those that it stops go on after a while."""
        processes = [process for process in map(self.find, victims) if process is not None]
        for process in processes:
            with contextlib.suppress(psutil.Error, OSError):
                process.send_signal(signal.Signals[signame])
                self.kills += 1
        if signame == "SIGKILL":
            with contextlib.suppress(AssertionError):
                eventually(lambda: not any(lives(process.pid) for process in processes))
        if signame == "SIGSTOP":
            for process in processes:
                timer = threading.Timer(wake_after_s, _resume, [process])
                timer.start()
                self._wakes.append(timer)

    def command(self, *arguments: str) -> None:
        """Begin a codexd command; it is waited for when the daemon settles."""
        words = [*CODEXD, arguments[0], *self.box.flags, *arguments[1:]]
        process = subprocess.Popen(
            words,
            env=self.box.env,
            cwd=self.box.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._commands.append((" ".join(arguments), time.monotonic(), process))

    def await_turns(self) -> None:
        """Wait until some clients are in the middle of a turn, as they soon are."""
        with contextlib.suppress(AssertionError):
            eventually(
                lambda: sum(bool(c.book.open_turns()) for c in self._clients) > 1, within_s=2
            )

    def await_spare(self) -> None:
        """Wait until there is one that can be promoted, as there soon is."""
        if self._has_spare:
            with contextlib.suppress(AssertionError):
                eventually(lambda: self._status()["live"]["spare"]["ready"], within_s=10)

    def await_new_server(self, other_than: int | None, within_s: float) -> None:
        """Wait until another server runs, if one comes in time."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: {*self._servers.look()} - {other_than}, within_s=within_s)

    # -- settling ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let things come to rest, and check that everything holds.

        Raises:
            Violated: with everything that does not.
        """
        for timer in self._wakes:
            timer.join()
        self._wakes.clear()
        for client in self._clients:
            client.rest()
        begun = time.monotonic()
        self._await_commands()
        now = self._hold()
        self.took = f"{time.monotonic() - begun:.1f} s"
        if self._transient:
            self.took += f", before that {self._transient[0]}"
        self._first = self._first or now
        self._server_before = now.pids["server"]
        self._cut_before = self._cut_turns()
        self.hurt.clear()
        self.may_be_stopped = False
        self._model.requests.clear()
        for client in self._clients:
            client.work()

    def _await_commands(self) -> None:
        """Wait for the commands that were begun."""
        deadline = time.monotonic() + SETTLE_S
        self._commands_s.clear()
        while self._commands:
            waiting = [entry for entry in self._commands if entry[2].poll() is None]
            for words, begun, process in self._commands:
                if process.returncode is not None:
                    self._ended(words, time.monotonic() - begun, process)
            self._commands = waiting
            if time.monotonic() > deadline:
                raise Violated([f"`codexd {words}` did not end" for words, _, _ in waiting])
            time.sleep(0.02)

    def _ended(self, words: str, took_s: float, process: subprocess.Popen[str]) -> None:
        output, _ = process.communicate()
        if "Traceback" in output:
            raise Violated([f"`codexd {words}`: {output}"])
        said = (output.strip().splitlines() or [""])[-1][-120:]
        self._commands_s[f"`codexd {words}` ({process.returncode}: {said})"] = took_s

    def _bring_up(self) -> None:
        """What a person would do: start what is dead, or what somebody has stopped."""
        _eventually(lambda: len(self.living_daemons()) < 2, "one daemon instead of two")
        deadline = time.monotonic() + 2 * SETTLE_S
        while not self._is_up():
            if time.monotonic() > deadline:
                raise Violated([f"no server, whatever is started: {self.box.errors()[-600:]}"])
            if not self.living_daemons():
                self._await_rest(daemon_runs=False)
                self.start_daemon()
            elif self._stays_stopped():
                if not self.may_be_stopped:
                    raise Violated(["the server is stopped, and nobody wanted it to be"])
                self._await_rest(daemon_runs=True)
                self.box.run("ctl", "start", "codex-app-server")
            _eventually(
                lambda: self._is_up() or self._is_stopped() or not self.living_daemons(),
                "a ready server, none for a reason, or the end of the daemon",
            )

    def _is_up(self) -> bool:
        child = self.box.child()
        return child is not None and child["ready"] and [child["pid"]] == self._servers.look()

    def _is_stopped(self) -> bool:
        state = self.box.read("daemon-state.json")
        daemons = [daemon.pid for daemon in self.living_daemons()]
        if state is None or not state["started"] or [state["pid"]] != daemons:
            return False
        # Failed for good: it died while it was being stopped.
        child = state["child"]
        is_over = child["status"] in ("stopped", "failed") and child["nextRestartAt"] is None
        return is_over and not self._servers.look()

    def _stays_stopped(self) -> bool:
        """A server that was stopped by hand, not one whose daemon is ending, or starts it anew."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self._is_stopped(), within_s=3)
        return self._is_stopped()

    def _await_rest(self, *, daemon_runs: bool) -> None:
        def look() -> list[str]:
            code = self.box.run("status", "--check").returncode
            return rest_violations(Rest(daemon_runs, self._servers.look(), self._status(), code))

        _await_none(look)

    def _status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.box.run("status", "--json").stdout)
        return document

    def _hold(self) -> Evidence:
        """What is seen once nothing is violated any more, or the time is over."""
        seen: list[Evidence] = []

        def look() -> list[str]:
            self._bring_up()
            with contextlib.suppress(AssertionError):
                eventually(self._all_rest, within_s=5)
            try:
                seen[:] = [self.look()]
            except (psutil.Error, FileNotFoundError) as error:
                # Who was told to end may do so only now.
                return [f"it changed while it was looked at: {error}"]
            return violations(seen[0], self._first or seen[0], self._without)

        self._transient = _await_none(look)
        return seen[0]

    def _all_rest(self) -> bool:
        return all(client.is_resting or client.failure for client in self._clients)

    # -- seeing --------------------------------------------------------------------------------

    def look(self) -> Evidence:
        """Everything there is to see."""
        check_code = self.box.run("status", "--check").returncode
        status = self._status()
        pids = {
            "circusd": [daemon.pid for daemon in self.living_daemons()],
            "plugin": [process.pid for process in self.plugins()],
            "server": self._servers.look(),
        }
        events = self.box.events()
        own = {what: psutil.Process(pids[what][0]) for what in ("circusd", "plugin") if pids[what]}
        return Evidence(
            pids=pids,
            events=events,
            recent=self._recent(events),
            state=self.box.read("daemon-state.json") or {},
            status=status,
            check_code=check_code,
            turns=self._turns(),
            twins=list(self._servers.twins),
            strangers=self._strangers(pids),
            waited_s={client.name: client.waited_s for client in self._clients},
            failures=self._failures(),
            commands_s=dict(self._commands_s),
            descriptors={what: process.num_fds() for what, process in own.items()},
            memory={what: process.memory_info().rss for what, process in own.items()},
            files=self._files(),
            log=self.box.errors(),
            hurt=frozenset(self.hurt),
            server_before=self._server_before,
            cut_since=sorted(self._cut_turns() - self._cut_before),
        )

    def summary(self) -> str:
        """How much there was, and how big the processes are."""
        sizes = [
            f"{what} {process.memory_info().rss >> 20} MiB, {process.num_fds()} descriptors"
            for what in ("circusd", "plugin")
            if (process := self.find(what)) is not None
        ]
        if self._has_spare:
            sizes.append(f"{len(self.box.events('child.promoted'))} promotions")
        return (
            f"{len(self._turns())} turns, {len(self._cut_turns())} of them cut; {'; '.join(sizes)}"
        )

    def _turns(self) -> list[Turn]:
        return [turn for client in self._clients for turn in list(client.book.turns.values())]

    def _cut_turns(self) -> set[str]:
        return {turn.turn_id for turn in self._turns() if turn.is_cut}

    def _recent(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """The cache, which is at most some 100 ms behind what is in the log."""

        def look() -> dict[str, Any] | None:
            recent = self.box.read("recent-events.json")
            is_late = (
                recent is None
                or not recent["events"]
                or (recent["events"][-1]["seq"] < events[-1]["seq"])
            )
            return None if is_late else recent

        with contextlib.suppress(AssertionError):
            return eventually(look, within_s=1)
        return self.box.read("recent-events.json") or {"maxEntries": 0, "events": []}

    def _failures(self) -> dict[str, str]:
        return {
            client.name: client.failure or f"has no rest: {client.doing}"
            for client in self._clients
            if client.failure or not client.is_resting
        }

    def _strangers(self, pids: dict[str, list[int]]) -> list[str]:
        """Whoever runs under this CODEX_HOME and is neither of the daemon nor of ours."""
        known = {pid for found in pids.values() for pid in found}
        spare = self._find_spare()
        known |= set() if spare is None else {spare}
        ours = {process.pid for process in psutil.Process().children(recursive=True)}
        below_server = {process.pid for pid in pids["server"] for process in _children(pid)}
        below_daemon = {process.pid for pid in pids["circusd"] for process in _children(pid)}
        allowed = known | below_server | (ours - below_daemon)
        return [
            f"{process.pid} {_words(process)}"
            for process in self.box.leftovers()
            if process.pid not in allowed and process.is_running()
        ]

    def _files(self) -> set[str]:
        """The names of the files there are; a temporary one counts if it stays."""
        before = self._inodes()
        time.sleep(0.05)
        names = {
            name
            for name, inode in self._inodes().items()
            if not name.endswith(".tmp") or before.get(name) == inode
        }
        places = os.listdir(self.state_dir / "run" / "io")
        generations = sum(name.isdigit() for name in places)
        if len(places) - generations > self._has_spare:
            names.add(f"pipes of spares: {places}")
        return names if generations == 1 else {*names, f"pipes of {generations} servers"}

    def _inodes(self) -> dict[str, int]:
        found = {}
        for top in ("state", "logs"):
            for directory, _, names in os.walk(self.box.root / top):
                for name in names:
                    path = os.path.join(directory, name)
                    with contextlib.suppress(FileNotFoundError):
                        short = os.path.relpath(path, self.box.root)
                        if not _OF_A_SPARE.search(short):
                            found[re.sub(r"/io/\d+/", "/io/N/", short)] = os.lstat(path).st_ino
        return found


def _endpoint_flags(kind: str, root: Path) -> list[str]:
    urls = {"unix": f"unix://{root / 'server.sock'}", "ws": f"ws://127.0.0.1:{free_port()}"}
    return ["--server-endpoint", urls[kind]] if kind in urls else []


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "?"


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.resume()


def _eventually(look: Callable[[], Any], what: str) -> None:
    try:
        eventually(look, within_s=SETTLE_S, what=what)
    except AssertionError:
        raise Violated([f"{what}: not within {SETTLE_S:g} s"]) from None


def _await_none(look: Callable[[], list[str]]) -> list[str]:
    """Wait until ``look`` finds nothing wrong; returns what it found last.

    Raises:
        Violated: with what it finds when the time is over.
    """
    deadline = time.monotonic() + SETTLE_S
    last: list[str] = []
    while True:
        found = look()
        if not found:
            return last
        last = found
        if time.monotonic() > deadline:
            raise Violated(found)
        time.sleep(0.1)
