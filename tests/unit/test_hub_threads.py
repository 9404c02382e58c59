from __future__ import annotations

from typing import Any

import pytest

from tests.support.hub import HubRig


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    for client in (1, 2, 3):
        rig.connect(client)
    rig.open_thread(1)
    return rig


DELTA = "item/agentMessage/delta"
ASK = "item/commandExecution/requestApproval"


def test_a_threads_notifications_go_to_its_subscribers(rig: HubRig) -> None:
    rig.join_thread(2)
    rig.tell(DELTA, threadId="t1", delta="x")
    assert [len(rig.got(client, DELTA)) for client in (1, 2, 3)] == [1, 1, 0]
    rig.tell("thread/name/updated", threadId="t1", threadName="n")
    assert [len(rig.got(client, "thread/name/updated")) for client in (1, 2, 3)] == [1, 1, 1]


def test_what_comes_before_the_answer_of_a_start_reaches_the_starter_in_order() -> None:
    rig = HubRig()
    rig.connect(1)
    request = rig.ask(1, "thread/start")
    rig.tell("mcpServer/startupStatus/updated", threadId="t9", name="m")
    rig.tell("mcpServer/startupStatus/updated", threadId="other", name="m")
    rig.answer("thread/start", {"thread": {"id": "t9"}})
    tail = rig.to_client[1][-3:]
    assert tail[0]["params"]["threadId"] == "t9"
    assert tail[1]["id"] == request
    assert tail[2]["params"]["threadId"] == "other"


def test_what_comes_before_the_answer_of_a_start_reaches_nobody_else(rig: HubRig) -> None:
    rig.ask(2, "thread/start")
    rig.tell("warning", threadId="t9", message="m")
    rig.answer("thread/start", {"thread": {"id": "t9"}})
    assert [len(rig.got(client, "warning")) for client in (1, 2, 3)] == [0, 1, 0]


def test_of_a_thread_that_nobody_opened_all_hear_who_were_there(rig: HubRig) -> None:
    """A subagent's: codex subscribes every connection (measured)."""
    rig.tell("thread/status/changed", threadId="sub", status={"type": "active"})
    assert rig.sessions["sub"].status == "active"
    rig.tell("turn/started", threadId="sub", turn={"id": "u9", "items": []})
    rig.connect(4)
    rig.ask(3, "thread/unsubscribe", {"threadId": "sub"})
    rig.tell(DELTA, threadId="sub", delta="x")
    rig.child({"id": 5, "method": ASK, "params": {"threadId": "sub", "turnId": "u9"}})
    for method in (DELTA, ASK):
        assert [len(rig.got(client, method)) for client in (1, 2, 3, 4)] == [1, 1, 0, 0]
    rig.lose()
    rig.ready()
    assert [len(rig.got(client, "turn/completed")) for client in (1, 2, 3, 4)] == [1, 1, 0, 0]


def test_what_still_comes_of_a_thread_that_all_have_left_reaches_nobody(rig: HubRig) -> None:
    rig.leave(1)
    rig.tell(DELTA, threadId="t1", delta="x")
    assert not any(rig.got(client, DELTA) for client in (2, 3))


