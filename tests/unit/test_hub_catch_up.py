"""The connection to the child was lost and made again; the child itself has lived on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.contracts import SessionRecord
from tests.support.hub import INITIALIZED, HubRig


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    return rig


def _come_back(rig: HubRig, status: str, *turns: dict[str, Any]) -> None:
    rig.lose()
    rig.ready(same_child=True)
    page = {"data": list(turns), "nextCursor": None}
    thread = {"id": "t1", "status": {"type": status}}
    rig.answer("thread/resume", {"thread": thread, "initialTurnsPage": page})


def _turn(turn_id: str, status: str) -> dict[str, Any]:
    return {"id": turn_id, "status": status, "items": [], "itemsView": "notLoaded"}


def _endings(rig: HubRig) -> list[tuple[str, str]]:
    turns = [entry["params"]["turn"] for entry in rig.got(1, "turn/completed")]
    return [(turn["id"], turn["status"]) for turn in turns]


def test_a_turn_that_still_runs_goes_on(rig: HubRig) -> None:
    _come_back(rig, "active", _turn("u1", "inProgress"))
    assert _endings(rig) == []
    rig.end_turn()
    assert _endings(rig) == [("u1", "completed")]


def test_a_turn_that_runs_for_long_with_nobody_there_is_not_over_for_that(rig: HubRig) -> None:
    rig.leave(1)
    _come_back(rig, "active", _turn("u1", "inProgress"))
    rig.tick(2000)
    rig.lose()
    # It has not said yet which threads it has.
    result = json.dumps(INITIALIZED).encode()
    rig.do(rig.hub.child_ready(result, rig.now, same_child=True, child_pid=7))
    rig.tick(1)
    assert rig.sessions["t1"].status == "active"
    assert rig.hub.snapshot()["runningTurns"] == 1


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_an_end_that_nobody_heard_is_told_as_it_was(rig: HubRig, status: str) -> None:
    _come_back(rig, "idle", _turn("u1", status))
    assert _endings(rig) == [("u1", status)]
    assert rig.hub.snapshot()["runningTurns"] == 0


def test_an_end_of_which_nothing_is_known_is_an_interruption(rig: HubRig) -> None:
    _come_back(rig, "idle")
    assert _endings(rig) == [("u1", "interrupted")]


def test_a_turn_that_took_the_place_of_another_is_followed(rig: HubRig) -> None:
    _come_back(rig, "active", _turn("u2", "inProgress"), _turn("u1", "completed"))
    assert _endings(rig) == [("u1", "completed")]
    rig.end_turn(turn_id="u2")
    assert _endings(rig) == [("u1", "completed"), ("u2", "completed")]


def test_a_turn_from_before_the_hub_ends_for_who_came_back_to_it() -> None:
    rig = HubRig(ready=False)
    record = SessionRecord(
        session_id="session-1",
        purpose="duplex",
        thread_id="t1",
        endpoint="stdio://x",
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z",
    )
    rig.do(rig.hub.restore([record], rig.now))
    rig.ready("t1", same_child=True)
    page = {"data": [_turn("u1", "inProgress")], "nextCursor": None}
    thread = {"id": "t1", "status": {"type": "active"}}
    rig.answer("thread/resume", {"thread": thread, "initialTurnsPage": page})
    rig.connect(1)
    rig.join_thread(1)
    rig.lose()
    rig.ready()
    assert _endings(rig) == [("u1", "interrupted")]


def test_what_waited_for_an_earlier_hub_shows_only_if_it_is_asked_again(rig: HubRig) -> None:
    request = {"id": 3, "method": "item/fileChange/requestApproval", "params": {"threadId": "t1"}}
    rig.child(request)
    waiting = rig.sessions["t1"]
    assert waiting.metadata == {"runningTurn": "u1", "waitingApprovals": "1"}
    later = HubRig(ready=False)
    later.do(later.hub.restore([waiting], rig.now))
    later.ready("t1", same_child=True)
    assert later.sessions["t1"].metadata == {"runningTurn": "u1"}
    later.child(request)
    assert later.sessions["t1"].metadata == {"runningTurn": "u1", "waitingApprovals": "1"}


def test_who_leaves_a_thread_during_a_turn_leaves_the_hub_there_to_learn_its_end(
    rig: HubRig,
) -> None:
    request = rig.ask(1, "thread/unsubscribe", {"threadId": "t1"})
    assert rig.answers(1, request)[0]["result"] == {"status": "unsubscribed"}
    assert "thread/unsubscribe" not in [entry["method"] for entry in rig.to_child]
    rig.end_turn()
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}
    assert _endings(rig) == []


def test_a_thread_that_is_gone_ends_its_turn_before_it_closes(rig: HubRig) -> None:
    rig.lose()
    rig.ready(same_child=True)
    rig.answer("thread/resume", error={"code": -32600, "message": "no rollout found for t1"})
    told = [entry.get("method") for entry in rig.to_client[1]][-4:]
    assert told == ["error", "thread/status/changed", "turn/completed", "thread/closed"]


@pytest.mark.parametrize("why", ["no rollout found", "list_turns is not supported yet"])
def test_a_thread_without_a_turn_cannot_be_joined_and_is_alive_all_the_same(why: str) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.lose()
    rig.ready("t1", same_child=True)
    rig.answer("thread/resume", error={"code": -32600, "message": why})
    assert not rig.got(1, "thread/closed")
    assert rig.sessions["t1"].status == "active"
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    assert rig.to_child[-1]["method"] == "turn/start"
    # In a new child it is gone.
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", error={"code": -32600, "message": "no rollout found"})
    assert rig.got(1, "thread/closed")
    assert [entry.status for entry in rig.sessions.values()] == ["closed"]


def test_threads_that_the_child_has_from_others_become_sessions() -> None:
    rig = HubRig(ready=False)
    rig.ready("t1", same_child=True)
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert rig.sessions["t1"].status == "active"
    # Nobody here listens to it.
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def _items(rig: HubRig) -> list[str]:
    return [entry["params"]["item"]["id"] for entry in rig.got(1, "item/completed")]


def _with_items(turn_id: str, status: str, *items: str) -> dict[str, Any]:
    told = [{"id": item, "type": "agentMessage", "text": item} for item in items]
    return {"id": turn_id, "status": status, "items": told, "itemsView": "full", "completedAt": 7}


def test_items_that_ended_unheard_are_told_before_the_end(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    _come_back(rig, "idle", _with_items("u1", "completed", "i1", "i2", "i3"))
    assert rig.asked("thread/resume")["params"]["initialTurnsPage"]["itemsView"] == "full"
    assert _items(rig) == ["i1", "i2", "i3"]
    methods = [entry.get("method") for entry in rig.to_client[1]]
    assert methods.index("turn/completed") > len(methods) - 1 - methods[::-1].index(
        "item/completed"
    )
    assert rig.got(1, "item/completed")[-1]["params"]["completedAtMs"] == 7000
    assert rig.got(1, "turn/completed")[0]["params"]["turn"]["items"] == []


def test_of_a_turn_that_runs_the_last_item_may_go_on(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    _come_back(rig, "active", _with_items("u1", "inProgress", "i1", "i2", "i3"))
    assert _items(rig) == ["i1", "i2"]
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i3"})
    rig.tell("turn/completed", threadId="t1", turn=_with_items("u1", "completed", "i3"))
    assert _items(rig) == ["i1", "i2", "i3"]


def test_an_item_of_a_turn_that_runs_ended_just_now(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    turn = {**_with_items("u1", "inProgress", "i1", "i2", "i3"), "completedAt": None}
    _come_back(rig, "active", turn)
    told = rig.got(1, "item/completed")[-1]
    assert told["params"]["item"]["id"] == "i2"
    assert 0 <= told["emittedAtMs"] - told["params"]["completedAtMs"] < 60_000


def test_an_item_that_ended_in_the_gap_just_before_the_end_is_told(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    _come_back(rig, "active", _with_items("u1", "inProgress", "i1", "i2"))
    rig.tell("turn/completed", threadId="t1", turn=_with_items("u1", "completed", "i2"))
    assert _items(rig) == ["i1", "i2"]


def test_what_was_told_after_one_gap_is_not_told_after_the_next(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    for _ in range(2):
        _come_back(rig, "active", _with_items("u1", "inProgress", "i1", "i2", "i3"))
    assert _items(rig) == ["i1", "i2"]


def test_a_thread_of_whose_turn_nothing_is_known_is_told_idle() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active"})
    _come_back(rig, "idle")
    told = [entry["params"]["status"]["type"] for entry in rig.got(1, "thread/status/changed")]
    assert told == ["active", "idle"]
    assert _endings(rig) == []
    assert rig.hub.snapshot()["runningTurns"] == 0


def test_without_a_gap_nothing_is_told_twice(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    rig.tell("turn/completed", threadId="t1", turn=_with_items("u1", "completed", "i1", "i2"))
    assert _items(rig) == ["i1"]
