"""Ending a server that has turns running."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.faults import wait_gone, wait_stderr
from tests.support.model import ModelServer, Reply
from tests.support.stub import stub_flags
from tests.support.waiting import eventually


@pytest.fixture
def model() -> object:
    server = ModelServer()
    yield server
    server.close()


class Turn:
    """A turn on the real codex that runs until it is told to end."""

    def __init__(self, box: DaemonBox, model: ModelServer) -> None:
        self.may_end = threading.Event()
        model.write_config(box.codex_home)
        box.start()
        self.client = AppClient(box.config.runtime.hub_socket_path)
        thread = self.client.start_thread()
        model.queue.append(Reply(deltas=["working"], hold=self.may_end))
        self.client.start_turn(thread)
        self.client.notification("item/agentMessage/delta")

    def status(self) -> str:
        """How it ended."""
        status: str = self.client.notification("turn/completed")["turn"]["status"]
        return status


@pytest.mark.real
def test_a_restart_lets_the_turn_end(make_box: MakeBox, model: ModelServer) -> None:
    box = make_box()
    turn = Turn(box, model)
    child = box.wait_ready()
    restart = threading.Thread(target=box.run, args=("restart",))
    restart.start()
    eventually(lambda: "stopping" in box.run("ctl", "status").stdout, what="a stopping child")
    assert box.wait_ready()["pid"] == child["pid"]
    turn.may_end.set()
    assert turn.status() == "completed"
    restart.join(60)
    assert box.wait_ready(other_than=child["pid"])["status"] == "running"
    assert box.events("child.exited")[-1]["detail"]["code"] == 0


@pytest.mark.real
def test_now_does_not_wait(make_box: MakeBox, model: ModelServer) -> None:
    box = make_box()
    turn = Turn(box, model)
    child = box.wait_ready()
    result = box.run("restart", "--now")
    assert result.returncode == 0, result.stderr
    assert turn.status() == "interrupted"
    assert box.wait_ready(other_than=child["pid"])
    again = box.run("ctl", "options", "codex-app-server")
    assert "graceful_timeout: 30" in again.stdout
    turn.may_end.set()


@pytest.mark.real
def test_when_idle_waits_for_the_turn_and_says_so(make_box: MakeBox, model: ModelServer) -> None:
    box = make_box()
    turn = Turn(box, model)
    child = box.wait_ready()
    late = box.run("restart", "--when-idle", "--timeout", "0.3")
    assert late.returncode == 1
    assert "--now" in late.stderr
    assert late.stderr.count("\n") == 1
    assert box.wait_ready()["pid"] == child["pid"]
    turn.may_end.set()
    assert turn.status() == "completed"
    assert box.run("restart", "--when-idle").returncode == 0
    assert box.wait_ready(other_than=child["pid"])


@pytest.mark.real
def test_stop_lets_the_turn_end_up_to_a_time(make_box: MakeBox, model: ModelServer) -> None:
    box = make_box()
    turn = Turn(box, model)
    begun = time.monotonic()
    result = box.run("stop", "--timeout", "0.5")
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - begun < 20
    child = box.child()
    assert child is not None
    assert child["status"] == "stopped"
    turn.may_end.set()


def test_a_child_that_takes_its_time_gets_it_and_its_last_words_are_kept(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags("slow_term=1"))
    box.start()
    assert box.stop() == 0
    wait_stderr(box, "ended in order")
    child = box.child()
    assert child is not None
    assert (child["status"], child["exitCode"]) == ("stopped", 0)


def test_a_child_that_ignores_sigterm_is_killed_after_the_stop_timeout(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags("ignore_term"), "--stop-timeout-ms=300")
    box.start()
    pid = box.wait_ready()["pid"]
    assert box.stop() == 0
    wait_gone(pid)
    child = box.child()
    assert child is not None
    assert (child["status"], child["signal"]) == ("stopped", "SIGKILL")


def test_stop_during_a_start(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    process = box.start(wait=False)
    eventually(lambda: box.events("daemon.started"), what="a daemon")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0, box.errors()
    state = box.read("daemon-state.json")
    assert state is not None
    assert state["started"] is False
    assert state["child"]["status"] in ("stopped", "idle")
    box.wait_for_nobody()


def test_twice_at_once(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    one, two = box.start(wait=False), box.start(wait=False)
    loser = eventually(
        lambda: next((entry for entry in (one, two) if entry.poll() is not None), None),
        what="the end of one of two",
    )
    winner = two if loser is one else one
    assert loser.returncode == 1
    assert str(winner.pid) in (box.root / "start.err").read_text()
    box.process = winner
    assert box.wait_ready()["restarts"] == 0
