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


def test_what_it_refuses_of_one_that_has_left_is_dropped(rig: HubRig) -> None:
    rig.connect(2)
    rig.join_thread(2)
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.leave(1)
    rig.answer("turn/start", error=DRAINING)
    # As are requests of the hub's own: the next child is asked whatever there is to ask.
    rig.answer("thread/read", error=DRAINING)
    assert rig.hub.snapshot()["waitingRequests"] == 0
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume"]


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


def test_the_resume_that_it_refuses_is_tried_again_while_it_lives(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.lose()
    rig.ready("t1", same_child=True)
    rig.answer("thread/resume", error=DRAINING)
    request = rig.ask(1, "turn/interrupt", {"threadId": "t1", "turnId": "u1"})
    assert rig.hub.turns is None
    for _ in range(15):
        rig.tick(1)
        rig.answer("thread/resume", error=DRAINING)
    # It waits for the next one as long as for one that is away.
    assert not rig.answers(1, request)
    rig.tick(16)
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert rig.asked("turn/interrupt")


def test_what_it_refuses_to_say_of_a_thread_that_nobody_uses_is_not_waited_for(rig: HubRig) -> None:
    rig.leave(1)
    rig.lose()
    rig.ready("t1", same_child=True)
    assert rig.hub.turns is None
    rig.answer("thread/resume", error=DRAINING)
    rig.tick(1)
    assert rig.hub.turns == 0


def test_a_resume_of_one_that_has_left_leaves_nothing(rig: HubRig) -> None:
    rig.connect(2)
    rig.ask(2, "thread/resume", {"threadId": "t2"})
    rig.leave(2)
    rig.answer("thread/resume", error=DRAINING)
    assert rig.hub.snapshot()["threads"] == 1


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


def test_a_drain_that_begins_while_threads_are_resumed_holds_new_turns(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.ready("t1", same_child=True)
    rig.hub.drain()
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert rig.hub.server == "up"
    assert rig.hub.holds_turns
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume"]
    assert not rig.answers(1, request)
    # Whatever is no turn goes on.
    rig.ask(1, "model/list")
    assert rig.to_child[-1]["method"] == "model/list"


def test_what_a_drain_held_back_is_let_go_when_it_is_given_up(rig: HubRig) -> None:
    rig.hub.drain()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    assert rig.to_child[-1]["method"] != "turn/start"
    rig.do(rig.hub.undrain(rig.now))
    assert rig.to_child[-1]["method"] == "turn/start"
    assert not rig.hub.holds_turns


def test_given_up_while_the_server_is_away_it_is_let_go_with_the_rest(rig: HubRig) -> None:
    rig.hub.drain()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.lose()
    rig.do(rig.hub.undrain(rig.now))
    rig.to_child.clear()
    rig.ready("t1", same_child=True)
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume", "turn/start"]


def test_the_next_child_takes_what_was_held_back(rig: HubRig) -> None:
    rig.hub.drain()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert rig.to_child[-1]["method"] == "turn/start"


def test_a_turn_counts_from_the_moment_it_is_asked_for(rig: HubRig) -> None:
    assert rig.hub.turns == 0
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    assert rig.hub.turns == 1
    turn = {"id": "u1", "items": [], "status": "inProgress"}
    rig.tell("turn/started", threadId="t1", turn=turn)
    assert rig.hub.turns == 1
    rig.answer("turn/start", {"turn": turn})
    assert rig.hub.turns == 1
    rig.end_turn()
    assert rig.hub.turns == 0


@pytest.mark.parametrize("method", ["thread/start", "thread/fork"])
def test_a_thread_that_is_being_opened_is_waited_for_before_the_child_ends(
    rig: HubRig, method: str
) -> None:
    rig.ask(1, method, {"threadId": "t1"} if method == "thread/fork" else {})
    assert rig.hub.turns == 0
    rig.hub.drain()
    assert rig.hub.turns == 1
    rig.answer(method, {"thread": {"id": "t2", "status": {"type": "idle"}}})
    assert rig.hub.turns == 0
    # And none is begun that it would not finish.
    rig.to_child.clear()
    request = rig.ask(1, method, {"threadId": "t1"} if method == "thread/fork" else {})
    assert rig.to_child == []
    assert rig.hub.turns == 0
    rig.lose()
    rig.ready()
    for entry in [entry for entry in rig.to_child if entry["method"] == "thread/resume"]:
        thread = {"id": entry["params"]["threadId"], "status": {"type": "idle"}}
        rig.child({"id": entry["id"], "result": {"thread": thread}})
    rig.answer(method, {"thread": {"id": "t3", "status": {"type": "idle"}}})
    assert "result" in rig.answers(1, request)[0]


def test_while_turns_run_threads_are_opened_on_a_child_that_is_to_end(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.hub.drain()
    rig.ask(1, "thread/start", {})
    assert rig.to_child[-1]["method"] == "thread/start"
    assert rig.hub.turns == 2


def test_one_that_is_refused_does_not(rig: HubRig) -> None:
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", error={"code": -32600, "message": "no"})
    assert rig.hub.turns == 0


def test_how_many_run_is_unknown_until_a_child_that_lived_on_has_told(rig: HubRig) -> None:
    rig.lose()
    assert rig.hub.turns is None
    rig.ready("t1", same_child=True)
    assert rig.hub.turns is None
    running = {"id": "u1", "items": [], "status": "inProgress"}
    thread = {"id": "t1", "status": {"type": "active"}}
    rig.answer("thread/resume", {"thread": thread, "initialTurnsPage": {"data": [running]}})
    assert rig.hub.turns == 1


def test_who_asked_much_still_waits_behind_himself(rig: HubRig) -> None:
    rig.to_child.clear()
    for _ in range(3 * window.ONE_CLIENT):
        rig.ask(1, "thread/list")
    rig.hub.drain()
    rig.tick(0.5)
    assert len(rig.to_child) == window.ONE_CLIENT
