"""`codexd status` looks, believes no dead process, and writes nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.settled import settled
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonBox]:
    with daemon_box(tmp_path_factory.mktemp("status") / "repo") as box:
        box.start()
        box.wait_quiet()
        yield box
        box.stop_cleanly()


def test_it_looks_at_a_directory_that_never_saw_a_daemon(make_box: MakeBox) -> None:
    box = make_box()
    done = box.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "identity=none node=mini-main daemon=stopped child=idle strategy=spawn mode=app-server "
        "endpoint=stdio://codex-app-server sessions=0 recent_events=0 "
        f"logs_dir={box.logs_dir} state_dir={box.state_dir}\n"
    )
    assert box.run("status", "--check").returncode == 3
    document = json.loads(box.run("status", "--json").stdout)
    assert document["identity"] is None
    assert document["daemon"]["started"] is False
    assert {path.name for path in box.root.iterdir()} == {"codex-home"}


def test_it_tells_what_runs(box: DaemonBox) -> None:
    assert box.process is not None
    child = box.wait_ready()
    line = box.run("status").stdout
    assert " daemon=running child=running " in line
    assert f" recent_events={len(box.events())} " in line
    assert box.run("status", "--check").returncode == 0
    document = json.loads(box.run("status", "--json", "--check").stdout)
    assert list(document) == [
        "config",
        "identity",
        "daemon",
        "sessionRegistry",
        "recentEvents",
        "live",
    ]
    assert document["config"] == json.loads(box.run("config", "--json").stdout)
    assert document["daemon"] == box.read("daemon-state.json")
    assert document["identity"] == box.read("identity.json")
    assert document["sessionRegistry"] == box.read("session-registry.json")
    assert document["recentEvents"]["events"] == box.events()[-50:]
    live = document["live"]
    assert (live["daemonPid"], live["childPid"]) == (box.process.pid, child["pid"])
    assert (live["daemonAlive"], live["childAlive"], live["binaryChanged"]) == (True, True, False)
    assert live["hub"]["ready"] is True


def test_it_writes_nothing(box: DaemonBox) -> None:
    # Alone for three seconds, codexd introduces itself to the server, notes that, and asks it.
    eventually(
        lambda: json.loads(box.run("status", "--json").stdout)["live"]["account"],
        what="the account",
    )
    before = _files(box)
    for words in ((), ("--json",), ("--check",)):
        assert box.run("status", *words).returncode == 0
    assert _files(box) == before


def test_it_believes_no_dead_daemon(make_box: MakeBox) -> None:
    box = make_box()
    daemon = box.start()
    box.note_processes()
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(10)
    box.wait_for_nobody()
    # The plugin may have had no time for a last word: the files may still say that all is well.
    before = _files(box)
    done = box.run("status", "--check")
    assert done.returncode == 3
    assert " daemon=stopped child=failed " in done.stdout
    document = json.loads(box.run("status", "--json").stdout)
    assert (document["daemon"]["started"], document["daemon"]["pid"]) == (False, None)
    child = document["daemon"]["child"]
    assert (child["pid"], child["ready"]) == (None, False)
    assert (document["live"]["daemonAlive"], document["live"]["childAlive"]) == (False, False)
    assert _files(box) == before


def test_it_believes_no_dead_child_while_nobody_writes(make_box: MakeBox) -> None:
    # A daemon that is stopped (a debugger, a suspended machine) records nothing.
    box = make_box()
    box.start()
    child = box.wait_ready()
    plugin = box.plugin()
    assert box.process is not None
    box.process.send_signal(signal.SIGSTOP)
    plugin.suspend()
    try:
        os.kill(child["pid"], signal.SIGKILL)
        eventually(lambda: " child=failed " in box.run("status").stdout, what="the truth")
        assert box.run("status", "--check").returncode == 3
        recorded = box.child()
        assert recorded is not None
        assert recorded["status"] == "running"
    finally:
        plugin.resume()
        box.process.send_signal(signal.SIGCONT)
    box.wait_ready(other_than=child["pid"])
    box.stop_cleanly()


def test_mode_exec_is_told_by_the_daemon_not_by_flags(make_box: MakeBox) -> None:
    box = make_box()
    code = "import time; time.sleep(600)"
    args = ("--server-command", sys.executable, "--server-arg=-c", f"--server-arg={code}")
    box.start("--mode", "exec", *args, wait=False)
    eventually(lambda: box.output(), what="the status line")
    assert box.run("status", "--check").returncode == 0
    box.stop_cleanly()
    assert box.run("status", "--check").returncode == 3


def _files(box: DaemonBox) -> dict[Path, tuple[int, int]]:
    found = {}
    for path in settled(box.root):
        if path.is_file():
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_ino)
    # circusd writes down what the server has started, whenever that changes.
    return {
        path: found[path]
        for path in found
        if "codex-home" not in path.parts and path.name != "family.json"
    }
