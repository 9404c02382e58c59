"""Whoever belonged to a dead server ends, and nobody else."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd.child import family
from codexd.child.family import Family, end_survivors, survivors
from codexd.encoding import encode_json
from codexd.platform.process import ProcessId, identify, newest_pid
from tests.support.faults import lives, wait_gone
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux")

# A circusd in small: the parent of a server, of a plugin, and of orphans. The server starts what
# codex does (measured on 0.163): an MCP server in a group of its own, a command in a session of
# its own, whose shell ends with the server, and a job that its command cast off on purpose.
SCENE = r"""
import ctypes, json, os, signal, sys, time
from codexd.child.family import Family
from codexd.platform.parent import adopt_orphans

libc = ctypes.CDLL(None)
report_read, report = os.pipe()

def tell(name, pid=None):
    os.write(report, f"{name} {pid or os.getpid()}\n".encode())

def fork(act):
    pid = os.fork()
    if pid == 0:
        act()
        while True:
            signal.pause()
    return pid

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def mcp():
    os.setpgid(0, 0)
    stubborn()
    fork(lambda: (os.setsid(), stubborn(), tell("mcp_helper")))
    tell("mcp")

def command():
    os.setsid()
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    fork(lambda: (stubborn(), tell("command")))

def caster():
    os.setsid()
    fork(lambda: (os.setsid(), tell("job")))
    os._exit(0)

def server():
    os.setsid()
    fork(mcp)
    fork(command)
    os.waitpid(fork(caster), 0)
    tell("server")

adopts = adopt_orphans()
helper = fork(lambda: tell("helper"))
supervised = set()
family = Family(sys.argv[1], lambda: supervised, adopts=adopts)
supervised.add(fork(lambda: tell("plugin")))
server_pid = fork(server)
supervised.add(server_pid)
told = b""
while told.count(b"\n") < 7:
    told += os.read(report_read, 1000)
pids = {name: int(pid) for name, pid in map(str.split, told.decode().splitlines())}
if "look" in sys.argv:
    family.look(server_pid)
print(json.dumps(pids), flush=True)
sys.stdin.readline()
os.kill(server_pid, signal.SIGKILL)
os.waitid(os.P_PID, server_pid, os.WEXITED | os.WNOWAIT)
# The server has died and nobody has noticed yet: its children are orphans already.
family.look(server_pid)
os.waitpid(server_pid, 0)
supervised.discard(server_pid)
begun = time.monotonic()
family.end(server_pid)
print(json.dumps(time.monotonic() - begun), flush=True)
sys.stdin.readline()
"""


class Scene:
    """The processes above, by name."""

    def __init__(self, record: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCENE, str(record), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pids: dict[str, int] = json.loads(self._line())
        self.all = [psutil.Process(pid) for pid in self.pids.values()]

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def go_on(self) -> None:
        """Have the server die and its family be ended."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert json.loads(self._line()) < 3

    def living(self) -> set[str]:
        """The names of those that live."""
        return {name for name, pid in self.pids.items() if lives(pid)}

    def clean_up(self) -> None:
        """End everything."""
        self.process.kill()
        for process in self.all:
            if process.is_running():
                process.kill()
        self.process.communicate()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "family.json"


@pytest.fixture(params=["looked", "not looked"])
def scene(request: pytest.FixtureRequest, record: Path) -> Iterator[Scene]:
    scene = Scene(record, *(["look"] if request.param == "looked" else []))
    yield scene
    scene.clean_up()


def test_what_the_server_left_ends_and_nobody_else(scene: Scene, record: Path) -> None:
    assert scene.living() == scene.pids.keys()
    scene.go_on()
    assert scene.living() == {"job", "helper", "plugin"}
    assert survivors(str(record)) == []


