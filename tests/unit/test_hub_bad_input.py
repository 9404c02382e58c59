"""What codex would pass over without a word, and what must not fill the memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hub import HubRig

APPROVAL = "item/commandExecution/requestApproval"


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    return rig


@pytest.mark.parametrize("trace", [5, [], "x", {"traceparent": 5}, {"tracestate": {}}])
def test_a_request_that_the_server_would_pass_over_is_refused(rig: HubRig, trace: Any) -> None:
    rig.say(1, {"id": 5, "method": "model/list", "params": {}, "trace": trace})
    text = "Invalid request: trace is not what it must be"
    assert rig.answers(1, 5) == [{"id": 5, "error": {"code": -32600, "message": text}}]
    assert rig.to_child == []


@pytest.mark.parametrize("trace", [None, {}, {"traceparent": "00-1-2-01", "tracestate": None}])
def test_a_trace_passes(rig: HubRig, trace: Any) -> None:
    rig.say(1, {"id": 5, "method": "model/list", "params": {}, "trace": trace})
    assert rig.asked("model/list")["trace"] == trace


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"error": 5},
        {"error": {"code": "x", "message": "no"}},
        {"error": {"code": 1}},
        {"error": {"code": 2**63, "message": "no"}},
    ],
)
def test_an_answer_that_the_server_would_pass_over_leaves_the_question_open(
    rig: HubRig, body: dict[str, Any]
) -> None:
    rig.open_thread(1)
    rig.child({"id": 7, "method": APPROVAL, "params": {"threadId": "t1"}})
    before = list(rig.to_child)
    rig.say(1, {"id": 0, **body})
    assert rig.to_child == before
    assert rig.hub.snapshot()["waitingApprovals"] == 1
    rig.say(1, {"id": 0, "error": {"code": -1, "message": "no"}})
    assert rig.to_child[-1] == {"id": 7, "error": {"code": -1, "message": "no"}}


def test_an_answer_that_is_nested_too_deep_leaves_it_open(rig: HubRig) -> None:
    rig.open_thread(1)
    rig.child({"id": 7, "method": APPROVAL, "params": {"threadId": "t1"}})
    rig.say(1, b'{"id":0,"result":%s1%s}' % (b"[" * 130, b"]" * 130))
    assert rig.hub.snapshot()["waitingApprovals"] == 1


def test_a_thread_without_a_name_is_none(rig: HubRig) -> None:
    turn = {"id": "u1", "status": "inProgress"}
    rig.tell("turn/started", threadId="", turn=turn)
    rig.tell("turn/started", turn=turn)
    rig.tell("thread/status/changed", threadId="", status={"type": "active"})
    rig.lose()
    rig.ready("", "t1")
    assert [record.thread_id for record in rig.sessions.values()] == ["t1"]
    assert rig.hub.snapshot()["runningTurns"] == 0


def test_of_warnings_without_end_a_new_client_hears_the_last_ones(rig: HubRig) -> None:
    for number in range(300):
        rig.tell("configWarning", summary=str(number))
    rig.connect(2)
    heard = [entry["params"]["summary"] for entry in rig.got(2, "configWarning")]
    assert heard == [str(number) for number in range(200, 300)]


def test_of_logins_without_end_the_last_ones_are_told_to_have_failed(rig: HubRig) -> None:
    for number in range(1_100):
        rig.ask(1, "mcpServer/oauth/login", {"name": str(number)})
        rig.answer("mcpServer/oauth/login", {"authorizationUrl": "x"})
    rig.lose()
    rig.ready()
    ended = rig.got(1, "mcpServer/oauthLogin/completed")
    assert [entry["params"]["name"] for entry in ended] == [str(n) for n in range(100, 1_100)]


def test_what_nobody_is_there_to_answer_is_refused(rig: HubRig) -> None:
    text = "No client of codexd is there to answer this."
    refusal = {"error": {"code": -32601, "message": text}}
    rig.child({"id": 4, "method": "account/chatgptAuthTokens/refresh", "params": {}})
    assert rig.to_child == []
    rig.leave(1)
    assert rig.to_child == [{"id": 4, **refusal}]
    rig.child({"id": "x", "method": "mcpServer/elicitation/request", "params": {}})
    assert rig.to_child[1:] == [{"id": "x", **refusal}]
    assert rig.event_types()[-2:] == ["approval.requested", "approval.resolved"]
    assert rig.hub.snapshot()["waitingApprovals"] == 0


def test_when_all_but_one_refuse_and_that_one_leaves_the_server_hears_it(rig: HubRig) -> None:
    rig.connect(2)
    rig.child({"id": 4, "method": "account/chatgptAuthTokens/refresh", "params": {}})
    rig.say(1, {"id": 0, "error": {"code": -32601, "message": "not here"}})
    assert rig.to_child == []
    rig.leave(2)
    assert [entry["id"] for entry in rig.to_child] == [4]


def test_what_concerns_a_thread_waits_for_whoever_comes(rig: HubRig) -> None:
    rig.open_thread(1)
    rig.child({"id": 7, "method": APPROVAL, "params": {"threadId": "t1"}})
    before = len(rig.to_child)
    rig.leave(1)
    # Neither is it answered, nor may the server unload the thread.
    assert rig.to_child[before:] == []
    assert rig.hub.snapshot()["waitingApprovals"] == 1
