"""`codexd start` in the foreground, on the real codex."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from codexd.circus_ext import early
from tests.conftest import MakeBox
from tests.support.codex import codex_path
from tests.support.daemon import CODEXD, DaemonBox, daemon_box
from tests.support.settled import settled
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonBox]:
    with daemon_box(tmp_path_factory.mktemp("start") / "repo") as box:
        box.start()
        eventually(lambda: box.output(), what="the status line")
        yield box
        box.stop_cleanly()


def test_every_directory_and_file_is_for_this_user_alone(box: DaemonBox) -> None:
    places = [box.state_dir, box.logs_dir, Path(box.config.runtime.runtime_dir)]
    found = {place: place.stat().st_mode & 0o777 for place in places}
    assert set(found.values()) == {0o700}, found
    names = set()
    for path in settled(*places):
        names.add(path.name)
        expected = 0o700 if path.is_dir() else 0o600
        # What is no regular file (a socket) is closed to others in any case.
        mode = path.stat().st_mode & (0o777 if path.is_file() or path.is_dir() else 0o077)
        assert mode == (expected if path.is_file() or path.is_dir() else 0), path
    assert {"identity.json", "daemon-state.json", "events.jsonl", "stderr.log"} <= names
    assert {"circus.ini", "circus.sock", "codexd.sock", "stdin"} <= names


def test_the_status_line_is_printed_once(box: DaemonBox) -> None:
    identity = box.read("identity.json")
    assert identity is not None
    (line,) = box.output().splitlines()
    assert line.startswith(
        f"identity={identity['daemonId']} node=mini-main daemon=running child=running "
        "strategy=spawn mode=app-server endpoint=stdio://codex-app-server sessions=0 recent_events="
    )
    eventually(lambda: box.errors() == "codexd: the server is ready\n\n", what=box.errors())


def test_the_child_is_codex_itself_below_the_daemon(box: DaemonBox) -> None:
    assert box.process is not None
    child = box.wait_ready()
    process = psutil.Process(child["pid"])
    assert process.ppid() == box.process.pid
    assert os.path.samefile(process.exe(), codex_path())
    assert process.cwd() == str(box.root)
    assert process.environ()["BAA_CODEXD_SERVER_ENDPOINT"] == "stdio://codex-app-server"
    assert (child["command"], child["args"]) == ("codex", ["app-server"])


def test_the_plugin_began_to_load_before_circus_was_there(box: DaemonBox) -> None:
    plugin = box.plugin()
    assert early.VARIABLE in plugin.environ()
    assert plugin.cwd() == "/"
    assert plugin.ppid() == box.started[0].pid
    # A session of its own: what a terminal sends goes to the daemon, which ends its plugin.
    assert os.getsid(plugin.pid) == plugin.pid
    null = {os.readlink(f"/proc/{plugin.pid}/fd/{number}") for number in range(3)}
    assert null == {os.devnull}


def test_the_state_is_that_of_a_running_daemon(box: DaemonBox) -> None:
    assert box.process is not None
    state = box.read("daemon-state.json")
    assert state is not None
    assert (state["started"], state["stoppedAt"]) == (True, None)
    assert state["pid"] == box.process.pid
    child = state["child"]
    assert child["status"] == "running"
    assert child["startedAt"] <= child["readyAt"]
    for key in ("exitedAt", "exitCode", "signal", "lastError", "nextRestartAt"):
        assert child[key] is None, key


def test_a_second_start_names_the_first(box: DaemonBox) -> None:
    assert box.process is not None
    before = box.read("daemon-state.json")
    for how in ([], ["--detach"], ["--run-once"]):
        second = box.run("start", *how)
        assert second.returncode == 1
        assert second.stdout == ""
        (line,) = second.stderr.splitlines()
        assert f"already runs on {box.state_dir}, as pid {box.process.pid}" in line
    assert box.read("daemon-state.json") == before


def test_a_killed_child_is_ready_again_without_a_pause(box: DaemonBox) -> None:
    before = box.wait_ready()
    seen = len(box.events())
    os.kill(before["pid"], signal.SIGKILL)
    after = box.wait_ready(other_than=before["pid"])
    assert after["restarts"] == before["restarts"] + 1
    assert (after["signal"], after["lastError"]) == (None, None)

    types = ["child.exited", "child.restarting", "child.started", "child.ready"]
    events = [event for event in box.events()[seen:] if event["type"] in types]
    assert [event["type"] for event in events] == types
    exited, restarting, started, ready = (event["detail"] for event in events)
    assert (exited["code"], exited["signal"]) == (None, "SIGKILL")
    assert exited["pid"] == before["pid"]
    assert (restarting["attempt"], restarting["delayMs"]) == (1, 0)
    assert (started["command"], started["args"]) == ("codex", ["app-server"])
    assert ready["pid"] == after["pid"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well_with_the_final_state(
    make_box: MakeBox, signum: signal.Signals
) -> None:
    box = make_box()
    process = box.start()
    pid = box.wait_ready()["pid"]
    process.send_signal(signum)
    assert process.wait(30) == 0
    box.wait_for_nobody()

    state = box.read("daemon-state.json")
    assert state is not None
    assert (state["started"], state["pid"]) == (False, None)
    assert state["stoppedAt"] >= state["startedAt"]
    child = state["child"]
    assert (child["status"], child["exitCode"], child["signal"]) == ("stopped", 0, None)
    assert (child["pid"], child["ready"], child["lastError"]) == (None, False, None)
    ended = [event["type"] for event in box.events()][-2:]
    assert ended == ["child.exited", "daemon.stopped"]
    assert box.events("child.exited")[0]["detail"]["pid"] == pid
    lines = box.output().splitlines()
    assert lines[-2] == f"codexd stopped after {signum.name}"
    assert " daemon=stopped child=stopped " in lines[-1]
    assert not Path(box.config.runtime.runtime_dir).exists()


@pytest.mark.parametrize("moment", ["daemon.started", "child.started", "child.ready"])
def test_a_signal_in_the_middle_of_the_start_ends_it_well(make_box: MakeBox, moment: str) -> None:
    box = make_box()
    process = box.start(wait=False)
    eventually(lambda: box.events(moment), what=moment)
    process.terminate()
    assert process.wait(30) == 0
    box.wait_for_nobody()
    assert box.events()[-1]["type"] == "daemon.stopped"
    state = box.read("daemon-state.json")
    assert state is not None
    assert (state["started"], state["child"]["status"]) == (False, "stopped")
    assert " daemon=stopped child=stopped " in box.output().splitlines()[-1]
    assert "Traceback" not in box.errors()


def test_json_is_printed_once_the_child_is_ready(make_box: MakeBox) -> None:
    box = make_box()
    box.start("--json")
    document = eventually(lambda: _parsed(box.output()), what="JSON")
    assert document["daemon"]["child"]["ready"] is True
    assert document["live"]["childPid"] == box.wait_ready()["pid"]
    box.stop_cleanly()
    assert _parsed(box.output()) == document


def test_a_daemon_goes_on_where_the_last_one_ended(make_box: MakeBox) -> None:
    box = make_box()
    first = box.run("start", "--run-once")
    assert first.returncode == 0
    assert first.stderr == ""
    (line,) = first.stdout.splitlines()
    assert " daemon=stopped child=stopped " in line
    identity = box.read("identity.json")

    # Without a subcommand, it is `start`.
    second = box.launch(*CODEXD, *box.flags, "--run-once", "--json")
    assert second.wait(30) == 0
    document = json.loads(box.output())
    assert document["identity"] == identity
    assert document["daemon"]["started"] is False
    events = box.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    kept = ("daemon.started", "child.started", "child.ready", "child.exited", "daemon.stopped")
    assert [event["type"] for event in events if event["type"] in kept] == [*kept, *kept]
    box.wait_for_nobody()


def _parsed(text: str) -> Any:
    return json.loads(text) if text.endswith("}\n") else None
