"""A child that is there and does not answer, and those that only seem so."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.faults import check_events, freeze, wait_event, wait_stderr
from tests.support.stub import quick_health, stub_flags
from tests.support.waiting import eventually


@pytest.mark.real
def test_a_real_codex_that_is_stopped_is_replaced(make_box: MakeBox) -> None:
    box = make_box(*quick_health())
    box.start()
    child = box.wait_ready()
    freeze(psutil.Process(child["pid"]))
    again = box.wait_ready(other_than=child["pid"])
    assert not psutil.pid_exists(child["pid"])
    assert again["restarts"] == 1
    kinds = [event["type"] for event in box.events() if event["type"].startswith("child.")]
    order = [kinds.index(kind) for kind in ("child.unhealthy", "child.exited", "child.restarting")]
    assert order == sorted(order)
    assert box.stop() == 0
    check_events(box)


def test_a_child_that_stops_answering_is_replaced_even_if_it_ignores_sigterm(
    make_box: MakeBox,
) -> None:
    box = make_box(
        *stub_flags("hang@-once", "ignore_term"), *quick_health(), "--stop-timeout-ms=200"
    )
    (box.root / "once").touch()
    box.start()
    unhealthy = wait_event(box, "child.unhealthy")
    assert "did not answer" in unhealthy[0]["message"]
    child = box.wait_ready(other_than=unhealthy[0]["detail"]["pid"])
    assert child["restarts"] == 1
    assert box.events("child.exited")[0]["detail"]["signal"] == "SIGKILL"


def test_a_child_that_never_answers_at_all_is_replaced(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("mute@-once"), *quick_health(), "--ready-timeout-ms=400")
    (box.root / "once").touch()
    box.start(wait=False)
    wait_event(box, "child.unhealthy")
    assert box.wait_ready()["restarts"] == 1


def test_a_child_that_is_busy_but_talks_is_left_alone(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("busy=1.5"), *quick_health())
    box.start()
    wait_stderr(box, "busy no more")
    assert box.events("child.unhealthy") == []
    child = box.wait_ready()
    assert child["restarts"] == 0


def test_a_plugin_that_was_stopped_does_not_blame_the_child(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), *quick_health())
    box.start()
    child = box.wait_ready()
    plugin = box.plugin()
    other = make_box(*stub_flags("hang"), *quick_health(), name="other")
    other.start()
    seen = len(wait_event(other, "child.unhealthy"))
    freeze(plugin)
    # Longer than all the checks that a hung child gets, and less than a hung plugin does.
    wait_event(other, "child.unhealthy", count=seen + 1)
    os.kill(plugin.pid, signal.SIGCONT)
    assert box.run("ctl", "signal", "codex-app-server", "cont").returncode == 0
    assert box.wait_ready()["pid"] == child["pid"]
    assert box.events("child.unhealthy") == []


@pytest.mark.parametrize("word", ["close_stdout", "close_stdin"])
def test_a_child_that_hangs_up_is_replaced(make_box: MakeBox, word: str) -> None:
    box = make_box(*stub_flags(f"{word}@-once"), *quick_health())
    (box.root / "once").touch()
    box.start(wait=False)
    first = wait_event(box, "child.started", count=2)[0]
    child = box.wait_ready(other_than=first["detail"]["pid"])
    assert child["restarts"] >= 1
    assert box.stop() == 0
    check_events(box)


def test_ready_means_that_a_request_is_answered_now(make_box: MakeBox) -> None:
    # So many misses are allowed that it is not replaced.
    box = make_box(*stub_flags(), *quick_health(misses=1000))
    box.start()
    child = box.wait_ready()
    assert box.run("status", "--check").returncode == 0
    freeze(psutil.Process(child["pid"]))
    eventually(lambda: box.run("status", "--check").returncode == 3, what="a word of it")
    os.kill(child["pid"], signal.SIGCONT)
    eventually(lambda: box.run("status", "--check").returncode == 0, what="a server that answers")
    assert box.wait_ready()["pid"] == child["pid"]
