"""An operator at circus's own controls: what is done there is mirrored in the files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.codex import codex_path
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

WATCHER = "codex-app-server"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonBox]:
    with daemon_box(tmp_path_factory.mktemp("ctl") / "repo") as box:
        box.start()
        yield box
        box.stop_cleanly()


def circusctl(box: DaemonBox, *words: str) -> str:
    """Run circus's own circusctl on the daemon's endpoint; what it prints."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from circus.circusctl import main; main()",
            "--endpoint",
            box.config.runtime.circus_endpoint,
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stopped(box: DaemonBox) -> dict[str, Any] | None:
    """The child's record, once it is that of a stopped one."""
    child = box.child()
    return child if child is not None and child["status"] == "stopped" else None


def test_codexd_ctl_and_circusctl_speak_to_the_same_circus(box: DaemonBox) -> None:
    expected = f"{WATCHER}: active\nplugin:codexd: active"
    assert circusctl(box, "status") == expected
    done = box.run("ctl", "status")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")
    assert str(box.wait_ready()["pid"]) in box.run("ctl", "stats", WATCHER).stdout
    assert "usage: circusctl" in box.run("ctl", "--help").stdout


def test_stop_and_start_are_mirrored(box: DaemonBox) -> None:
    before = box.wait_ready()
    seen = len(box.events())
    assert circusctl(box, "stop", WATCHER) == "ok"
    child = eventually(lambda: stopped(box), what="a stopped child")
    assert (child["pid"], child["exitCode"], child["signal"]) == (None, 0, None)
    assert (child["ready"], child["lastError"], child["nextRestartAt"]) == (False, None, None)
    assert " daemon=running child=stopped " in box.run("status").stdout
    assert box.run("status", "--check").returncode == 3

    # It stays stopped: circus's periodic look, forced here by the death of another child.
    plugin = box.plugin()
    plugin.kill()
    eventually(lambda: _is_other(box.plugin(), plugin), what="another plugin")
    assert circusctl(box, "status", WATCHER) == "stopped"
    assert stopped(box)

    assert circusctl(box, "start", WATCHER) == "ok"
    after = box.wait_ready(other_than=before["pid"])
    assert after["restarts"] == before["restarts"] + 1
    kinds = ("child.exited", "child.restarting", "child.started", "child.ready", "child.stopped")
    events = [event for event in box.events()[seen:] if event["type"] in kinds]
    assert [event["type"] for event in events] == ["child.exited", "child.started", "child.ready"]
    assert events[0]["level"] == "info"


@pytest.mark.parametrize("command", ["restart", "reload", "kill"])
def test_a_restart_by_hand_is_no_failure(box: DaemonBox, command: str) -> None:
    before = box.wait_ready()
    seen = len(box.events())
    assert circusctl(box, command, WATCHER) == "ok"
    after = box.wait_ready(other_than=before["pid"])
    assert after["restarts"] == before["restarts"] + 1
    assert not psutil.pid_exists(before["pid"])
    levels = {event["type"]: event["level"] for event in box.events()[seen:]}
    assert levels["child.exited"] == "info"
    assert "child.restarting" not in levels


def test_a_signal_by_hand_is_recorded_and_no_failure(box: DaemonBox) -> None:
    before = box.wait_ready()
    seen = len(box.events())
    assert circusctl(box, "signal", WATCHER, "kill") == "ok"
    after = box.wait_ready(other_than=before["pid"])
    assert after["lastError"] is None
    (exited,) = [event for event in box.events()[seen:] if event["type"] == "child.exited"]
    assert (exited["level"], exited["detail"]["signal"]) == ("info", "SIGKILL")


def test_there_is_never_a_second_child(box: DaemonBox) -> None:
    before = box.wait_ready()
    assert "Singleton" in circusctl(box, "incr", WATCHER)
    assert "Singleton" in box.run("ctl", "set", WATCHER, "numprocesses", "2").stderr
    assert circusctl(box, "numprocesses", WATCHER) == "1"
    assert box.wait_ready()["pid"] == before["pid"]


