"""A resume that fails, or takes its time: what is final, who waits, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub.hub import HubLimits
from tests.support.hub import HubRig

BROKEN = {"code": -32600, "message": "failed to load configuration: /h/config.toml:10:6: unclosed"}


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig(HubLimits(wait_s=60, thread_wait_s=10, unload_s=1800))
    rig.connect(1)
    rig.connect(2)
    for thread_id in ("t1", "t2"):
        rig.open_thread(1, thread_id)
        rig.run_turn(1, thread_id, f"u-{thread_id}")
        rig.end_turn(thread_id, f"u-{thread_id}")
    return rig


def _restart(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.ready()


def _resumes(rig: HubRig) -> list[str]:
    asked = [entry for entry in rig.to_child if entry["method"] == "thread/resume"]
    return [entry["params"]["threadId"] for entry in asked]


def _answer(rig: HubRig, thread_id: str, error: Any = None) -> None:
    """Answer the last resume of a thread."""
    request = [
        entry
        for entry in rig.to_child
        if entry["method"] == "thread/resume" and entry["params"]["threadId"] == thread_id
    ][-1]
    body = {"error": error} if error else {"result": {"thread": {"id": thread_id}}}
    rig.child({"id": request["id"], **body})


@pytest.mark.parametrize(
    "error",
    [
        BROKEN,
        {"code": -32001, "message": "Server overloaded; retry later."},
        {"code": -32603, "message": "failed to read thread: No space left on device"},
        {"code": -32600, "message": "thread t1 already has an active writer"},
        {"code": -32600, "message": "required MCP servers failed to initialize"},
    ],
)
def test_a_passing_trouble_loses_no_session(rig: HubRig, error: dict[str, Any]) -> None:
    _restart(rig)
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    _answer(rig, "t1", error)
    assert "session.lost" not in rig.event_types()
    assert not rig.got(1, "thread/closed")
    assert not rig.answers(1, request)
    assert rig.hub.snapshot()["resumingThreads"] == 2
    rig.tick(0.5)
    _answer(rig, "t1")
    rig.answer("turn/start", {"turn": {"id": "u2"}})
    assert rig.answers(1, request)[0]["result"]["turn"]["id"] == "u2"


@pytest.mark.parametrize(
    "message",
    [
        "no rollout found for thread id t1",
        "session t1 is archived. Run `codex unarchive t1` to unarchive it first.",
        "invalid session id: invalid character",
        # A path as long as a path may be stands before what counts.
        f"failed to read thread: thread-store internal error: rollout at /{'x' * 300} is empty",
    ],
)
def test_a_thread_that_is_not_there_is_lost_at_once(rig: HubRig, message: str) -> None:
    _restart(rig)
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    _answer(rig, "t1", {"code": -32600, "message": message})
    assert rig.event_types().count("session.lost") == 1
    assert rig.got(1, "thread/closed")
    assert rig.hub.snapshot()["resumingThreads"] == 1
    # What waited for it goes, and the server says itself what is wrong.
    gone = {"code": -32600, "message": "thread not found: t1"}
    rig.answer("turn/start", error=gone)
    assert rig.answers(1, request)[0]["error"] == gone


def test_pauses_grow_while_it_fails_and_who_asks_need_not_wait_for_them(rig: HubRig) -> None:
    _restart(rig)
    times = []
    for _ in range(9):
        _answer(rig, "t1", BROKEN)
        before = _resumes(rig).count("t1")
        begun = rig.now
        while _resumes(rig).count("t1") == before:
            rig.tick(0.5)
            assert rig.now - begun <= 61
        times.append(rig.now - begun)
    assert times == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    _answer(rig, "t1", BROKEN)
    rig.tick(1)
    count = _resumes(rig).count("t1")
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    assert _resumes(rig).count("t1") == count + 1


def test_who_waits_for_a_thread_that_stays_away_is_told_to_try_again(rig: HubRig) -> None:
    _restart(rig)
    begun = rig.now
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    for _ in range(30):
        if rig.to_child[-1]["method"] == "thread/resume":
            for entry in [entry for entry in rig.to_child if entry["method"] == "thread/resume"]:
                rig.child({"id": entry["id"], "error": BROKEN})
        rig.tick(0.5)
    (answer,) = rig.answers(1, request)
    # Nothing was begun: the code on which the vendor's clients try again.
    assert answer["error"]["code"] == -32001
    assert "failed to load configuration" in answer["error"]["message"]
    assert answer["error"]["data"]["codexd"] == {
        "reason": "thread_not_resumed",
        "method": "turn/start",
    }
    assert rig.now - begun < 20
    assert not [entry for entry in rig.to_child if entry["method"] == "turn/start"]


def test_a_client_that_resumes_itself_hears_what_the_server_says(rig: HubRig) -> None:
    _restart(rig)
    request = rig.ask(2, "thread/resume", {"threadId": "t1", "model": "other"})
    assert _resumes(rig).count("t1") == 1
    _answer(rig, "t1", BROKEN)
    _answer(rig, "t1", BROKEN)
    assert rig.answers(2, request)[0]["error"] == BROKEN
    again = rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.tick(0.5)
    theirs, own = rig.to_child[-2:]
    rig.child({"id": own["id"], "error": BROKEN})
    # The client's own try is the one that works: the hub need not try any more.
    rig.child({"id": theirs["id"], "result": {"thread": {"id": "t1"}}})
    assert "result" in rig.answers(2, again)[0]
    assert rig.hub.snapshot()["resumingThreads"] == 1
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    assert rig.to_child[-1]["method"] == "turn/start"


def test_a_slow_thread_holds_up_nobody_else(rig: HubRig) -> None:
    _restart(rig)
    assert rig.hub.snapshot()["server"] == "up"
    slow = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    fast = rig.ask(1, "turn/start", {"threadId": "t2", "input": []})
    none = rig.ask(2, "model/list")
    rig.answer("model/list")
    assert rig.answers(2, none)
    _answer(rig, "t2")
    rig.answer("turn/start", {"turn": {"id": "u2"}})
    assert rig.answers(1, fast)
    rig.tick(50)
    assert not rig.answers(1, slow)
    _answer(rig, "t1")
    rig.answer("turn/start", {"turn": {"id": "u3"}})
    assert rig.answers(1, slow)


def test_threads_that_are_waited_for_come_first_and_slow_ones_do_not_take_the_places() -> None:
    rig = HubRig()
    rig.connect(1)
    for number in range(40):
        rig.open_thread(1, f"t{number}")
    rig.lose()
    rig.to_child.clear()
    rig.ask(1, "turn/start", {"threadId": "t39", "input": []})
    rig.ready()
    assert _resumes(rig)[0] == "t39"
    assert len(_resumes(rig)) == 16
    # None of them is answered: they wait for something that is not the server.
    rig.tick(1.1)
    assert len(_resumes(rig)) == 32
    rig.ask(1, "turn/start", {"threadId": "t35", "input": []})
    rig.tick(1.1)
    assert sorted(_resumes(rig)) == sorted(f"t{number}" for number in range(40))


def test_what_nobody_uses_is_left_until_somebody_asks(rig: HubRig) -> None:
    rig.leave(1)
    _restart(rig)
    assert _resumes(rig) == []
    assert rig.sessions["t1"].status == "active"
    request = rig.ask(2, "turn/start", {"threadId": "t1", "input": []})
    assert _resumes(rig) == ["t1"]
    _answer(rig, "t1")
    rig.answer("turn/start", {"turn": {"id": "u2"}})
    assert rig.answers(2, request)
    assert rig.event_types().count("session.recovered") == 1
    # Nobody listens, but the hub stays to learn how the turn ends.
    assert "thread/unsubscribe" not in [entry["method"] for entry in rig.to_child]
    assert rig.sessions["t1"].metadata == {"runningTurn": "u2"}
    rig.end_turn("t1", "u2")
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def test_the_half_hour_of_who_was_left_goes_on_over_crashes(rig: HubRig) -> None:
    rig.leave(1)
    for _ in range(3):
        rig.tick(500)
        _restart(rig)
    assert rig.sessions["t1"].status == "active"
    rig.tick(300)
    assert rig.sessions["t1"].status == "active"
    rig.tick(1)
    assert [record.status for record in rig.sessions.values()] == ["closed", "closed"]
    assert len(rig.got(2, "thread/closed")) == 2
    assert rig.hub.snapshot()["threads"] == 0
    assert "session.lost" not in rig.event_types()


def test_what_is_being_resumed_for_somebody_is_not_over(rig: HubRig) -> None:
    rig.leave(1)
    rig.tick(1000)
    _restart(rig)
    rig.ask(2, "turn/start", {"threadId": "t1", "input": []})
    rig.tick(900)
    assert rig.sessions["t1"].status == "active"
    assert rig.sessions["t2"].status == "closed"


def test_while_it_is_tried_again_nobody_is_refused(rig: HubRig) -> None:
    _restart(rig)
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    _answer(rig, "t1", BROKEN)
    rig.tick(0.5)
    rig.tick(50)
    assert not rig.answers(1, request)


def test_a_server_that_does_not_say_what_it_has_loaded_holds_up_no_thread_for_long(
    rig: HubRig,
) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.do(rig.hub.child_ready(b"{}", rig.now, same_child=False, child_pid=1))
    rig.tick(5)
    assert _resumes(rig) == []
    rig.tick(0.25)
    assert sorted(_resumes(rig)) == ["t1", "t2"]


def test_a_resume_that_the_connection_does_not_take_is_tried_again(rig: HubRig) -> None:
    _restart(rig)
    sent = json.dumps(rig.asked("thread/resume")).encode()
    rig.do(rig.hub.not_sent(sent, "too long", -32600))
    rig.tick(1)
    assert len(_resumes(rig)) == 3


@pytest.mark.parametrize("error", [None, BROKEN, {"code": -32600, "message": "no rollout found"}])
def test_a_thread_that_is_closed_while_it_is_resumed_stays_closed(rig: HubRig, error: Any) -> None:
    _restart(rig)
    rig.tell("thread/deleted", threadId="t1")
    _answer(rig, "t1", error)
    rig.tick(5)
    assert _resumes(rig).count("t1") == 1
    assert rig.sessions["t1"].status == "closed"
    assert rig.hub.snapshot()["resumingThreads"] == 1
    # That was all: it is told to be gone once, and nothing more is asked for it.
    assert not rig.got(1, "thread/closed")
    assert "thread/unsubscribe" not in [entry["method"] for entry in rig.to_child]


@pytest.mark.parametrize("thread_id", ["00000000-0000-4000-8000-000000000001", "x" * 100_000])
def test_a_failed_resume_of_whatever_name_leaves_nothing(rig: HubRig, thread_id: str) -> None:
    request = rig.ask(2, "thread/resume", {"threadId": thread_id})
    rig.answer("thread/resume", error={"code": -32600, "message": "no rollout found"})
    assert rig.answers(2, request)
    assert rig.hub.snapshot()["threads"] == 2
    # In flight when the server dies a second time over it.
    rig.ask(2, "thread/resume", {"threadId": thread_id})
    _restart(rig)
    _restart(rig)
    assert rig.hub.snapshot()["threads"] == 2
    assert thread_id not in _resumes(rig)


def test_who_leaves_a_thread_that_is_away_need_not_wait_for_it(rig: HubRig) -> None:
    _restart(rig)
    request = rig.ask(1, "thread/unsubscribe", {"threadId": "t1"})
    assert rig.answers(1, request)[0]["result"] == {"status": "unsubscribed"}
    assert not [entry for entry in rig.to_child if entry["method"] == "thread/unsubscribe"]
    _answer(rig, "t1")
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def test_a_thread_that_is_opened_before_the_list_comes_is_not_resumed(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.do(rig.hub.child_ready(b"{}", rig.now, same_child=False, child_pid=1))
    listing = rig.asked("thread/loaded/list")
    rig.open_thread(2, "t3")
    rig.child({"id": listing["id"], "result": {"data": ["t3"], "nextCursor": None}})
    assert sorted(_resumes(rig)) == ["t1", "t2"]


@pytest.mark.parametrize(
    "known_by", ["its config", "its config by path", "its opening", "its last resume"]
)
def test_those_that_take_long_come_after_the_quick_ones(rig: HubRig, known_by: str) -> None:
    """The server resumes one after the other: behind a slow one all would wait."""
    configs: dict[str, dict[str, Any]] = {
        "its config": {"mcp_servers": {"slow": {"command": "x"}}},
        # As `codex -c` has it.
        "its config by path": {"mcp_servers.slow.command": "x"},
    }
    rig.ask(1, "thread/start", {"config": configs.get(known_by)})
    if known_by == "its opening":
        rig.tick(3)
    rig.answer("thread/start", {"thread": {"id": "slow"}})
    rig.open_thread(1, "t3")
    if known_by == "its last resume":
        _restart(rig)
        for thread_id in ("t1", "t2", "t3"):
            _answer(rig, thread_id)
        rig.tick(3)
        _answer(rig, "slow")
    rig.lose()
    rig.to_child.clear()
    # Also where it is waited for.
    rig.ask(1, "turn/start", {"threadId": "slow", "input": []})
    rig.ready()
    assert sorted(_resumes(rig)) == ["t1", "t2", "t3"]
    for thread_id in ("t1", "t2"):
        _answer(rig, thread_id)
    assert "slow" not in _resumes(rig)
    _answer(rig, "t3")
    assert _resumes(rig)[-1] == "slow"


def test_a_slow_one_is_resumed_also_where_a_quick_one_is_not_answered(rig: HubRig) -> None:
    rig.ask(1, "thread/start", {"config": {"mcp_servers": {}}})
    rig.answer("thread/start", {"thread": {"id": "slow"}})
    _restart(rig)
    rig.tick(1.1)
    assert _resumes(rig)[-1] == "slow"
