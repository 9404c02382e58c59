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


def _turn(turn_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": turn_id, "status": status, "items": [], "itemsView": "notLoaded", **more}


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
    _come_back(rig, "idle", _turn("u1", status, completedAt=7))
    assert _endings(rig) == [("u1", status)]
    assert not rig.got(1, "error")
    assert rig.hub.snapshot()["runningTurns"] == 0


# Of a turn that has ended just now: codex 0.163 takes what does not run for interrupted, until the
# end is written down.
_NOT_WRITTEN_YET = [_turn("u1", "interrupted", completedAt=None, error=None)]


def _asked(rig: HubRig) -> list[dict[str, Any]]:
    return [entry for entry in rig.to_child if entry["method"] == "thread/turns/list"]


def _answer(rig: HubRig, *turns: dict[str, Any]) -> None:
    rig.answer("thread/turns/list", {"data": list(turns), "nextCursor": None})


@pytest.mark.parametrize("told", [_NOT_WRITTEN_YET, [_turn("u1", "inProgress")], []])
def test_an_end_that_is_not_written_down_yet_is_asked_after_until_it_is(
    rig: HubRig, told: list[dict[str, Any]]
) -> None:
    _come_back(rig, "idle", *told)
    rig.tick(0.05)
    assert not _asked(rig)
    for asked in (1, 2, 3):
        rig.tick(0.5)
        assert len(_asked(rig)) == asked
        assert rig.hub.snapshot()["runningTurns"] == 1
        _answer(rig, *told)
    assert _endings(rig) == []
    rig.tick(0.9)
    _answer(rig, _turn("u1", "completed"))
    assert _endings(rig) == [("u1", "completed")]
    assert not rig.got(1, "error")
    assert rig.event_types()[-1] == "turn.completed"
    assert rig.hub.snapshot()["runningTurns"] == 0
    rig.tick(60)
    assert len(_asked(rig)) == 4


@pytest.mark.parametrize("is_asked", [True, False])
def test_the_servers_own_word_comes_before_what_it_has_on_record(
    rig: HubRig, is_asked: bool
) -> None:
    _come_back(rig, "idle", *_NOT_WRITTEN_YET)
    if is_asked:
        rig.tick(0.2)
    rig.tell("turn/completed", threadId="t1", turn=_turn("u1", "completed"))
    if is_asked:
        _answer(rig, _turn("u1", "interrupted", completedAt=7))
    rig.tick(30)
    assert _endings(rig) == [("u1", "completed")]
    assert len(_asked(rig)) == is_asked


@pytest.mark.parametrize("answers", [True, False])
def test_an_end_of_which_nothing_is_ever_known_is_an_interruption(
    rig: HubRig, answers: bool
) -> None:
    _come_back(rig, "idle", *_NOT_WRITTEN_YET)
    for _ in range(24):
        rig.tick(0.5)
        if answers and _asked(rig):
            _answer(rig, *_NOT_WRITTEN_YET)
    assert _endings(rig) == [("u1", "interrupted")]
    assert "did not say" in rig.got(1, "error")[0]["params"]["error"]["message"]


def test_a_turn_that_many_others_came_after_is_looked_for_among_more(rig: HubRig) -> None:
    _come_back(rig, "idle", *(_turn(f"u{number}", "completed") for number in range(2, 7)))
    rig.tick(0.2)
    assert _asked(rig)[0]["params"]["limit"] == 50
    _answer(rig, _turn("u2", "completed"), _turn("u1", "completed"))
    assert _endings(rig) == [("u1", "completed")]


def test_a_turn_that_another_came_after_is_asked_after_as_well(rig: HubRig) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    _come_back(rig, "active", _turn("u2", "inProgress"), _turn("u1", "inProgress"))
    assert rig.sessions["t1"].metadata == {"runningTurn": "u2"}
    rig.tick(0.2)
    rig.tell("item/completed", threadId="t1", turnId="u2", item={"id": "j1"})
    # The connection is cut once more: who waits for the end of the first still does.
    _come_back(rig, "active", _turn("u2", "inProgress"), _turn("u1", "inProgress"))
    rig.tick(0.2)
    _answer(rig, _turn("u2", "inProgress"), _with_items("u1", "completed", "i1", "i2"))
    assert _endings(rig) == [("u1", "completed")]
    assert _items(rig) == ["i1", "j1", "i2"]
    assert rig.sessions["t1"].metadata == {"runningTurn": "u2"}
    rig.end_turn(turn_id="u2")
    assert _endings(rig) == [("u1", "completed"), ("u2", "completed")]
    assert not rig.got(1, "error")


def test_a_turn_that_begins_meanwhile_does_not_hide_the_end_of_the_one_before(
    rig: HubRig,
) -> None:
    _come_back(rig, "idle", *_NOT_WRITTEN_YET)
    rig.run_turn(1, turn_id="u2")
    rig.end_turn(turn_id="u2")
    rig.tick(0.2)
    _answer(rig, _turn("u2", "completed"), _turn("u1", "completed"))
    assert _endings(rig) == [("u2", "completed"), ("u1", "completed")]


def test_with_nobody_there_the_thread_is_let_go_once_its_end_is_known(rig: HubRig) -> None:
    rig.leave(1)
    _come_back(rig, "idle", *_NOT_WRITTEN_YET)
    rig.tick(0.2)
    assert "thread/unsubscribe" not in [entry["method"] for entry in rig.to_child]
    _answer(rig, _turn("u1", "completed"))
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}
    assert rig.events[-1].type == "turn.completed"


