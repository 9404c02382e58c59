"""A child that is about to end finishes its turns and refuses whatever is new."""

from __future__ import annotations

import pytest

from codexd.hub import window
from codexd.hub.hub import HubLimits
from tests.support.hub import HubRig

DRAINING = {
    "code": -32600,
    "message": "Server is draining; retry after reconnecting",
    "data": {"reason": "serverShuttingDown"},
}


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig(HubLimits(wait_s=60))
    rig.connect(1)
    rig.open_thread(1)
    return rig


def test_what_it_refuses_goes_to_the_next_child_once(rig: HubRig) -> None:
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", error=DRAINING)
    assert not rig.answers(1, request)
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume", "turn/start"]
    rig.answer("turn/start", {"turn": {"id": "u1", "items": [], "status": "inProgress"}})
    assert rig.answers(1, request)[0]["result"]["turn"]["id"] == "u1"


def test_it_is_not_waited_for_for_ever(rig: HubRig) -> None:
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", error=DRAINING)
    rig.lose()
    rig.tick(61)
    assert rig.answers(1, request)[0]["error"]["data"]["codexd"]["reason"] == "away"


def test_a_thread_that_it_does_not_resume_is_not_lost(rig: HubRig) -> None:
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", error=DRAINING)
    assert not rig.got(1, "thread/closed")
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert rig.hub.snapshot()["server"] == "up"
    assert rig.hub.snapshot()["activeSessions"] == 1


def test_another_error_is_the_clients(rig: HubRig) -> None:
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", error={"code": -32600, "message": "serverShuttingDown"})
    assert rig.answers(1, request)[0]["error"]["message"] == "serverShuttingDown"


def _turns(rig: HubRig) -> int:
    return len([entry for entry in rig.to_child if entry["method"] == "turn/start"])


@pytest.mark.parametrize("when", ["its thread is resumed", "the link is made again"])
def test_a_drain_that_begins_during_a_recovery_holds_new_turns_all_the_same(
    rig: HubRig, when: str
) -> None:
    rig.lose()
    rig.to_child.clear()
    if when == "its thread is resumed":
        rig.ready()
        request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
        rig.hub.drain()
    else:
        rig.ready("t1", same_child=True)
        rig.hub.drain()
        rig.lose()
        request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
        rig.ready("t1", same_child=True)
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert _turns(rig) == 0
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert _turns(rig) == 1
    rig.answer("turn/start", {"turn": {"id": "u1"}})
    assert "result" in rig.answers(1, request)[0]


def test_a_turn_that_has_only_waited_for_its_place_is_held_too(rig: HubRig) -> None:
    for _ in range(window.ONE_CLIENT):
        rig.ask(1, "command/exec", {"command": ["x"]})
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    assert _turns(rig) == 0
    rig.hub.drain()
    for entry in list(rig.to_child):
        rig.child({"id": entry["id"], "result": {}})
    assert _turns(rig) == 0
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    rig.answer("turn/start", {"turn": {"id": "u1"}})
    assert "result" in rig.answers(1, request)[0]
