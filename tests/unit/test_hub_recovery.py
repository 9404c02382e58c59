from __future__ import annotations

import pytest
from msgspec.structs import replace

from codexd.contracts import SessionRecord
from codexd.hub import window
from codexd.hub.hub import HubLimits
from tests.support.hub import HubRig


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    rig.open_thread(1)
    rig.join_thread(2)
    return rig


def _restart(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.ready()


def _answer_resumes(rig: HubRig) -> None:
    rig.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})


def test_a_thread_that_is_refused_for_ever_is_asked_for_for_ever(rig: HubRig) -> None:
    _restart(rig)
    for _ in range(1100):
        rig.answer("thread/resume", error={"code": -32600, "message": "disk full"})
        rig.tick(61)
    _answer_resumes(rig)
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", {"turn": {"id": "u1"}})
    assert rig.answers(1, request)


def test_a_request_in_flight_is_refused_with_the_reason(rig: HubRig) -> None:
    request = rig.ask(1, "config/value/write", {"keyPath": "x"})
    _restart(rig)
    (answer,) = rig.answers(1, request)
    assert answer["error"]["code"] == -32050
    assert answer["error"]["data"]["codexd"]["reason"] == "server_restarted"
    _answer_resumes(rig)
    assert not [entry for entry in rig.to_child if entry["method"] == "config/value/write"]


def test_a_loss_that_is_told_twice_is_one(rig: HubRig) -> None:
    request = rig.ask(1, "config/value/write", {"keyPath": "x"})
    for _ in range(2):
        rig.lose()
    assert len(rig.answers(1, request)) == 1


def test_a_request_that_only_reads_is_sent_again(rig: HubRig) -> None:
    request = rig.ask(1, "thread/list", {"limit": 3})
    _restart(rig)
    # It names no thread, so it waits for none.
    assert [entry["method"] for entry in rig.to_child] == ["thread/list", "thread/resume"]
    assert rig.to_child[0]["params"] == {"limit": 3}
    rig.answer("thread/list", {"data": []})
    assert rig.answers(1, request) == [{"id": request, "result": {"data": []}}]


def test_a_request_over_which_the_server_dies_again_is_not_sent_a_third_time(rig: HubRig) -> None:
    request = rig.ask(1, "thread/read", {"threadId": "t1"})
    for _ in range(2):
        _restart(rig)
        _answer_resumes(rig)
    (answer,) = rig.answers(1, request)
    assert answer["error"]["data"]["codexd"]["reason"] == "server_restarted"
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume"]