def test_a_turn_that_ended_while_no_other_is_on_record_yet(rig: HubRig) -> None:
    _come_back(rig, "active", _turn("u1", "completed"))
    assert _endings(rig) == [("u1", "completed")]
    rig.tell("turn/started", threadId="t1", turn=_turn("u2", "inProgress"))
    rig.end_turn(turn_id="u2")
    assert _endings(rig) == [("u1", "completed"), ("u2", "completed")]


_WITHIN = _turn("x", "inProgress", rootTurnId="r")
_REVIEW = _turn("r", "completed", rootTurnId="r", completedAt=7)


def test_a_review_that_is_over_is_not_taken_for_running(rig: HubRig) -> None:
    rig.end_turn()
    _come_back(rig, "active", _WITHIN, _REVIEW, _turn("u1", "completed", completedAt=6))
    assert rig.hub.snapshot()["runningTurns"] == 0
    assert _endings(rig) == [("u1", "completed")]
    rig.leave(1)
    # It is let go as any thread at rest is.
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def test_a_review_of_somebody_elses_that_ended_unheard_ends_by_its_own_id(rig: HubRig) -> None:
    rig.end_turn()
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active"})
    rig.tell("turn/started", threadId="t1", turn=_WITHIN)
    _come_back(rig, "active", _WITHIN, _REVIEW)
    assert _endings(rig) == [("u1", "completed"), ("r", "completed")]
    assert rig.hub.snapshot()["runningTurns"] == 0


def test_a_review_that_runs_goes_on(rig: HubRig) -> None:
    rig.end_turn()
    _come_back(rig, "active", _WITHIN, _turn("u1", "completed", completedAt=6))
    assert rig.hub.snapshot()["runningTurns"] == 1
    assert _endings(rig) == [("u1", "completed")]


def test_what_a_turn_asked_leave_for_is_void_once_it_has_ended_unheard(rig: HubRig) -> None:
    params = {"threadId": "t1", "turnId": "u1", "itemId": "i1"}
    rig.child({"id": 3, "method": "item/fileChange/requestApproval", "params": params})
    _come_back(rig, "idle", _turn("u1", "completed"))
    assert rig.got(1, "serverRequest/resolved")
    assert rig.hub.approvals() == []


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
    refusal = {"code": -32600, "message": why}
    rig.answer("thread/resume", error=refusal)
    rig.answer("thread/read", error=refusal)
    rig.answer("thread/read", error=refusal)
    rig.answer("thread/metadata/update", error=refusal)
    rig.answer("thread/resume", error=refusal)
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


@pytest.mark.parametrize(("status", "is_told"), [("completed", True), ("inProgress", False)])
def test_an_item_that_was_the_last_and_over_is_told_with_the_end(
    rig: HubRig, status: str, is_told: bool
) -> None:
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    turn = _with_items("u1", "inProgress", "i1", "i2")
    turn["items"][-1] |= {"type": "commandExecution", "status": status}
    _come_back(rig, "active", turn)
    assert _items(rig) == ["i1"]
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i3"})
    rig.tell("turn/completed", threadId="t1", turn=_turn("u1", "completed"))
    assert _items(rig) == ["i1", "i3", *(["i2"] if is_told else [])]


def _said(item: str, text: str, kind: str = "agentMessage") -> dict[str, Any]:
    return {"id": item, "type": kind, "text": text}


def test_what_was_said_is_told_once_by_whatever_id(rig: HubRig) -> None:
    """Read from a turn that runs, it has another (measured on codex 0.163)."""
    for item in (_said("msg-1", "so"), _said("msg-2", "so")):
        rig.tell("item/completed", threadId="t1", turnId="u1", item=item)
    items = [_said(f"item-{number}", "so") for number in (1, 2, 3)]
    items += [_said("item-4", "so", "reasoning"), _said("item-5", "the end")]
    _come_back(rig, "active", {**_turn("u1", "inProgress"), "items": items})
    assert _items(rig) == ["msg-1", "msg-2", "item-3", "item-4"]
    ended = {**_turn("u1", "completed"), "items": [_said("msg-9", "the end")]}
    rig.tell("turn/completed", threadId="t1", turn=ended)
    assert _items(rig) == ["msg-1", "msg-2", "item-3", "item-4", "item-5"]


def test_who_came_while_it_ran_is_not_told_what_its_own_resume_had(rig: HubRig) -> None:
    turn = _with_items("u1", "inProgress", "i1", "i2", "i3")
    _come_back(rig, "active", turn)
    assert _items(rig) == []
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i3"})
    _come_back(rig, "active", _with_items("u1", "inProgress", "i1", "i2", "i3", "i4", "i5"))
    assert _items(rig) == ["i3", "i4"]


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
