"""Every turn that is told to have begun is told to have ended: once, with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hub import HubRig
from tests.support.schema import Schemas


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    rig.open_thread(1)
    rig.run_turn(1)
    return rig


def _turn(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "u1", "status": status, "items": [], "itemsView": "notLoaded", **more}


def _ends(rig: HubRig) -> list[str]:
    return [entry["params"]["turn"]["status"] for entry in rig.got(1, "turn/completed")]


def _idle(rig: HubRig) -> None:
    rig.tell("thread/status/changed", threadId="t1", status={"type": "idle"})


def _asked(rig: HubRig) -> list[dict[str, Any]]:
    return [entry for entry in rig.to_child if entry["method"] == "thread/turns/list"]


@pytest.mark.real
def test_a_turn_that_is_cut_ends_with_an_error_that_comes_first(
    rig: HubRig, schemas: Schemas
) -> None:
    rig.lose()
    rig.ready()
    told = [entry.get("method") for entry in rig.to_client[1]]
    assert told[-3:] == ["error", "thread/status/changed", "turn/completed"]
    error, _, completed = rig.to_client[1][-3:]
    for message in (error, completed):
        schemas.check(message, None)
    assert error["params"]["turnId"] == completed["params"]["turn"]["id"] == "u1"
    assert error["params"]["willRetry"] is False
    assert completed["params"]["turn"]["status"] == "interrupted"
    assert completed["params"]["turn"]["error"] == error["params"]["error"]
    assert "signal 9" in error["params"]["error"]["message"]


def test_a_turn_that_its_client_interrupted_has_no_error(rig: HubRig) -> None:
    rig.tell("turn/completed", threadId="t1", turn=_turn("interrupted", error=None))
    assert not rig.got(1, "error")
    assert rig.got(1, "turn/completed")[0]["params"]["turn"]["error"] is None


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_a_turn_that_is_open_while_its_thread_is_idle_ends_as_recorded(
    rig: HubRig, status: str
) -> None:
    rig.tick(64)
    _idle(rig)
    rig.tick(0.75)
    assert not _asked(rig)
    rig.tick(0.25)
    asked = _asked(rig)
    rig.tick(10)
    assert _asked(rig) == asked
    assert len(asked) == 1
    page = {"limit": 5, "sortDirection": "desc", "itemsView": "full"}
    assert asked[0]["params"] == {"threadId": "t1", **page}
    rig.answer("thread/turns/list", {"data": [_turn(status, completedAt=7)]})
    assert _ends(rig) == [status]
    # It comes after all: nobody hears it twice.
    rig.tell("turn/completed", threadId="t1", turn=_turn(status))
    assert _ends(rig) == [status]
    assert not rig.got(1, "error")
    assert rig.hub.snapshot()["runningTurns"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"data": []}},
        {"result": {"data": [_turn("inProgress")]}},
        {"result": {"data": [_turn("interrupted", completedAt=None)]}},
        {"error": {"code": -32601, "message": "not supported"}},
        None,
    ],
)
def test_where_nothing_certain_is_recorded_it_is_an_interruption_with_an_error(
    rig: HubRig, answer: dict[str, Any] | None
) -> None:
    _idle(rig)
    rig.tick(1.1)
    for _ in range(20):
        assert _ends(rig) == []
        if answer is not None:
            rig.answer("thread/turns/list", **answer)
        rig.tick(0.501)
    if answer is not None:
        assert len(_asked(rig)) in range(5, 10)
        rig.answer("thread/turns/list", **answer)
    assert _ends(rig) == ["interrupted"]
    assert len(rig.got(1, "error")) == 1


_NOTHING_READ: list[dict[str, Any]] = [
    {"error": {"code": -32603, "message": "failed to read"}},
    {"result": {"data": []}},
]


@pytest.mark.parametrize("answer", _NOTHING_READ)
def test_what_was_read_of_a_turn_is_told_also_where_it_is_not_read_again(
    rig: HubRig, answer: dict[str, Any]
) -> None:
    items = [{"id": name, "type": "agentMessage", "text": name} for name in ("a", "b")]
    rig.tell("item/completed", threadId="t1", turnId="u1", item=items[0])
    _idle(rig)
    rig.tick(1.1)
    read = {**_turn("interrupted", completedAt=None), "items": items, "itemsView": "full"}
    rig.answer("thread/turns/list", {"data": [read]})
    for _ in range(24):
        rig.tick(0.501)
        rig.answer("thread/turns/list", **answer)
    told = [entry["params"]["item"]["id"] for entry in rig.got(1, "item/completed")]
    assert (told, _ends(rig)) == (["a", "b"], ["interrupted"])


def test_it_is_looked_for_further_back_where_it_is_not_among_the_last_turns(rig: HubRig) -> None:
    _idle(rig)
    rig.tick(1.1)
    limits = []
    for answer in _NOTHING_READ:
        rig.answer("thread/turns/list", **answer)
        rig.tick(0.5)
        limits.append(rig.asked("thread/turns/list")["params"]["limit"])
    assert limits == [5, 50]


def test_a_thread_that_is_at_work_again_is_left_alone(rig: HubRig) -> None:
    _idle(rig)
    rig.tick(0.5)
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active", "activeFlags": []})
    rig.tick(60)
    assert not _asked(rig)
    # Or while it is asked.
    _idle(rig)
    rig.tick(1.1)
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active", "activeFlags": []})
    rig.answer("thread/turns/list", {"data": [_turn("inProgress")]})
    assert _ends(rig) == []
    # Idle once more, it is asked once more.
    _idle(rig)
    rig.tick(12)
    assert len(_asked(rig)) == 2
    assert _ends(rig) == []
    rig.end_turn()
    assert _ends(rig) == ["completed"]


def test_an_end_that_comes_while_the_server_is_asked_is_the_end(rig: HubRig) -> None:
    _idle(rig)
    rig.tick(1.1)
    rig.end_turn()
    rig.answer("thread/turns/list", {"data": [_turn("interrupted")]})
    assert _ends(rig) == ["completed"]


def test_a_server_that_dies_while_it_is_asked(rig: HubRig) -> None:
    _idle(rig)
    rig.tick(1.1)
    rig.lose()
    rig.tick(1.1)
    rig.tick(11)
    # It may be the connection that is gone, and the turn goes on.
    assert _ends(rig) == []
    rig.ready()
    rig.tick(20)
    assert _ends(rig) == ["interrupted"]


def test_how_a_turn_stands_is_known_as_it_was_told(rig: HubRig) -> None:
    assert rig.hub.turn_status("t1", "u1") == "inProgress"
    _idle(rig)
    rig.tick(1.1)
    assert rig.hub.turn_status("t1", "u1") == "inProgress"
    rig.tell("turn/completed", threadId="t1", turn=_turn("failed"))
    rig.tell("turn/completed", threadId="t1", turn=_turn("completed"))
    assert rig.hub.turn_status("t1", "u1") == "failed"
    assert rig.hub.turn_status("t1", "u0") is None
    assert rig.hub.turn_status("t2", "u1") is None


def test_a_thread_that_closes_ends_its_turn(rig: HubRig) -> None:
    rig.tell("thread/archived", threadId="t1")
    assert _ends(rig) == ["interrupted"]
    rig.tell("turn/completed", threadId="t1", turn=_turn("interrupted"))
    assert _ends(rig) == ["interrupted"]
    assert rig.event_types().count("turn.interrupted") == 1
    assert rig.sessions["t1"].metadata == {}


def test_the_turn_that_runs_is_on_record_for_as_long_as_it_does(rig: HubRig) -> None:
    assert rig.sessions["t1"].metadata == {"runningTurn": "u1"}
    rig.end_turn()
    assert rig.sessions["t1"].metadata == {}


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_next_plugin_ends_the_turn_of_a_server_that_died_as_well(
    rig: HubRig, comes_back: bool
) -> None:
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now))
    assert later.hub.snapshot()["runningTurns"] == 1
    if comes_back:
        later.ready()
    else:
        later.tick(121)
    assert later.event_types().count("turn.interrupted") == 1
    assert later.sessions["t1"].metadata == {}
    later.tick(121)
    assert later.event_types().count("turn.interrupted") == 1


def test_the_next_plugin_learns_the_end_from_a_server_that_lives(rig: HubRig) -> None:
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now))
    later.ready("t1", same_child=True)
    page = {"data": [_turn("completed")], "nextCursor": None}
    thread = {"id": "t1", "status": {"type": "idle"}}
    later.answer("thread/resume", {"thread": thread, "initialTurnsPage": page})
    assert later.event_types() == ["turn.completed"]


def test_a_turn_that_began_while_no_plugin_was_there_is_told_on_record(rig: HubRig) -> None:
    rig.end_turn()
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now))
    later.ready("t1", same_child=True)
    page = {"data": [{**_turn("inProgress"), "id": "u2"}], "nextCursor": None}
    thread = {"id": "t1", "status": {"type": "active"}}
    later.answer("thread/resume", {"thread": thread, "initialTurnsPage": page})
    later.end_turn(turn_id="u2")
    assert later.event_types() == ["turn.started", "turn.completed"]


def test_who_was_about_to_join_hears_the_end_of_the_turn_it_began(rig: HubRig) -> None:
    rig.end_turn()
    rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.ask(2, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", {"turn": {"id": "u2", "items": [], "status": "inProgress"}})
    rig.lose()
    rig.ready()
    assert [entry["params"]["turn"]["id"] for entry in rig.got(2, "turn/completed")] == ["u2"]


def test_the_error_of_a_cut_turn_is_of_none_of_codexs_kinds(rig: HubRig) -> None:
    # A client that takes every kind for an object read nothing more after "other".
    rig.lose()
    rig.ready()
    ended = rig.got(1, "turn/completed")[0]["params"]["turn"]
    told = rig.got(1, "error")[0]["params"]
    assert ended["error"] == told["error"]
    assert told["error"]["codexErrorInfo"] is None
    assert "signal 9" in told["error"]["message"]


# -- a review: it begins under another id than it ends (measured on codex 0.163) -------------------


def _reviews(rig: HubRig) -> None:
    rig.ask(1, "review/start", {"threadId": "t1"})
    turn = {"id": "r1", "items": [], "status": "inProgress"}
    rig.answer("review/start", {"turn": turn, "reviewThreadId": "t1"})
    _begins_inside(rig)


def _begins_inside(rig: HubRig) -> None:
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active"})
    rig.tell("turn/started", threadId="t1", turn={"id": "r2", "items": [], "status": "inProgress"})


def _ends_once(rig: HubRig) -> bool:
    rig.end_turn(turn_id="r1")
    rig.to_child.clear()
    for _ in range(20):
        rig.tick(1)
    ends = [entry["params"]["turn"]["id"] for entry in rig.got(1, "turn/completed")]
    return ends == ["r1"] and rig.to_child == [] and rig.hub.turns == 0


def test_a_review_ends_once() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    _reviews(rig)
    assert rig.sessions["t1"].metadata["runningTurn"] == "r1"
    assert _ends_once(rig)
    turns = [(e.type, e.detail["turnId"]) for e in rig.events if e.type.startswith("turn.")]
    assert turns == [("turn.started", "r1"), ("turn.completed", "r1")]
    # The next one is as any other.
    rig.run_turn(1, turn_id="u2")
    assert rig.hub.turns == 1


def test_a_review_that_somebody_else_began_ends_once() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    _begins_inside(rig)
    assert _ends_once(rig)


@pytest.mark.parametrize("is_next_hub", [True, False])
def test_a_review_goes_on_over_a_lost_connection(*, is_next_hub: bool) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    _reviews(rig)
    if is_next_hub:
        before, rig = rig, HubRig(ready=False)
        rig.do(rig.hub.restore([before.sessions["t1"]], 0.0))
    else:
        rig.lose()
    rig.ready("t1", same_child=True)
    page = [{"id": "r2", "status": "inProgress"}, {"id": "a0", "status": "completed"}]
    thread = {"id": "t1", "status": {"type": "active"}}
    rig.answer("thread/resume", {"thread": thread, "initialTurnsPage": {"data": page}})
    if is_next_hub:
        rig.connect(1)
        rig.join_thread(1)
    assert rig.got(1, "turn/completed") == []
    assert rig.got(1, "error") == []
    assert _ends_once(rig)


# -- a turn that is asked for while the end of the one before is still on its way ------------------


def _asks_for_another(rig: HubRig) -> dict[str, Any]:
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    another = {**_turn("inProgress"), "id": "u2"}
    rig.answer("turn/start", {"turn": another})
    return another


def _recorded(rig: HubRig) -> list[tuple[str, str]]:
    return [(e.type, e.detail["turnId"]) for e in rig.events if e.type.startswith("turn.")]


@pytest.mark.parametrize("is_late", [True, False])
def test_the_end_of_the_turn_before_is_not_the_end_of_the_next(
    rig: HubRig, *, is_late: bool
) -> None:
    another = _asks_for_another(rig)
    if is_late:
        rig.tell("turn/started", threadId="t1", turn=another)
    rig.end_turn()
    assert rig.hub.turns == 1
    assert rig.sessions["t1"].metadata == {"runningTurn": "u2"}
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active"})
    rig.tell("turn/started", threadId="t1", turn=another)
    rig.end_turn(turn_id="u2")
    # Told once more, they are no news.
    rig.end_turn()
    rig.tell("turn/started", threadId="t1", turn=another)
    assert [entry["params"]["turn"]["id"] for entry in rig.got(1, "turn/completed")] == ["u1", "u2"]
    began, ended = "turn.started", "turn.completed"
    assert _recorded(rig) == [(began, "u1"), (began, "u2"), (ended, "u1"), (ended, "u2")]
    assert rig.hub.counts.turns["completed"] == 2
    assert [rig.hub.turn_status("t1", turn_id) for turn_id in ("u1", "u2")] == ["completed"] * 2
    rig.tick(20)
    assert not _asked(rig)


def test_nor_where_this_hub_has_not_seen_it_begin() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    another = _asks_for_another(rig)
    rig.end_turn()
    rig.tell("turn/started", threadId="t1", turn=another)
    rig.end_turn(turn_id="u2")
    began, ended = "turn.started", "turn.completed"
    assert _recorded(rig) == [(began, "u2"), (began, "u1"), (ended, "u1"), (ended, "u2")]


def test_a_turn_that_began_and_ended_with_no_plugin_there_did_both_on_record(rig: HubRig) -> None:
    rig.end_turn()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now))
    # The end was still in the pipe.
    later.ready("t1", same_child=True)
    later.end_turn(turn_id="u2")
    later.end_turn(turn_id="u2")
    assert _recorded(later) == [("turn.started", "u2"), ("turn.completed", "u2")]
    assert later.sessions.get("t1", rig.sessions["t1"]).metadata == {}


def test_nor_where_the_plugin_died_in_between(rig: HubRig) -> None:
    another = _asks_for_another(rig)
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now))
    later.connect(1)
    later.ready("t1", same_child=True)
    page = {"data": [_turn("interrupted")], "nextCursor": None}
    thread = {"id": "t1", "status": {"type": "idle"}}
    later.answer("thread/resume", {"thread": thread, "initialTurnsPage": page})
    later.join_thread(1)
    later.end_turn()
    later.tell("turn/started", threadId="t1", turn=another)
    later.end_turn(turn_id="u2")
    assert _recorded(later) == [("turn.completed", "u1"), ("turn.completed", "u2")]
    ended = [entry["params"]["turn"]["id"] for entry in later.got(1, "turn/completed")]
    assert ended == ["u1", "u2"]


def test_a_turn_whose_end_is_not_told_before_the_next_begins_is_asked_after(rig: HubRig) -> None:
    another = _asks_for_another(rig)
    rig.tick(5)
    assert not _asked(rig)
    rig.tell("turn/started", threadId="t1", turn=another)
    rig.tick()
    rig.answer("thread/turns/list", {"data": [another, _turn("completed")]})
    assert _ends(rig) == ["completed"]
    assert _recorded(rig)[-1] == ("turn.completed", "u1")
    assert rig.sessions["t1"].metadata == {"runningTurn": "u2"}


@pytest.mark.parametrize("is_closed", [True, False])
def test_both_end_with_what_runs_them(rig: HubRig, *, is_closed: bool) -> None:
    _asks_for_another(rig)
    if is_closed:
        rig.tell("thread/closed", threadId="t1")
    else:
        rig.lose()
        rig.ready()
    cut = "turn.interrupted"
    assert _recorded(rig)[2:] == [(cut, "u1"), (cut, "u2")]
    assert _ends(rig) == ["interrupted"] * 2
    assert rig.hub.turns == 0


_OVER = {"closed": "session.closed", "gone in the next server": "session.lost"}


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize("closes", list(_OVER))
def test_one_that_is_asked_after_ends_before_its_thread_is_closed(
    rig: HubRig, closes: str, *, is_heard: bool
) -> None:
    another = _asks_for_another(rig)
    rig.tell("turn/started", threadId="t1", turn=another)
    item = {"id": "a", "type": "agentMessage", "text": "a"}
    rig.tell("item/completed", threadId="t1", turnId="u2", item=item)
    rig.tick()
    assert len(_asked(rig)) == 1
    if not is_heard:
        rig.leave(1)
    before = len(rig.to_client[1])
    if closes == "closed":
        rig.tell("thread/closed", threadId="t1")
    else:
        rig.lose()
        rig.ready()
        rig.answer("thread/resume", error={"code": -32600, "message": "no rollout found"})
    told = [entry["method"] for entry in rig.to_client[1][before:]]
    ends = ["turn/completed", "turn/completed", "thread/closed"]
    assert [method for method in told if method in ends] == (ends if is_heard else [])
    types = rig.event_types()
    assert types.count("turn.interrupted") == 2
    assert "turn.interrupted" not in types[types.index(_OVER[closes]) :]
    asked, heard = len(rig.to_child), len(rig.to_client[1])
    for _ in range(15):
        rig.tick(1)
    assert (len(rig.to_child), len(rig.to_client[1])) == (asked, heard)
    assert rig.hub.turns == 0


def test_one_that_is_left_open_by_the_next_ends_with_its_thread(rig: HubRig) -> None:
    _asks_for_another(rig)
    rig.end_turn(turn_id="u2")
    assert rig.hub.turns == 1
    rig.tell("thread/closed", threadId="t1")
    assert _recorded(rig)[2:] == [("turn.completed", "u2"), ("turn.interrupted", "u1")]
    assert rig.hub.turns == 0


def test_a_review_that_somebody_else_began_ends_once_in_the_next_hub() -> None:
    before = HubRig()
    before.connect(1)
    before.open_thread(1)
    _begins_inside(before)
    rig = HubRig(ready=False)
    rig.do(rig.hub.restore([before.sessions["t1"]], rig.now))
    rig.connect(1)
    rig.ready("t1", same_child=True)
    page = {"data": [{**_turn("inProgress"), "id": "r1"}], "nextCursor": None}
    thread = {"id": "t1", "status": {"type": "active"}}
    rig.answer("thread/resume", {"thread": thread, "initialTurnsPage": page})
    rig.join_thread(1)
    assert _ends_once(rig)
    assert _recorded(rig) == [("turn.completed", "r2")]


def test_a_review_that_somebody_else_began_ends_on_record_as_it_began() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    _begins_inside(rig)
    rig.end_turn(turn_id="r1")
    assert _recorded(rig) == [("turn.started", "r2"), ("turn.completed", "r2")]
