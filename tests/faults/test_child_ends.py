"""How the end of a child is recorded when somebody stops it, or it dies while that is going on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import Any

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.faults import check_events
from tests.support.model import ModelServer, Reply
from tests.support.stub import backoff, stub_flags
from tests.support.waiting import eventually

WATCHER = "codex-app-server"


def child_of(box: DaemonBox) -> dict[str, Any]:
    child = box.child()
    assert child is not None
    return child


def is_waiting(box: DaemonBox) -> bool:
    child = box.child()
    return child is not None and child["nextRestartAt"] is not None


def test_a_daemon_stopped_while_a_failed_child_waits_leaves_it_failed(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3"), *backoff(60_000, 60_000))
    box.start(wait=False)
    eventually(lambda: is_waiting(box), what="a child that waits")
    box.stop_cleanly()
    child = child_of(box)
    assert (child["status"], child["exitCode"], child["nextRestartAt"]) == ("failed", 3, None)
    assert "code 3" in child["lastError"]
    assert " daemon=stopped child=failed " in box.run("status").stdout
    assert box.events()[-1]["type"] == "daemon.stopped"


def test_a_code_of_its_own_at_the_daemons_stop_is_a_failure_and_no_restart(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags("term_code=1"))
    box.start()
    box.stop_cleanly()
    child = child_of(box)
    assert (child["status"], child["exitCode"], child["pid"]) == ("failed", 1, None)
    assert "code 1" in child["lastError"]
    assert box.events("child.restarting") == []
    assert [event["level"] for event in box.events("child.exited")] == ["error"]


@pytest.mark.real
@pytest.mark.parametrize("whole_daemon", [False, True])
def test_a_child_that_dies_while_a_stop_waits_for_its_turns_stays_down(
    make_box: MakeBox, whole_daemon: bool
) -> None:
    model = ModelServer()
    box = make_box()
    try:
        model.write_config(box.codex_home)
        daemon = box.start()
        client = AppClient(box.config.runtime.hub_socket_path)
        thread = client.start_thread()
        model.queue.append(Reply(deltas=["working"], hold=threading.Event()))
        client.start_turn(thread)
        client.notification("item/agentMessage/delta")
        before = box.wait_ready()
        if whole_daemon:
            daemon.send_signal(signal.SIGTERM)
        else:
            stop = spawn(box, "ctl", "stop", WATCHER)
        eventually(lambda: "stopping" in box.run("ctl", "status").stdout, what="a stop")
        os.kill(before["pid"], signal.SIGKILL)
        if whole_daemon:
            assert daemon.wait(30) == 0
        else:
            assert stop.wait(30) == 0
            assert stop.communicate()[0].strip() == b"ok"
        child = eventually(lambda: ended(box), what="the end on record")
        assert (child["status"], child["signal"], child["nextRestartAt"]) == (
            "failed",
            "SIGKILL",
            None,
        )
        assert len(box.events("child.started")) == 1
        assert box.events("child.restarting") == []
        if not whole_daemon:
            box.order("start")
            box.wait_ready(other_than=before["pid"])
            assert box.events("child.restarting") == []
    finally:
        model.close()


def spawn(box: DaemonBox, command: str, *words: str) -> subprocess.Popen[bytes]:
    """Begin one codexd command."""
    return subprocess.Popen(
        [*CODEXD, command, *box.flags, *words],
        env=box.env,
        cwd=box.root,
        stdout=subprocess.PIPE,
    )


def ended(box: DaemonBox) -> dict[str, Any] | None:
    child = child_of(box)
    return child if child["pid"] is None else None


def test_no_process_where_an_operator_wants_none_and_one_again(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    box.start()
    before = box.wait_ready()
    assert box.run("ctl", "set", WATCHER, "numprocesses", "0").returncode == 0
    child = eventually(lambda: ended(box), what="the end on record")
    assert (child["status"], child["exitCode"], child["lastError"]) == ("stopped", 0, None)
    assert not psutil.pid_exists(before["pid"])
    assert box.run("ctl", "set", WATCHER, "numprocesses", "1").returncode == 0
    after = box.wait_ready(other_than=before["pid"])
    assert after["restarts"] == 1
    assert box.events("child.restarting") == []
    box.stop_cleanly()
    check_events(box)


def test_a_command_that_cannot_be_parsed_is_told_and_tried_no_more_after_a_better_one(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags(), *backoff(60_000, 60_000))
    box.start()
    before = box.wait_ready()
    box.run("ctl", "set", WATCHER, "cmd", "x 'y")
    eventually(lambda: is_waiting(box), what="a child that waits")
    child = child_of(box)
    assert (child["status"], child["lastError"]) == ("failed", "No closing quotation")
    assert box.run("ctl", "set", WATCHER, "cmd", WATCHER).returncode == 0
    box.wait_ready(other_than=before["pid"])
    box.stop_cleanly()


def test_a_plugin_that_starts_while_steps_cannot_be_written_finds_the_child(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags())
    daemon = box.start()
    before = box.wait_ready()
    # What the file is written to first: it cannot be, until these are gone.
    in_the_way = [box.state_dir / f"{dot}watcher.json.{daemon.pid}.tmp" / "x" for dot in ("", ".")]
    for path in in_the_way:
        path.mkdir(parents=True)
    os.kill(before["pid"], signal.SIGKILL)
    during = box.wait_ready(other_than=before["pid"])
    record = box.read("watcher.json")
    assert record is not None
    assert record["child"]["pid"] == before["pid"]
    plugin = box.plugin()
    plugin.kill()
    os.kill(during["pid"], signal.SIGKILL)
    after = box.wait_ready(other_than=during["pid"])
    assert after["restarts"] == 2
    for path in in_the_way:
        path.rmdir()
        path.parent.rmdir()
    eventually(lambda: child_on_file(box) == after["pid"], what="the steps in the file")
    assert box.run("status", "--check").returncode == 0
    box.stop_cleanly()
    check_events(box)


def child_on_file(box: DaemonBox) -> int | None:
    record = box.read("watcher.json")
    assert record is not None
    return record["child"]["pid"] if record["child"] else None