def test_without_its_supervisor_what_is_on_record_is_ended(record: Path) -> None:
    scene = Scene(record, "look")
    try:
        for pid in (scene.process.pid, scene.pids["server"]):
            os.kill(pid, signal.SIGKILL)
        scene.process.wait()
        wait_gone(scene.pids["server"])
        left = {"mcp", "mcp_helper", "command"}
        pids = {scene.pids[name] for name in left}
        # The shell of the command has yet to end.
        eventually(
            lambda: {process.pid for process in survivors(str(record))} == pids, what="orphans"
        )
        told: list[str] = []
        end_survivors(str(record), told.append)
        assert scene.living() & left == set()
        assert "job" in scene.living()
        (line,) = told
        assert line.startswith("ending what an earlier server left behind: ")
        end_survivors(str(record), told.append)
        assert len(told) == 1
    finally:
        scene.clean_up()


def test_whoever_has_the_pid_now_is_left_alone(record: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        other = ProcessId(bystander.pid, "another start")
        record.write_bytes(encode_json(family._Record([other])))
        end_survivors(str(record), lambda _: None)
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"members":[7]}', b"\xff"])
def test_a_record_that_cannot_be_read_is_none(record: Path, content: bytes) -> None:
    record.write_bytes(content)
    assert survivors(str(record)) == []


def test_a_list_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    path = str(directory / "family.json")
    with subprocess.Popen(
        [sys.executable, "-c", "import subprocess; subprocess.run(['cat'])"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as server:
        its = Family(path, lambda: (), adopts=False)
        while not psutil.Process(server.pid).children():
            its.look(server.pid)
        directory.mkdir()
        its.look(server.pid)
        (member,) = survivors(path)
        assert member == identify(psutil.Process(server.pid).children()[0].pid)
        server.communicate()


def test_while_nothing_is_started_anywhere_nobody_is_looked_for(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(family, "newest_pid", lambda: "70")
    with subprocess.Popen(
        [sys.executable, "-c", "import subprocess; input(); subprocess.run(['cat'])"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as server:
        its = Family(str(record), lambda: {server.pid}, adopts=False)

        def counted() -> list[int]:
            looks.append(1)
            return sorted(map(int, filter(str.isdigit, os.listdir("/proc"))))

        monkeypatch.setattr(psutil, "pids", counted)
        for _ in range(3):
            its.look(server.pid)
        assert len(looks) == 1
        # Another child is another question.
        its.look(os.getpid())
        its.look(server.pid)
        assert len(looks) == 3
        assert server.stdin is not None
        server.stdin.write(b"\n")
        server.stdin.flush()
        monkeypatch.setattr(family, "newest_pid", lambda: str(time.monotonic()))

        def size() -> int:
            its.look(server.pid)
            return its.size

        eventually(size, what="the one that was started")
        # Whoever is there may go.
        server.communicate()
        its.look(os.getpid())
        assert its.size == 0


def test_the_newest_process_is_another_one_once_one_was_started() -> None:
    before = newest_pid()
    subprocess.run(["true"], check=True)
    assert before != newest_pid()


def test_nobody_to_end_takes_no_time(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    its = Family(str(record), lambda: (), adopts=True)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as server:
        its.look(server.pid)
        server.communicate()
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    its.end(server.pid)
    assert slept == []


def test_whoever_could_not_be_looked_at_is_ended_later(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = Family(str(record), lambda: (), adopts=False)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); input()"
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as next_server,
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import subprocess, sys; subprocess.run({SELF} + [{stubborn!r}])",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as server,
    ):
        assert server.stdout is not None
        server.stdout.readline()
        (child,) = psutil.Process(server.pid).children()
        its.look(server.pid)
        server.kill()
        server.wait()
        with monkeypatch.context() as short:
            short.setattr(psutil, "pids", no_file)
            its.end(server.pid)
            its.look(next_server.pid)
        assert lives(child.pid)
        assert [left.pid for left in survivors(str(record))] == [child.pid]
        its.look(next_server.pid)
        wait_gone(child.pid)
        assert survivors(str(record)) == []
        next_server.communicate()


SELF = [sys.executable, "-c"]


def no_file() -> list[int]:
    raise OSError(errno.EMFILE, "Too many open files")
