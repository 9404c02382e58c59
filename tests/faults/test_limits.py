"""Open files: the child's limit, and a child that has none left."""

from __future__ import annotations

import resource

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.faults import check_sound, wait_event, wait_stderr
from tests.support.stub import stub_flags


@pytest.mark.real
def test_the_child_may_open_many_files(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    soft, _ = psutil.Process(box.wait_ready()["pid"]).rlimit(psutil.RLIMIT_NOFILE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (min(65_536, hard) if hard != resource.RLIM_INFINITY else 65_536)


def test_the_limit_is_a_setting_and_never_more_than_there_is(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), "--child-nofile=300")
    box.start()
    assert psutil.Process(box.wait_ready()["pid"]).rlimit(psutil.RLIMIT_NOFILE)[0] == 300
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        greedy = make_box(*stub_flags(), f"--child-nofile={hard * 2}", name="greedy")
        greedy.start()
        limit = psutil.Process(greedy.wait_ready()["pid"]).rlimit(psutil.RLIMIT_NOFILE)[0]
        assert limit == hard


def test_a_child_with_no_file_left_is_still_supervised(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exhaust"), "--child-nofile=64")
    box.start()
    wait_stderr(box, "no descriptor left")
    assert box.wait_ready()["restarts"] == 0
    assert box.stop() == 0


def test_a_server_that_has_grown_too_big_is_replaced(make_box: MakeBox) -> None:
    # Only the first one eats.
    box = make_box(*stub_flags("eat=200@-hungry"), "--server-max-memory-mb=150")
    (box.root / "hungry").touch()
    box.start()
    big = box.wait_ready()["pid"]
    (event,) = wait_event(box, "child.recycling")
    assert event["detail"]["pid"] == big
    assert event["detail"]["residentBytes"] > 200 << 20
    assert event["detail"]["limitBytes"] == 150 << 20
    assert check_sound(box, other_than=big)["restarts"] == 1
    after = [entry["type"] for entry in box.events() if entry["seq"] > event["seq"]]
    wanted = ["child.exited", "child.started", "child.ready"]
    assert [kind for kind in after if kind in wanted] == wanted
    box.stop_cleanly()