def test_requests_wait_while_the_server_is_away_and_keep_their_order(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.ask(2, "thread/name/set", {"threadId": "t1", "name": "n"})
    assert rig.to_child == []
    assert rig.hub.snapshot()["waitingRequests"] == 2
    rig.ready()
    _answer_resumes(rig)
    assert [entry["method"] for entry in rig.to_child] == [
        "thread/resume",
        "turn/start",
        "thread/name/set",
    ]


def test_a_turn_ends_once_as_interrupted_before_anything_of_the_new_child(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.lose()
    for client in (1, 2):
        assert not rig.got(client, "turn/completed")
    rig.ready()
    for client in (1, 2):
        (ended,) = rig.got(client, "turn/completed")
        assert ended["params"]["turn"]["status"] == "interrupted"
        assert ended["params"]["turn"]["id"] == "u1"
        assert rig.got(client, "thread/status/changed")[-1]["params"]["status"] == {"type": "idle"}
    _answer_resumes(rig)
    rig.end_turn()
    assert all(len(rig.got(client, "turn/completed")) == 1 for client in (1, 2))
    assert rig.event_types().count("turn.interrupted") == 1
    assert "turn.completed" not in rig.event_types()


def test_a_turn_that_was_answered_but_not_yet_told_of_ends_too(rig: HubRig) -> None:
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    turn = {"id": "u1", "items": [], "status": "inProgress"}
    rig.answer("turn/start", {"turn": turn})
    _restart(rig)
    assert rig.got(1, "turn/completed")[0]["params"]["turn"]["id"] == "u1"


def test_a_turn_start_in_flight_is_never_sent_again(rig: HubRig) -> None:
    request = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    _restart(rig)
    _answer_resumes(rig)
    (answer,) = rig.answers(1, request)
    assert "may have begun" in answer["error"]["message"]
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume"]


def test_only_who_was_refused_a_resume_may_not_begin_a_turn_unheard(rig: HubRig) -> None:
    rig.connect(3)
    refused = rig.ask(3, "thread/name/set", {"threadId": "t1", "name": "n"})
    unread = rig.ask(3, "turn/start", {"threadId": "t1", "input": []})
    rig.lose(rig.asked("turn/start"))
    assert rig.answers(3, refused)
    assert not rig.answers(3, unread)


def test_who_hears_the_thread_may_begin_a_turn_whatever_became_of_another_resume(
    rig: HubRig,
) -> None:
    resume = rig.ask(1, "thread/resume", {"threadId": "t1"})
    _restart(rig)
    # The hub's own; the client's is sent again, once.
    _answer_resumes(rig)
    turn = rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.lose(rig.asked("turn/start"))
    assert "error" in rig.answers(1, resume)[0]
    assert not rig.answers(1, turn)


def test_an_opening_that_was_lost_is_not_waited_for(rig: HubRig) -> None:
    rig.ask(1, "thread/start")
    _restart(rig)
    rig.tell("item/agentMessage/delta", threadId="sub", delta="x")
    assert all(rig.got(client, "item/agentMessage/delta") for client in (1, 2))


def test_who_hears_a_thread_anyway_hears_it_after_a_repeated_resume_was_refused(
    rig: HubRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.ask(1, "model/list")
    rig.ask(1, "thread/resume", {"threadId": "sub"})
    monkeypatch.setattr(window, "ONE_CLIENT", 1)
    rig.lose()
    rig.ready()
    # A subagent's, which all hear, before the resume has had its turn.
    rig.tell("item/agentMessage/delta", threadId="sub", delta="x")
    rig.answer("model/list")
    assert rig.asked("thread/resume")["params"] == {"threadId": "sub"}
    rig.answer("thread/resume", error={"code": -32600, "message": "no"})
    rig.tell("item/agentMessage/delta", threadId="sub", delta="y")
    assert len(rig.got(1, "item/agentMessage/delta")) == 2


def _resume_with_config(rig: HubRig) -> None:
    config = {"model": "m", "model_reasoning_summary": "detailed"}
    rig.ask(2, "thread/resume", {"threadId": "t1", "cwd": "/w", "config": config})
    rig.answer("thread/resume", {"thread": {"id": "t1"}})


def test_a_resume_gives_again_what_the_rollout_does_not_keep_and_nothing_else(rig: HubRig) -> None:
    _resume_with_config(rig)
    rig.ask(1, "turn/start", {"threadId": "t1", "input": [], "approvalPolicy": "never"})
    rig.answer("turn/start", {"turn": {"id": "u1", "items": [], "status": "inProgress"}})
    _restart(rig)
    assert rig.asked("thread/resume")["params"] == {
        "threadId": "t1",
        "excludeTurns": True,
        "config": {"model_reasoning_summary": "detailed"},
    }


def test_active_threads_are_resumed_for_those_who_listened(rig: HubRig) -> None:
    rig.run_turn(1)
    _restart(rig)
    assert rig.asked("thread/resume")["params"] == {"threadId": "t1", "excludeTurns": True}
    _answer_resumes(rig)
    assert "session.recovered" in rig.event_types()
    rig.tell("item/agentMessage/delta", threadId="t1", delta="x")
    assert rig.got(1, "item/agentMessage/delta")
    assert rig.got(2, "item/agentMessage/delta")


def _refuse_resume(rig: HubRig, message: str) -> None:
    rig.answer("thread/resume", error={"code": -32600, "message": message})


def test_a_resume_refused_for_its_config_is_tried_without_it_and_that_is_told(rig: HubRig) -> None:
    _resume_with_config(rig)
    for number in (1, 2):
        _restart(rig)
        assert "config" in rig.asked("thread/resume")["params"]
        _refuse_resume(rig, "failed to load configuration: unknown variant `x`\nin `y`\n")
        assert "config" not in rig.asked("thread/resume")["params"]
        _answer_resumes(rig)
        assert rig.hub.snapshot()["resumingThreads"] == 0
        assert rig.event_types().count("session.recovered") == number
        for client in (1, 2):
            warnings = rig.got(client, "warning")
            assert len(warnings) == number
            assert "unknown variant" in warnings[0]["params"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        "failed to load configuration: /home/u/.codex/config.toml:10:6: unclosed table",
        "error resuming thread: required MCP servers failed to initialize: x",
    ],
)
def test_the_config_is_not_given_up_for_what_is_not_its_fault(rig: HubRig, message: str) -> None:
    _resume_with_config(rig)
    _restart(rig)
    for _ in range(6):
        assert "config" in rig.asked("thread/resume")["params"]
        _refuse_resume(rig, message)
        rig.tick(60)
    assert not rig.got(1, "warning")


def test_a_thread_that_is_gone_is_closed_and_its_session_lost(rig: HubRig) -> None:
    _restart(rig)
    gone = {"code": -32600, "message": "no rollout found for thread id t1"}
    rig.answer("thread/resume", error=gone)
    assert rig.got(1, "thread/closed")[0]["params"] == {"threadId": "t1"}
    assert rig.sessions["t1"].status == "closed"
    assert "session.lost" in rig.event_types()
    assert rig.hub.snapshot()["server"] == "up"


def test_a_thread_without_a_session_that_is_gone_is_closed_and_no_loss(rig: HubRig) -> None:
    rig.do(rig.hub.close_session("t1", rig.now))
    _restart(rig)
    rig.answer("thread/resume", error={"code": -32600, "message": "no rollout found"})
    assert rig.got(1, "thread/closed")
    assert "session.lost" not in rig.event_types()


def test_approvals_of_the_old_child_are_resolved(rig: HubRig) -> None:
    rig.child({"id": 0, "method": "item/fileChange/requestApproval", "params": {"threadId": "t1"}})
    _restart(rig)
    assert rig.got(1, "serverRequest/resolved")
    own_id = rig.got(1, "item/fileChange/requestApproval")[0]["id"]
    rig.say(1, {"id": own_id, "result": {}})
    assert all("method" in entry for entry in rig.to_child)


def test_a_child_that_is_to_end_begins_no_new_turn(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.hub.drain()
    request = rig.ask(2, "turn/start", {"threadId": "t1", "input": []})
    steer = rig.ask(1, "turn/steer", {"threadId": "t1"})
    assert rig.asked("turn/steer")
    rig.answer("turn/steer")
    assert rig.answers(1, steer)
    rig.end_turn()
    assert len([entry for entry in rig.to_child if entry["method"] == "turn/start"]) == 1
    _restart(rig)
    _answer_resumes(rig)
    assert rig.asked("turn/start")
    rig.answer("turn/start", {"turn": {"id": "u2"}})
    assert rig.answers(2, request)[0]["result"]["turn"]["id"] == "u2"


def test_a_server_that_dies_again_while_threads_are_resumed(rig: HubRig) -> None:
    request = rig.ask(1, "thread/list")
    _restart(rig)
    _restart(rig)
    # Two servers died over it, or beside it: no third one gets it.
    assert rig.answers(1, request)[0]["error"]["code"] == -32050
    assert [entry["method"] for entry in rig.to_child] == ["thread/resume"]
    _answer_resumes(rig)
    assert rig.hub.snapshot()["resumingThreads"] == 0


def test_nobody_waits_for_ever() -> None:
    rig = HubRig(HubLimits(wait_s=60))
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    rig.lose()
    request = rig.ask(1, "thread/list")
    rig.do(rig.hub.client_opened(2, rig.now))
    params = {"clientInfo": {"name": "late", "version": "1"}}
    rig.say(2, {"id": 0, "method": "initialize", "params": params})
    rig.tick(59)
    assert not rig.answers(1, request)
    assert not rig.answers(2, 0)
    rig.tick(2)
    assert rig.answers(1, request)[0]["error"]["data"]["codexd"]["reason"] == "away"
    assert rig.got(1, "turn/completed")[0]["params"]["turn"]["status"] == "interrupted"
    assert rig.answers(2, 0)[0]["error"]["data"]["codexd"]["reason"] == "away"
    # It has as long to try again as it had to begin with.
    rig.tick(30)
    assert rig.closed == []
    rig.tick(1)
    assert rig.closed == [2]
    rig.ready()
    assert len(rig.got(1, "turn/completed")) == 1


def test_what_a_dead_server_ran_ends_at_once_also_where_no_other_comes(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.end()
    assert not rig.got(1, "turn/completed"), "it lives"
    rig.lose()
    assert not rig.got(1, "turn/completed"), "it may live"
    for _ in range(2):
        rig.end()
    for client in (1, 2):
        (ended,) = rig.got(client, "turn/completed")
        assert ended["params"]["turn"]["status"] == "interrupted"
        assert "signal 9" in ended["params"]["turn"]["error"]["message"]
    assert rig.hub.snapshot()["runningTurns"] == 0
    rig.ready()
    rig.tick(1000)
    assert len(rig.got(1, "turn/completed")) == 1


def test_what_waits_is_bounded() -> None:
    rig = HubRig(HubLimits(waiting_requests=3, waiting_bytes=1000), ready=False)
    rig.connect(1)
    rig.ready()
    rig.lose()
    few = [rig.ask(1, "thread/list") for _ in range(4)]
    assert rig.answers(1, few[3])[0]["error"]["code"] == -32001
    assert not any(rig.answers(1, request) for request in few[:3])


def test_after_a_plugins_restart_the_sessions_are_heard_again_and_nothing_is_interrupted() -> None:
    rig = HubRig(ready=False)
    record = SessionRecord(
        session_id="session-1",
        purpose="worker",
        thread_id="t1",
        endpoint="stdio://x",
        created_at="",
        updated_at="",
    )
    rig.do(rig.hub.restore([record], rig.now))
    rig.ready("t1", same_child=True)
    assert rig.asked("thread/resume")["params"]["threadId"] == "t1"
    active = {"thread": {"id": "t1", "status": {"type": "active", "activeFlags": []}}}
    rig.answer("thread/resume", active)
    assert "session.recovered" not in rig.event_types()
    rig.connect(1)
    rig.join_thread(1)
    rig.tell("item/agentMessage/delta", threadId="t1", turnId="u5", delta="x")
    rig.lose()
    rig.ready()
    assert rig.got(1, "turn/completed")[0]["params"]["turn"]["id"] == "u5"
    assert rig.sessions["t1"].purpose == "worker"


def test_of_the_registry_only_what_is_active_and_has_a_thread_is_taken_over() -> None:
    rig = HubRig(ready=False)
    active = SessionRecord(
        session_id="session-1",
        purpose="duplex",
        thread_id="t1",
        endpoint="stdio://x",
        created_at="",
        updated_at="",
    )
    others = [
        replace(active, session_id="session-2", thread_id=None),
        replace(active, session_id="session-3", thread_id="t3", status="closed"),
    ]
    rig.do(rig.hub.restore([active, *others], rig.now))
    assert rig.hub.snapshot()["activeSessions"] == 1
    assert rig.hub.snapshot()["threads"] == 1


def test_a_session_that_is_recovered_is_that_of_the_new_child(rig: HubRig) -> None:
    rig.lose()
    rig.ready(child_pid=8)
    assert rig.sessions["t1"].child_pid == 7
    _answer_resumes(rig)
    assert rig.sessions["t1"].child_pid == 8


def test_many_threads_are_resumed_a_few_at_a_time() -> None:
    rig = HubRig()
    rig.connect(1)
    for number in range(40):
        rig.open_thread(1, f"t{number}")
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    answered = 0
    while rig.hub.snapshot()["resumingThreads"]:
        under_way = rig.to_child[answered:]
        assert 0 < len(under_way) <= 16
        for entry in under_way:
            rig.child({"id": entry["id"], "result": {"thread": {"id": "x"}}})
            answered += 1
    assert answered == 40
