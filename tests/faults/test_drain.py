"""Ending a server that has turns running."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from codexd.client.circus import running_turns
from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.faults import wait_event, wait_gone, wait_stderr
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
        self.thread = self.client.start_thread()
        model.queue.append(Reply(deltas=["working"], hold=self.may_end))
        self.client.start_turn(self.thread)
        self.client.notification("item/agentMessage/delta")

    def status(self) -> str:
        """How it ended."""
        status: str = self.client.notification("turn/completed")["turn"]["status"]
        return status


def turns(box: DaemonBox) -> int | None:
    """How many turns run, as circusd knows."""
    return running_turns(box.config.runtime)


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


@pytest.mark.real
@pytest.mark.parametrize("orders", [("restart", "stop"), ("stop", "restart")])
def test_a_stop_beside_a_restart_of_circus_as_a_whole(
    make_box: MakeBox, model: ModelServer, orders: tuple[str, str]
) -> None:
    box = make_box()
    turn = Turn(box, model)
    commands = {"restart": ("ctl", "restart"), "stop": ("stop",)}
    first = threading.Thread(target=box.run, args=commands[orders[0]])
    first.start()
    eventually(lambda: "stopping" in box.run("ctl", "status").stdout, what="a stopping child")
    second = threading.Thread(target=box.run, args=commands[orders[1]])
    second.start()
    turn.may_end.set()
    assert turn.status() == "completed"
    assert box.process is not None
    assert box.process.wait(30) == 0
    # A circusctl whose circusd is gone waits for an answer all the same, for five seconds.
    for order in (first, second):
        order.join(30)
    box.wait_for_nobody()
    assert [event["type"] for event in box.events()].count("daemon.started") == 1
    assert box.events()[-1]["type"] == "daemon.stopped"


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


def graceful_timeout(box: DaemonBox) -> str:
    """What circusd has for the child."""
    return box.run("ctl", "get", "codex-app-server", "graceful_timeout").stdout.strip()


@pytest.mark.real
def test_a_plugin_that_dies_does_not_make_a_busy_server_idle(
    make_box: MakeBox, model: ModelServer
) -> None:
    box = make_box()
    turn = Turn(box, model)
    child, plugin = box.wait_ready(), box.plugin()
    plugin.kill()
    restart = threading.Thread(target=box.run, args=("restart", "--when-idle"))
    restart.start()
    (again,) = wait_event(box, "plugin.restarted")
    # The new one tells of the turn that it did not see begin.
    assert again["detail"]["endedPid"] == plugin.pid
    eventually(lambda: turns(box) == 1, what="a plugin that knows of the turn")
    assert box.wait_ready()["pid"] == child["pid"]
    turn.may_end.set()
    restart.join(60)
    assert box.wait_ready(other_than=child["pid"])
    client = AppClient(box.config.runtime.hub_socket_path)
    (last,) = client.call("thread/resume", {"threadId": turn.thread})["thread"]["turns"]
    assert last["status"] == "completed"


@pytest.mark.real
def test_a_plugin_that_dies_while_the_daemon_ends_costs_no_turn(
    make_box: MakeBox, model: ModelServer
) -> None:
    box = make_box()
    turn = Turn(box, model)
    child, plugin = box.wait_ready(), box.plugin()
    assert box.process is not None
    box.process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in box.run("ctl", "status").stdout, what="a stopping child")
    plugin.kill()
    eventually(lambda: turns(box) == 1, what="a plugin that knows of the turn")
    assert box.wait_ready()["pid"] == child["pid"]
    turn.may_end.set()
    assert box.process.wait(30) == 0
    (ended,) = box.events("child.exited")
    assert (ended["detail"]["pid"], ended["detail"]["code"]) == (child["pid"], 0)
    assert "Traceback" not in box.errors()


@pytest.mark.real
def test_ctrl_c_says_what_it_waits_for_and_a_second_one_cuts(
    make_box: MakeBox, model: ModelServer
) -> None:
    box = make_box("--stop-timeout-ms=60000")
    turn = Turn(box, model)
    assert box.process is not None
    box.process.send_signal(signal.SIGINT)
    eventually(lambda: "waiting for 1 running turn to end" in box.errors(), what="a word of it")
    assert "60 s" in box.errors() or "59 s" in box.errors()
    box.process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    assert box.process.wait(30) == 0
    assert time.monotonic() - begun < 15
    assert "is cut" in box.errors()
    assert "Traceback" not in box.errors()
    assert "Conflict" not in box.errors()
    state = box.read("daemon-state.json")
    assert state is not None
    assert state["started"] is False
    turn.may_end.set()


@pytest.mark.real
def test_a_restart_whose_caller_is_killed_changes_no_setting(
    make_box: MakeBox, model: ModelServer
) -> None:
    box = make_box("--stop-timeout-ms=45000")
    turn = Turn(box, model)
    child = box.wait_ready()
    before = graceful_timeout(box)
    assert "45" in before
    command = [*CODEXD, "restart", "--repo-root", str(box.root), "--timeout", "50"]
    caller = subprocess.Popen(command, env=box.env, cwd=box.root, stderr=subprocess.DEVNULL)
    eventually(lambda: "stopping" in box.run("ctl", "status").stdout, what="a stopping child")
    caller.kill()
    caller.wait()
    assert graceful_timeout(box) == before
    turn.may_end.set()
    assert turn.status() == "completed"
    box.wait_ready(other_than=child["pid"])
    assert graceful_timeout(box) == before


def test_the_daemons_own_settings_decide_not_the_callers(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), "--stop-timeout-ms=45000")
    box.start()
    child, before = box.wait_ready(), graceful_timeout(box)
    others = ["--mode=exec", "--stop-timeout-ms=100", "--server-strategy=external"]
    root = ["--repo-root", str(box.root)]
    begun = time.monotonic()
    result = box.run("restart", *root, *others, "--now", flags=False)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - begun < 15
    assert "mode=app-server" in result.stdout
    assert box.wait_ready()["pid"] != child["pid"]
    assert graceful_timeout(box) == before


def test_a_daemon_that_is_told_to_end_again_and_again_ends_in_order(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    for signum in (signal.SIGTERM, signal.SIGINT) * 3:
        process = box.start()
        while process.poll() is None:
            process.send_signal(signum)
            time.sleep(0.003)
        assert process.returncode == 0, box.errors()
        state = box.read("daemon-state.json")
        assert state is not None
        assert state["started"] is False
        assert not os.path.exists(box.config.runtime.runtime_dir)
    assert "Traceback" not in box.errors()
    assert len(box.events("daemon.started")) == len(box.events("daemon.stopped")) == 6
