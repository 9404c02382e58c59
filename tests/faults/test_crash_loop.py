"""A child that keeps dying, or cannot be started at all."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox
from tests.support.faults import check_events, wait_event, wait_gone
from tests.support.stub import backoff, stub_flags
from tests.support.waiting import eventually


def _waiting(box: DaemonBox) -> bool:
    child = box.child()
    return child is not None and child["nextRestartAt"] is not None


def _status(box: DaemonBox) -> tuple[str, str | None]:
    child = box.child()
    assert child is not None
    return child["status"], child["nextRestartAt"]


def _starts(box: DaemonBox) -> list[float]:
    """When circus started each child, by its own word."""
    record = box.read("watcher.json")
    assert record is not None
    return [step["at"] for step in record["steps"] if step["kind"] == "spawned"]


def test_the_first_restart_is_immediate_and_the_next_ones_wait_longer(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3"), *backoff(200, 400))
    box.start(wait=False)
    restarts = wait_event(box, "child.restarting", count=5)
    assert restarts[0]["detail"]["delayMs"] == 0
    assert [event["detail"]["attempt"] for event in restarts[:5]] == [1, 2, 3, 4, 5]
    starts = _starts(box)
    for start, following, full in zip(starts[1:], starts[2:], (0.2, 0.4, 0.4), strict=False):
        # Less up to a quarter, and what it takes circus to look.
        assert following - start > full * 3 / 4 - 0.02
    eventually(lambda: _waiting(box), what="a child that waits")
    child = box.child()
    assert child is not None
    assert (child["ready"], child["pid"]) == (False, None)
    assert child["lastError"] == "Child exited with code 3."
    assert box.stop() == 0
    check_events(box)


def test_a_crash_loop_costs_next_to_nothing(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3"), *backoff(60_000, 60_000))
    box.start(wait=False)
    eventually(lambda: _waiting(box), what="a child that waits")
    processes = box.processes()
    before = [process.cpu_times() for process in processes]
    begun = time.monotonic()
    # Two checks of circus (every 5 s) at least fall into this time.
    eventually(lambda: time.monotonic() - begun > 2, what="time")
    used = sum(
        process.cpu_times().user + process.cpu_times().system - was.user - was.system
        for process, was in zip(processes, before, strict=True)
    )
    assert used < 0.2 * (time.monotonic() - begun)


def test_a_child_that_recovers_is_ready_and_counts_anew(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3@broken"), *backoff(50, 100))
    (box.root / "broken").touch()
    box.start(wait=False)
    wait_event(box, "child.restarting", count=3)
    (box.root / "broken").unlink()
    child = box.wait_ready()
    assert child["lastError"] is None
    ready_at = datetime.fromisoformat(child["readyAt"]).timestamp()
    eventually(lambda: time.time() - ready_at > 1.2, what="a second in which it is ready")
    os.kill(child["pid"], signal.SIGKILL)
    box.wait_ready(other_than=child["pid"])
    assert box.events("child.restarting")[-1]["detail"] == {
        **box.events("child.restarting")[-1]["detail"],
        "attempt": 1,
        "delayMs": 0,
    }


def test_it_gives_up_only_if_it_is_told_to(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3@broken"), *backoff(20, 40), "--restart-limit=3")
    (box.root / "broken").touch()
    box.start(wait=False)
    wait_event(box, "child.abandoned")
    eventually(lambda: _status(box) == ("failed", None), what="a child that was given up")
    assert len(box.events("child.started")) == 3
    (box.root / "broken").unlink()
    assert box.run("restart").returncode == 0
    assert box.wait_ready()["status"] == "running"


@pytest.mark.real
def test_a_codex_that_is_away_for_a_while_is_picked_up_again(make_box: MakeBox) -> None:
    box = make_box(*backoff(50, 200))
    config = box.config
    command = box.root / "codex"
    real = Path(os.path.realpath(_bundled()))
    command.symlink_to(real)
    box.flags += ["--server-command", str(command)]
    box.start()
    child = box.wait_ready()
    command.unlink()
    os.kill(child["pid"], signal.SIGKILL)
    failed = wait_event(box, "child.spawn.failed", count=3)
    assert str(command) in failed[0]["message"]
    command.symlink_to(real)
    again = box.wait_ready(other_than=child["pid"])
    assert again["lastError"] is None
    assert config.policy.restart == "always"


def _bundled() -> str:
    from codex_cli_bin import bundled_codex_path

    return str(bundled_codex_path())


def test_a_stop_by_hand_ends_the_waiting_and_a_start_does_not_wait(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3@broken"), *backoff(60_000, 60_000))
    (box.root / "broken").touch()
    box.start(wait=False)
    eventually(lambda: _waiting(box), what="a child that waits")
    box.order("stop")
    wait_event(box, "child.stopped")
    eventually(lambda: _status(box) == ("failed", None), what="a child that waits no more")
    (box.root / "broken").unlink()
    box.order("start")
    assert box.wait_ready()["status"] == "running"


def test_a_start_by_hand_does_not_wait_for_the_next_try(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3@broken"), *backoff(60_000, 60_000))
    (box.root / "broken").touch()
    box.start(wait=False)
    eventually(lambda: _waiting(box), what="a child that waits")
    (box.root / "broken").unlink()
    box.order("start")
    assert box.wait_ready()["status"] == "running"


def test_grandchildren_in_the_childs_group_end_with_it(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("grandchild"))
    box.start()
    child = box.wait_ready()
    (grandchild,) = psutil.Process(child["pid"]).children()
    os.kill(child["pid"], signal.SIGKILL)
    box.wait_ready(other_than=child["pid"])
    wait_gone(grandchild.pid)