@pytest.mark.parametrize("tries_to_join", [False, True])
def test_a_turn_whose_end_the_server_does_not_tell_does_not_run_for_ever(
    rig: HubRig, tries_to_join: bool
) -> None:
    rig.leave(1)
    if tries_to_join:
        rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.ask(2, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", {"turn": {"id": "u1", "items": [], "status": "inProgress"}})
    for status in ("active", "idle"):
        rig.tell("thread/status/changed", threadId="t1", status={"type": status})
        if tries_to_join and status == "active":
            rig.answer("thread/resume", error={"code": -32600, "message": "no"})
        # Of a thread that nobody here has joined the turn is not followed.
        is_followed = tries_to_join or status == "active"
        assert rig.hub.snapshot()["runningTurns"] == int(is_followed)
    rig.tick(1.1)
    if tries_to_join:
        turn = {"id": "u1", "items": [], "status": "completed"}
        rig.answer("thread/turns/list", {"data": [turn]})
    assert rig.hub.snapshot()["runningTurns"] == 0
    assert rig.event_types().count("turn.started") == int(tries_to_join)
    assert rig.event_types().count("turn.completed") == int(tries_to_join)


@pytest.mark.parametrize(
    "method",
    [
        "thread/archived",
        "thread/attachment/updated",
        "thread/closed",
        "thread/deleted",
        "thread/goal/updated",
        "thread/name/updated",
        "thread/reverted",
        "thread/status/changed",
        "thread/unarchived",
    ],
)
@pytest.mark.parametrize("thread_id", ["t1", "nobodys"])
def test_what_the_server_tells_all_goes_to_all(rig: HubRig, method: str, thread_id: str) -> None:
    before = {client: len(got) for client, got in rig.to_client.items()}
    rig.tell(method, threadId=thread_id)
    for client in (1, 2, 3):
        # That, and nothing that the hub makes of it.
        assert [told["method"] for told in rig.to_client[client][before[client] :]] == [method]


def test_what_came_early_of_a_server_that_is_gone_reaches_nobody(rig: HubRig) -> None:
    rig.ask(2, "thread/start")
    rig.tell("warning", threadId="t9", message="m")
    rig.lose()
    rig.ready()
    assert not any(rig.got(client, "warning") for client in (1, 2, 3))


def test_what_is_told_of_a_turn_makes_it_run_only_where_the_thread_is_at_work(rig: HubRig) -> None:
    rig.tell("item/started", threadId="t1", turnId="u0", item={})
    assert rig.hub.snapshot()["runningTurns"] == 0
    rig.run_turn(1)
    rig.tell("item/started", threadId="t1", turnId="u2", item={})
    assert rig.sessions["t1"].metadata == {"runningTurn": "u1"}
    rig.tell("thread/status/changed", threadId="other", status={"type": "active"})
    rig.tell("item/started", threadId="other", turnId="u3", item={})
    assert rig.sessions["other"].metadata == {"runningTurn": "u3"}


def test_a_resume_that_is_refused_subscribes_nobody(rig: HubRig) -> None:
    rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.tell(DELTA, threadId="t1", delta="x")
    assert rig.got(2, DELTA)
    rig.answer("thread/resume", error={"code": -32600, "message": "no"})
    rig.tell(DELTA, threadId="t1", delta="y")
    assert len(rig.got(2, DELTA)) == 1
    assert len(rig.got(1, DELTA)) == 2


def test_a_thread_that_all_have_left_is_known_also_after_a_resume_was_refused(rig: HubRig) -> None:
    rig.leave(1)
    rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.answer("thread/resume", error={"code": -32600, "message": "no"})
    assert rig.hub.snapshot()["threads"] == 1


def test_the_end_of_another_turn_is_not_that_of_the_one_that_runs(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.tell("turn/completed", threadId="t1", turn={"id": "u0", "status": "completed"})
    assert rig.sessions["t1"].metadata == {"runningTurn": "u1"}


def test_only_the_last_one_unsubscribes_at_the_server(rig: HubRig) -> None:
    rig.join_thread(2)
    first = rig.ask(1, "thread/unsubscribe", {"threadId": "t1"})
    assert rig.answers(1, first)[-1]["result"] == {"status": "unsubscribed"}
    stranger = rig.ask(3, "thread/unsubscribe", {"threadId": "t1"})
    assert rig.answers(3, stranger)[-1]["result"] == {"status": "notSubscribed"}
    assert not [entry for entry in rig.to_child if entry["method"] == "thread/unsubscribe"]
    last = rig.ask(2, "thread/unsubscribe", {"threadId": "t1"})
    rig.answer("thread/unsubscribe", {"status": "unsubscribed"})
    assert rig.answers(2, last)[-1]["result"] == {"status": "unsubscribed"}
    rig.tell(DELTA, threadId="t1", delta="x")
    assert not any(rig.got(client, DELTA) for client in (1, 2, 3))
    # Its turns are not told to this connection any more, so their ends would never come.
    rig.ask(3, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("turn/start", {"turn": {"id": "u1", "items": [], "status": "inProgress"}})
    assert rig.hub.snapshot()["runningTurns"] == 0


@pytest.mark.parametrize("method", ["thread/unsubscribe", "thread/settings/update"])
def test_who_names_a_thread_that_nobody_knows_hears_the_servers_answer(
    rig: HubRig, method: str
) -> None:
    request = rig.ask(1, method, {"threadId": "t9"})
    rig.answer(method, {"status": "notLoaded"})
    assert rig.answers(1, request) == [{"id": request, "result": {"status": "notLoaded"}}]


def test_when_the_last_listener_leaves_an_idle_thread_the_server_may_unload_it(
    rig: HubRig,
) -> None:
    rig.leave(1)
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def test_who_left_before_its_thread_was_there_leaves_it_to_be_unloaded(rig: HubRig) -> None:
    rig.ask(2, "thread/start")
    rig.leave(2)
    rig.answer("thread/start", {"thread": {"id": "t2"}})
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t2"}
    assert rig.sessions["t2"].status == "active"


@pytest.mark.parametrize("stays", [True, False])
def test_who_asks_for_a_review_beside_a_thread_hears_it(rig: HubRig, stays: bool) -> None:
    rig.ask(1, "review/start", {"threadId": "t1", "delivery": "detached"})
    if not stays:
        rig.leave(1)
    turn = {"id": "u5", "items": [], "status": "inProgress"}
    rig.answer("review/start", {"turn": turn, "reviewThreadId": "r1"})
    rig.tell(DELTA, threadId="r1", delta="x")
    assert [len(rig.got(client, DELTA)) for client in (1, 2, 3)] == [int(stays), 0, 0]
    rig.end_turn("r1", "u5")
    # With nobody there any more, the server may unload it.
    unsubscribed = [e["params"] for e in rig.to_child if e["method"] == "thread/unsubscribe"]
    assert ({"threadId": "r1"} in unsubscribed) is not stays


def test_a_running_turn_keeps_the_thread_until_it_ends(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.leave(1)
    assert not [entry for entry in rig.to_child if entry["method"] == "thread/unsubscribe"]
    rig.end_turn()
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def test_sessions_follow_the_traffic(rig: HubRig) -> None:
    assert rig.sessions["t1"].status == "active"
    assert rig.sessions["t1"].purpose == "duplex"
    assert rig.sessions["t1"].child_pid == 7
    rig.tell("thread/started", thread={"id": "past-the-hub"})
    assert rig.sessions["past-the-hub"].status == "active"
    rig.tell("thread/closed", threadId="t1")
    rig.tell("thread/archived", threadId="past-the-hub")
    assert {record.status for record in rig.sessions.values()} == {"closed"}
    assert rig.event_types().count("session.registered") == 2
    assert rig.event_types().count("session.closed") == 2


def test_turns_are_events_and_counted(rig: HubRig) -> None:
    rig.run_turn(1)
    assert rig.hub.snapshot()["runningTurns"] == 1
    rig.end_turn()
    assert rig.hub.snapshot()["runningTurns"] == 0
    turns = [event for event in rig.events if event.type.startswith("turn.")]
    assert [event.type for event in turns] == ["turn.started", "turn.completed"]
    assert turns[0].detail == {
        "threadId": "t1",
        "turnId": "u1",
        "sessionId": rig.sessions["t1"].session_id,
    }


# -- requests of the server ------------------------------------------------------------------


def _server_asks(rig: HubRig, request_id: int = 0) -> None:
    params = {"threadId": "t1", "turnId": "u1", "itemId": "i1", "command": "rm -rf secret"}
    rig.child({"id": request_id, "method": ASK, "params": params})


def test_the_first_answer_counts_and_the_others_learn_that_it_is_resolved(rig: HubRig) -> None:
    rig.join_thread(2)
    _server_asks(rig)
    one, two = rig.got(1, ASK)[0], rig.got(2, ASK)[0]
    assert not rig.got(3, ASK)
    rig.say(2, {"id": two["id"], "result": {"decision": "accept"}})
    rig.say(1, {"id": one["id"], "result": {"decision": "decline"}})
    answers = [entry for entry in rig.to_child if "method" not in entry]
    assert answers == [{"id": 0, "result": {"decision": "accept"}}]
    rig.tell("serverRequest/resolved", threadId="t1", requestId=0)
    for client, asked in ((1, one), (2, two)):
        told = rig.got(client, "serverRequest/resolved")[0]["params"]
        assert told == {"threadId": "t1", "requestId": asked["id"]}
    assert [event.type for event in rig.events if "approval" in event.type] == [
        "approval.requested",
        "approval.resolved",
    ]
    assert "secret" not in str(rig.events)


def test_with_nobody_there_it_waits_for_who_comes(rig: HubRig) -> None:
    rig.run_turn(1)
    rig.leave(1)
    _server_asks(rig)
    assert rig.hub.snapshot()["waitingApprovals"] == 1
    rig.ask(2, "thread/resume", {"threadId": "t1"})
    _server_asks(rig)  # the server asks again before or after a resume's answer
    rig.answer("thread/resume", {"thread": {"id": "t1"}})
    assert len(rig.got(2, ASK)) == 1
    rig.say(2, {"id": rig.got(2, ASK)[0]["id"], "result": {}})
    assert rig.hub.snapshot()["waitingApprovals"] == 0
    assert len([event for event in rig.events if event.type == "approval.requested"]) == 1


def test_an_approval_that_waits_shows_in_its_session(rig: HubRig) -> None:
    for request_id in (0, 1):
        _server_asks(rig, request_id)
    assert rig.sessions["t1"].metadata == {"waitingApprovals": "2"}
    rig.say(1, {"id": rig.got(1, ASK)[0]["id"], "result": {"decision": "accept"}})
    assert rig.sessions["t1"].metadata == {"waitingApprovals": "1"}
    rig.lose()
    rig.ready()
    assert rig.sessions["t1"].metadata == {}


def test_who_joins_later_is_asked_too(rig: HubRig) -> None:
    _server_asks(rig)
    rig.join_thread(2)
    assert len(rig.got(2, ASK)) == 1


def test_an_answer_nobody_was_asked_for_goes_nowhere(rig: HubRig) -> None:
    _server_asks(rig)
    rig.say(3, {"id": 0, "result": {"decision": "accept"}})
    assert not [entry for entry in rig.to_child if "method" not in entry]


def test_a_request_about_no_thread_goes_to_whoever_can(rig: HubRig) -> None:
    rig.child({"id": 4, "method": "account/chatgptAuthTokens/refresh", "params": {}})
    ids = [rig.got(client, "account/chatgptAuthTokens/refresh")[0]["id"] for client in (1, 2, 3)]
    rig.say(1, {"id": ids[0], "error": {"code": -32601, "message": "cannot"}})
    # Who cannot is not asked any more, and has no second word.
    rig.say(1, {"id": ids[0], "result": {"token": "z"}})
    assert not [entry for entry in rig.to_child if "method" not in entry]
    rig.say(2, {"id": ids[1], "result": {"token": "x"}})
    rig.say(3, {"id": ids[2], "result": {"token": "y"}})
    answers = [entry for entry in rig.to_child if "method" not in entry]
    assert answers == [{"id": 4, "result": {"token": "x"}}]
    # It is over: what the server asks next is another request.
    rig.child({"id": 4, "method": "account/chatgptAuthTokens/refresh", "params": {}})
    assert len(rig.got(2, "account/chatgptAuthTokens/refresh")) == 2


def test_an_approval_ends_with_its_turn(rig: HubRig) -> None:
    rig.run_turn(1)
    _server_asks(rig)
    rig.end_turn()
    assert rig.hub.snapshot()["waitingApprovals"] == 0
    (told,) = rig.got(1, "serverRequest/resolved")
    assert told["params"] == {"threadId": "t1", "requestId": 0}
    rig.leave(1)
    assert rig.asked("thread/unsubscribe")["params"] == {"threadId": "t1"}


def test_of_two_approvals_the_server_may_resolve_one_itself(rig: HubRig) -> None:
    for request_id in (0, 1):
        _server_asks(rig, request_id)
    rig.tell("serverRequest/resolved", threadId="t1", requestId=0)
    assert rig.hub.snapshot()["waitingApprovals"] == 1
    assert rig.sessions["t1"].metadata == {"waitingApprovals": "1"}


def test_another_request_under_the_same_id_takes_the_place_of_the_first(rig: HubRig) -> None:
    _server_asks(rig)
    params = {"threadId": "t1", "turnId": "u1", "itemId": "i2"}
    rig.child({"id": 0, "method": "item/fileChange/requestApproval", "params": params})
    assert rig.hub.snapshot()["waitingApprovals"] == 1
    before = len(rig.to_child)
    rig.say(1, {"id": rig.got(1, ASK)[0]["id"], "result": {"decision": "accept"}})
    assert rig.to_child[before:] == []
    asked = rig.got(1, "item/fileChange/requestApproval")[0]
    rig.say(1, {"id": asked["id"], "result": {"decision": "decline"}})
    assert rig.to_child[before:] == [{"id": 0, "result": {"decision": "decline"}}]


def test_who_does_not_want_to_hear_what_is_resolved_does_not(rig: HubRig) -> None:
    rig.connect(4, optOutNotificationMethods=["serverRequest/resolved"])
    rig.join_thread(4)
    _server_asks(rig)
    rig.tell("serverRequest/resolved", threadId="t1", requestId=0)
    assert [len(rig.got(client, "serverRequest/resolved")) for client in (1, 4)] == [1, 0]


@pytest.mark.parametrize("thread_id", ["", "x", None, 7])
def test_a_resume_that_was_refused_leaves_no_thread(rig: HubRig, thread_id: Any) -> None:
    before = rig.hub.snapshot()["threads"]
    rig.ask(1, "thread/resume", {"threadId": thread_id})
    rig.answer("thread/resume", error={"code": -32600, "message": "invalid session id: no"})
    assert rig.hub.snapshot()["threads"] == before