def test_another_command_is_mirrored(box: DaemonBox) -> None:
    before = box.wait_ready()
    command = f"{shlex.quote(codex_path())} app-server -c 'model=\"a b\"'"
    # Circus restarts the child for it.
    assert circusctl(box, "set", WATCHER, "cmd", command) == "ok"
    after = box.wait_ready(other_than=before["pid"])
    assert after["command"] == codex_path()
    assert after["args"] == ["app-server", "-c", 'model="a b"']
    assert psutil.Process(after["pid"]).cmdline()[1:] == after["args"]
    assert circusctl(box, "set", WATCHER, "cmd", "codex-app-server") == "ok"
    plain = box.wait_ready(other_than=after["pid"])
    assert plain["args"] == ["app-server"]
    assert circusctl(box, "set", WATCHER, "args", "app-server -c model=x") == "ok"
    after = box.wait_ready(other_than=plain["pid"])
    assert after["args"] == ["app-server", "-c", "model=x"]
    assert psutil.Process(after["pid"]).exe() == os.path.realpath(codex_path())
    # A time to stop is circus's own business and changes no record.
    assert circusctl(box, "set", WATCHER, "graceful_timeout", "7") == "ok"
    assert "graceful_timeout: 7" in circusctl(box, "options", WATCHER)
    assert box.wait_ready()["pid"] == after["pid"]


def test_reading_the_ini_anew_loses_nothing(box: DaemonBox) -> None:
    before = box.wait_ready()
    plugin = box.plugin()
    ini = Path(box.config.runtime.circus_ini_path)
    text = ini.read_text("utf-8")
    ini.write_text(re.sub("(?m)^graceful_timeout = .*", "graceful_timeout = 29", text, count=1))
    assert circusctl(box, "reloadconfig") == "ok"
    box.wait_ready(other_than=before["pid"])
    eventually(lambda: _is_other(box.plugin(), plugin), what="another plugin")
    after = box.wait_ready(other_than=before["pid"])
    assert after["restarts"] == before["restarts"] + 1
    events = box.events()
    exited = [event["detail"]["pid"] for event in events if event["type"] == "child.exited"]
    started = [event["detail"]["pid"] for event in events if event["type"] == "child.started"]
    assert exited == started[:-1]
    assert started[-1] == after["pid"]
    assert len(box.events("daemon.started")) == 1
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells of changes elsewhere")
def test_a_restart_of_everything_leaves_nothing_of_the_one_before(box: DaemonBox) -> None:
    assert box.process is not None
    before, watched = box.wait_ready(), _directory_watches(box.process.pid)
    assert watched
    assert circusctl(box, "restart") == "ok"
    box.wait_ready(other_than=before["pid"])
    assert _directory_watches(box.process.pid) == watched


def _directory_watches(pid: int) -> int:
    opened = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return opened.count("anon_inode:inotify")


def test_quit_ends_the_daemon_well(make_box: MakeBox) -> None:
    box = make_box()
    process = box.start()
    box.note_processes()
    assert box.run("ctl", "quit").returncode == 0
    assert process.wait(30) == 0
    box.wait_for_nobody()
    assert box.output().splitlines()[-2] == "codexd stopped"
    assert box.events()[-1]["type"] == "daemon.stopped"
    assert stopped(box)
    refused = box.run("ctl", "status")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"codexd: No codexd runs on {box.state_dir}: start it with `codexd start`."
    ]


def test_the_controls_are_for_this_user_alone(box: DaemonBox) -> None:
    for option in ("endpoint", "pubsub_endpoint"):
        assert circusctl(box, "globaloptions", option).startswith(f"{option}: ipc://")
    # No process of the daemon listens on the network.
    listening = [
        connection
        for process in box.processes()
        for connection in process.net_connections(kind="inet")
    ]
    assert listening == []


def _is_other(now: psutil.Process, before: psutil.Process) -> bool:
    return bool(now.pid != before.pid)


def test_a_kill_is_not_held_up_by_a_turn_that_runs(make_box: MakeBox) -> None:
    model = ModelServer()
    box = make_box()
    try:
        model.write_config(box.codex_home)
        box.start()
        client = AppClient(box.config.runtime.hub_socket_path)
        thread = client.start_thread()
        model.queue.append(Reply(deltas=["working"], hold=threading.Event()))
        client.start_turn(thread)
        client.notification("item/agentMessage/delta")
        before = box.wait_ready()
        circusctl(box, "kill", WATCHER, "--signum", "9")
        assert client.notification("turn/completed")["turn"]["status"] == "interrupted"
        box.wait_ready(other_than=before["pid"])
        assert box.events("child.exited")[-1]["detail"]["signal"] == "SIGKILL"
    finally:
        model.close()
