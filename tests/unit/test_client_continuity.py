"""What a client of `codexd attach` sees over the loss of a connection."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from codexd.client.continuity import Continuity


class Rig:
    """A client, and a server whose connections can be cut."""

    def __init__(self) -> None:
        self.continuity = Continuity()
        self.to_server: list[dict[str, Any]] = []
        self.to_client: list[dict[str, Any]] = []
        self.now = 0.0

    def client(self, **message: Any) -> None:
        sent = self.continuity.from_client(json.dumps(message).encode())
        self.to_server += [json.loads(data) for data in sent]

    def server(self, **message: Any) -> None:
        sends = self.continuity.from_server(json.dumps(message).encode())
        self.to_server += [json.loads(data) for data in sends.to_server]
        self.to_client += [json.loads(data) for data in sends.to_client]

    def wait(self) -> bool:
        """Time passes until something is asked once more; False if nothing ever is."""
        data = self.continuity.due(self.now)
        if not data and self.continuity.next_at is not None:
            self.now = self.continuity.next_at
            data = self.continuity.due(self.now)
        self.to_server += [json.loads(message) for message in data]
        return bool(data)

    def tell(self, method: str, **params: Any) -> None:
        self.server(method=method, params=params)

    def lose(self) -> None:
        self.to_client += [json.loads(data) for data in self.continuity.lost()]
        self.to_server.clear()

    def reconnect(self) -> None:
        self.to_server += [json.loads(data) for data in self.continuity.reconnected()]

    def welcome(self) -> None:
        """A new connection, on which the client is introduced."""
        self.lose()
        self.to_client.clear()
        self.reconnect()
        self.server(id=self.to_server[-1]["id"], result={})

    def asked(self, method: str) -> dict[str, Any]:
        return next(message for message in self.to_server if message.get("method") == method)

    def got(self, method: str) -> list[dict[str, Any]]:
        return [entry["params"] for entry in self.to_client if entry.get("method") == method]


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.client(id=0, method="initialize", params={"clientInfo": {"name": "c", "version": "1"}})
    rig.server(id=0, result={"userAgent": "x"})
    rig.client(method="initialized")
    rig.client(id=1, method="thread/start", params={})
    rig.server(id=1, result={"thread": {"id": "t1"}})
    rig.to_client.clear()
    rig.to_server.clear()
    return rig


def begin_turn(rig: Rig) -> None:
    rig.client(id=2, method="turn/start", params={"threadId": "t1", "input": []})
    rig.server(id=2, result={"turn": {"id": "u1", "status": "inProgress", "items": []}})
    rig.tell("turn/started", threadId="t1", turn={"id": "u1"})


def resumed(rig: Rig, *turns: dict[str, Any]) -> None:
    page = {"data": list(turns), "nextCursor": None}
    is_running = any(turn["status"] == "inProgress" for turn in turns)
    status = {"type": "active" if is_running else "idle"}
    answer = {"thread": {"id": "t1", "status": status}, "initialTurnsPage": page}
    rig.server(id=rig.asked("thread/resume")["id"], result=answer)


def test_a_new_connection_is_introduced_as_the_first_was_and_the_client_hears_nothing(
    rig: Rig,
) -> None:
    rig.welcome()
    first, second, third = rig.to_server
    assert first["params"]["clientInfo"]["name"] == "c"
    assert second == {"method": "initialized"}
    assert third["method"] == "thread/resume"
    assert third["params"]["threadId"] == "t1"
    resumed(rig)
    assert rig.to_client == []


def test_what_the_client_says_meanwhile_waits_until_it_is_known(rig: Rig) -> None:
    rig.lose()
    rig.client(id=5, method="thread/list", params={})
    rig.reconnect()
    rig.client(method="unknown/notification")
    assert [message["method"] for message in rig.to_server] == ["initialize"]
    assert rig.continuity.is_waiting
    assert rig.continuity.held_bytes > 0
    rig.server(id=rig.to_server[0]["id"], result={})
    methods = [message["method"] for message in rig.to_server[1:]]
    assert methods == ["initialized", "thread/resume", "thread/list", "unknown/notification"]
    assert rig.continuity.held_bytes == 0


def test_before_the_client_introduced_itself_a_new_connection_says_nothing() -> None:
    rig = Rig()
    rig.lose()
    rig.reconnect()
    assert rig.to_server == []
    rig.client(id=0, method="initialize")
    assert rig.to_server == [{"id": 0, "method": "initialize"}]


def test_an_unanswered_initialize_is_asked_again_under_its_own_id() -> None:
    rig = Rig()
    rig.client(id="a", method="initialize", params={})
    rig.lose()
    rig.client(method="initialized")
    rig.reconnect()
    assert rig.to_server == [{"id": "a", "method": "initialize", "params": {}}]
    rig.server(id="a", result={"userAgent": "x"})
    assert rig.to_client == [{"id": "a", "result": {"userAgent": "x"}}]
    assert rig.to_server[1:] == [{"method": "initialized"}]


def test_an_initialize_that_is_refused_for_lack_of_a_server_is_tried_again(rig: Rig) -> None:
    rig.lose()
    rig.reconnect()
    rig.server(id=rig.to_server[0]["id"], error={"code": -32050, "message": "away"})
    assert len(rig.to_server) == 1
    assert rig.wait()
    assert [message["method"] for message in rig.to_server] == ["initialize", "initialize"]
    assert rig.to_client == []


def test_what_changes_nothing_is_asked_again_and_the_rest_is_answered_with_an_error(
    rig: Rig,
) -> None:
    rig.client(id=3, method="thread/list", params={})
    rig.client(id=4, method="thread/name/set", params={})
    rig.lose()
    (error,) = rig.to_client
    assert error["id"] == 4
    assert error["error"]["data"]["codexd"]["reason"] == "connection_lost"
    rig.reconnect()
    rig.server(id=rig.to_server[0]["id"], result={})
    assert rig.to_server[-1]["id"] == 3
    assert rig.continuity.unanswered == 1


def test_a_turn_that_still_runs_goes_on(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    resumed(rig, {"id": "u1", "status": "inProgress", "items": []})
    assert rig.to_client == []
    rig.tell("turn/completed", threadId="t1", turn={"id": "u1", "status": "completed"})
    assert len(rig.got("turn/completed")) == 1


def test_of_a_turn_that_ended_meanwhile_the_client_hears_what_it_missed(rig: Rig) -> None:
    begin_turn(rig)
    rig.tell("item/completed", threadId="t1", turnId="u1", item={"id": "i1"})
    rig.welcome()
    turn = {"id": "u1", "status": "completed", "items": [{"id": "i1"}, {"id": "i2"}]}
    resumed(rig, turn)
    (item,) = rig.got("item/completed")
    assert (item["item"], item["turnId"]) == ({"id": "i2"}, "u1")
    assert rig.got("turn/completed") == [{"threadId": "t1", "turn": turn}]
    assert rig.to_client[-1]["method"] == "turn/completed"
    # And once only, whatever is lost later.
    rig.welcome()
    resumed(rig, turn)
    assert rig.to_client == []


def test_a_client_without_experimental_api_gets_no_experimental_request(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    assert rig.asked("thread/resume")["params"] == {"threadId": "t1"}
    turn = {"id": "u1", "status": "completed", "items": [{"id": "i2"}]}
    thread = {"id": "t1", "status": {"type": "idle"}, "turns": [turn]}
    rig.server(id=rig.asked("thread/resume")["id"], result={"thread": thread})
    assert rig.got("turn/completed") == [{"threadId": "t1", "turn": turn}]


def test_a_client_with_it_gets_the_last_turns_only() -> None:
    rig = Rig()
    capabilities = {"experimentalApi": True}
    rig.client(id=0, method="initialize", params={"capabilities": capabilities})
    rig.server(id=0, result={})
    rig.client(id=1, method="thread/start", params={})
    rig.server(id=1, result={"thread": {"id": "t1"}})
    rig.welcome()
    assert "initialTurnsPage" in rig.asked("thread/resume")["params"]


def test_a_client_with_it_is_asked_about_its_last_turns_only() -> None:
    rig = Rig()
    rig.client(id=0, method="initialize", params={"capabilities": {"experimentalApi": True}})
    rig.server(id=0, result={})
    rig.client(id=1, method="thread/start", params={})
    rig.server(id=1, result={"thread": {"id": "t1"}})
    begin_turn(rig)
    rig.welcome()
    resumed(rig, NOT_WRITTEN_YET)
    assert rig.wait()
    assert rig.to_server[-1]["method"] == "thread/turns/list"
    done = {"id": "u1", "status": "completed", "items": []}
    rig.server(id=rig.to_server[-1]["id"], result={"data": [done]})
    assert rig.got("turn/completed")[0]["turn"]["status"] == "completed"


NOT_WRITTEN_YET = {"id": "u1", "status": "interrupted", "completedAt": None, "error": None}
UNCERTAIN = [[], [{"id": "u1", "status": "inProgress"}], [NOT_WRITTEN_YET]]


def told_idle(rig: Rig, turns: list[dict[str, Any]]) -> None:
    """The server answers the last request: the thread is idle, and has these turns."""
    thread = {"id": "t1", "status": {"type": "idle"}, "turns": turns}
    rig.server(id=rig.to_server[-1]["id"], result={"thread": thread})


@pytest.mark.parametrize("turns", UNCERTAIN)
def test_a_turn_that_was_never_written_down_ends_as_interrupted(
    rig: Rig, turns: list[dict[str, Any]]
) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, turns)
    asked_at = [rig.now]
    while rig.wait():
        assert rig.to_server[-1]["method"] == "thread/read"
        assert rig.got("turn/completed") == []
        asked_at.append(rig.now)
        told_idle(rig, turns)
    # It gets the time to write it down, and is asked seldom.
    assert asked_at[-1] == pytest.approx(10)
    assert min(later - before for before, later in pairwise(asked_at)) > 0.09
    assert len(asked_at) < 12
    (ended,) = rig.got("turn/completed")
    assert (ended["turn"]["id"], ended["turn"]["status"]) == ("u1", "interrupted")


@pytest.mark.parametrize("turns", UNCERTAIN)
def test_an_end_that_is_not_written_down_yet_is_asked_after(
    rig: Rig, turns: list[dict[str, Any]]
) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, turns)
    assert rig.wait()
    assert rig.to_server[-1]["params"] == {"threadId": "t1", "includeTurns": True}
    told_idle(rig, [{"id": "u1", "status": "completed", "items": [{"id": "i1"}]}])
    assert rig.to_client[0]["method"] == "item/completed"
    assert rig.got("turn/completed")[0]["turn"]["status"] == "completed"
    assert len(rig.to_client) == 2


def test_the_servers_own_word_comes_before_what_it_has_on_record(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, [NOT_WRITTEN_YET])
    assert rig.wait()
    rig.tell("turn/completed", threadId="t1", turn={"id": "u1", "status": "completed"})
    told_idle(rig, [{**NOT_WRITTEN_YET, "completedAt": 7}])
    assert [told["turn"]["status"] for told in rig.got("turn/completed")] == ["completed"]
    assert not rig.wait()


def test_what_is_asked_again_is_void_with_its_connection(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, [NOT_WRITTEN_YET])
    rig.lose()
    assert not rig.wait()


@pytest.mark.parametrize("turns", [[NOT_WRITTEN_YET], [{"id": "u1", "status": "completed"}]])
def test_a_turn_ends_once_though_the_server_tells_its_end_late(
    rig: Rig, turns: list[dict[str, Any]]
) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, turns)
    while rig.wait():
        told_idle(rig, turns)
    assert len(rig.got("turn/completed")) == 1
    rig.tell("turn/completed", threadId="t1", turn={"id": "u1", "status": "completed"})
    assert len(rig.got("turn/completed")) == 1
    # The next one has an end of its own.
    rig.tell("turn/started", threadId="t1", turn={"id": "u2"})
    rig.tell("turn/completed", threadId="t1", turn={"id": "u2", "status": "completed"})
    assert [told["turn"]["id"] for told in rig.got("turn/completed")] == ["u1", "u2"]


def test_that_the_server_does_not_say_is_no_end(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, [NOT_WRITTEN_YET])
    for _ in range(20):
        assert rig.wait()
        rig.server(id=rig.to_server[-1]["id"], error={"code": -32001, "message": "overloaded"})
        assert rig.to_client == []
    assert rig.wait()
    told_idle(rig, [{"id": "u1", "status": "completed"}])
    assert [told["turn"]["status"] for told in rig.got("turn/completed")] == ["completed"]


@pytest.mark.parametrize(("text", "most"), [("overloaded", 40), ("no rollout found", 1)])
def test_a_server_that_never_says_is_not_asked_for_ever(rig: Rig, text: str, most: int) -> None:
    begin_turn(rig)
    rig.welcome()
    told_idle(rig, [NOT_WRITTEN_YET])
    asked = 0
    while rig.wait():
        asked += 1
        rig.server(id=rig.to_server[-1]["id"], error={"code": -32001, "message": text})
    assert 1 <= asked <= most
    assert [told["turn"]["status"] for told in rig.got("turn/completed")] == ["interrupted"]


def test_a_turn_that_is_to_begin_is_not_over_with_the_one_before(rig: Rig) -> None:
    """The server has answered that it will begin one; then it tells the end of another."""
    rig.client(id=2, method="turn/start", params={"threadId": "t1", "input": []})
    rig.server(id=2, result={"turn": {"id": "u2", "status": "inProgress", "items": []}})
    rig.tell("turn/completed", threadId="t1", turn={"id": "u1", "status": "completed"})
    assert rig.continuity.turns_run
    rig.welcome()
    resumed(rig, {"id": "u2", "status": "completed", "items": []})
    assert [told["turn"]["id"] for told in rig.got("turn/completed")] == ["u2"]
    assert not rig.continuity.turns_run


def test_of_two_turns_each_ends(rig: Rig) -> None:
    """Asked for one after the other; both ends are missed."""
    begin_turn(rig)
    rig.client(id=3, method="turn/start", params={"threadId": "t1", "input": []})
    rig.server(id=3, result={"turn": {"id": "u2", "status": "inProgress", "items": []}})
    rig.welcome()
    status = {"type": "active"}
    running = {"id": "u2", "status": "inProgress"}
    thread = {"id": "t1", "status": status, "turns": [{"id": "u1", "status": "completed"}, running]}
    rig.server(id=rig.asked("thread/resume")["id"], result={"thread": thread})
    assert [told["turn"]["id"] for told in rig.got("turn/completed")] == ["u1"]
    assert rig.continuity.turns_run
    rig.tell("turn/started", threadId="t1", turn={"id": "u2"})
    rig.tell("turn/completed", threadId="t1", turn={"id": "u2", "status": "completed"})
    assert not rig.continuity.turns_run


def test_a_turn_that_ran_when_the_client_came_ends_too(rig: Rig) -> None:
    rig.client(id=2, method="thread/resume", params={"threadId": "t2"})
    running = {"id": "u1", "status": "inProgress", "items": [{"id": "i1"}, {"id": "i2"}]}
    thread = {"id": "t2", "status": {"type": "active"}, "turns": [running]}
    rig.server(id=2, result={"thread": thread})
    rig.welcome()
    done = {**running, "status": "completed"}
    thread |= {"status": {"type": "idle"}, "turns": [done]}
    rig.server(id=rig.to_server[-1]["id"], result={"thread": thread})
    assert [told["item"]["id"] for told in rig.got("item/completed")] == ["i2"]
    assert rig.got("turn/completed") == [{"threadId": "t2", "turn": done}]


def test_a_turn_whose_end_comes_before_the_answer_does_not_run(rig: Rig) -> None:
    rig.client(id=2, method="turn/start", params={"threadId": "t1", "input": []})
    rig.tell("turn/started", threadId="t1", turn={"id": "u1"})
    rig.tell("turn/completed", threadId="t1", turn={"id": "u1", "status": "completed"})
    rig.server(id=2, result={"turn": {"id": "u1", "status": "inProgress", "items": []}})
    assert not rig.continuity.turns_run


@pytest.mark.parametrize("status", ["inProgress", "interrupted"])
def test_a_review_of_somebody_elses_that_ended_unheard_is_told_by_its_own_id(
    rig: Rig, status: str
) -> None:
    # The turn within it never ends for the server, which says that the thread is at work.
    rig.tell("turn/started", threadId="t1", turn={"id": "x", "rootTurnId": "r"})
    rig.welcome()
    within = {"id": "x", "status": status, "rootTurnId": "r", "items": []}
    over = {"id": "r", "status": "completed", "rootTurnId": "r", "completedAt": 7, "items": []}
    resumed(rig, within, over)
    assert [entry["turn"]["id"] for entry in rig.got("turn/completed")] == ["r"]
    assert not rig.wait()


def test_a_turn_that_is_gone_with_its_thread_ends_with_its_reason(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    asked = rig.asked("thread/resume")["id"]
    rig.server(id=asked, error={"code": -32600, "message": "no rollout found for thread id t1"})
    methods = [entry["method"] for entry in rig.to_client]
    assert methods == ["error", "turn/completed", "thread/closed"]
    (failed,), (over,) = rig.got("error"), rig.got("turn/completed")
    assert failed["error"] == over["turn"]["error"]
    assert over["turn"]["error"]["message"]
    assert (over["turn"]["status"], over["turn"]["items"]) == ("interrupted", [])


def test_a_review_of_somebody_elses_is_over_under_its_other_id(rig: Rig) -> None:
    rig.tell("turn/started", threadId="t1", turn={"id": "r2"})
    rig.tell("turn/completed", threadId="t1", turn={"id": "r1", "status": "completed"})
    assert not rig.continuity.turns_run


def test_what_was_said_is_told_once_by_whatever_id(rig: Rig) -> None:
    begin_turn(rig)
    said = {"id": "msg-1", "type": "agentMessage", "text": "so"}
    rig.tell("item/completed", threadId="t1", turnId="u1", item=said)
    rig.welcome()
    again = [{**said, "id": "item-1"}, {**said, "id": "item-2"}]
    told_idle(rig, [{"id": "u1", "status": "completed", "items": again}])
    assert [told["item"]["id"] for told in rig.got("item/completed")] == ["item-2"]


def test_a_thread_that_is_gone_ends_its_turn_and_is_closed(rig: Rig) -> None:
    begin_turn(rig)
    rig.welcome()
    error = {"code": -32600, "message": "no rollout found for thread id t1"}
    rig.server(id=rig.asked("thread/resume")["id"], error=error)
    assert rig.got("turn/completed")[0]["turn"]["status"] == "interrupted"
    assert rig.got("thread/closed") == [{"threadId": "t1"}]
    rig.welcome()
    assert [message["method"] for message in rig.to_server] == ["initialize", "initialized"]


def test_a_resume_that_fails_for_another_reason_loses_nothing(rig: Rig) -> None:
    rig.welcome()
    rig.server(id=rig.asked("thread/resume")["id"], error={"code": -32603, "message": "disk"})
    assert rig.to_client == []
    assert len([m for m in rig.to_server if m["method"] == "thread/resume"]) == 1
    # It is asked for again, and not for ever.
    while rig.wait():
        resumes = [m["id"] for m in rig.to_server if m["method"] == "thread/resume"]
        rig.server(id=resumes[-1], error={"code": -32603, "message": "disk"})
    assert 10 < len(resumes) < 50
    assert rig.now > 20
    assert rig.got("thread/closed") == [{"threadId": "t1"}]


def test_only_threads_that_the_client_still_listens_to_are_resumed(rig: Rig) -> None:
    rig.client(id=7, method="thread/unsubscribe", params={"threadId": "t1"})
    rig.server(id=7, result={"status": "unsubscribed"})
    rig.client(id=8, method="thread/resume", params={"threadId": "t2"})
    rig.server(id=8, result={"thread": {"id": "t2"}})
    rig.client(id=9, method="thread/resume", params={"threadId": "t3"})
    rig.server(id=9, error={"code": 1, "message": "no"})
    rig.tell("thread/started", thread={"id": "t4", "parentThreadId": "t2"})
    rig.tell("thread/started", thread={"id": "t5", "parentThreadId": "other"})
    agents = {"type": "collabAgentToolCall", "tool": "spawnAgent", "receiverThreadIds": ["t6"]}
    rig.tell("item/completed", threadId="t2", turnId="u", item={"id": "i", **agents})
    rig.welcome()
    asked = [m["params"]["threadId"] for m in rig.to_server if m["method"] == "thread/resume"]
    assert asked == ["t2", "t4", "t6"]


ASK = "item/commandExecution/requestApproval"


def test_an_approval_is_void_with_its_connection_and_a_late_answer_reaches_no_other(
    rig: Rig,
) -> None:
    rig.server(id=0, method=ASK, params={"threadId": "t1"})
    rig.lose()
    assert rig.got("serverRequest/resolved") == [{"threadId": "t1", "requestId": 0}]
    rig.reconnect()
    rig.server(id=rig.to_server[0]["id"], result={})
    # The next connection begins its ids anew.
    rig.server(id=0, method=ASK, params={"threadId": "t1"})
    asked_again = rig.to_client[-1]["id"]
    assert asked_again != 0
    rig.to_server.clear()
    rig.client(id=0, result={"decision": "accept"})
    assert rig.to_server == []
    rig.client(id=asked_again, result={"decision": "decline"})
    assert rig.to_server == [{"id": 0, "result": {"decision": "decline"}}]


def test_a_resolved_request_is_named_as_the_client_knows_it(rig: Rig) -> None:
    rig.welcome()
    rig.server(id=3, method=ASK, params={"threadId": "t1"})
    asked = rig.to_client[-1]["id"]
    rig.tell("serverRequest/resolved", threadId="t1", requestId=3)
    assert rig.got("serverRequest/resolved") == [{"threadId": "t1", "requestId": asked}]


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"a":1}', b'{"id":1.5,"method":"x"}', b"\xff{}"])
def test_what_is_no_message_is_passed_on_as_it_is(data: bytes) -> None:
    continuity = Continuity()
    assert continuity.from_client(data) == [data]
    assert continuity.from_server(data).to_client == [data]


def _open_handles(rig: Rig) -> None:
    asked = {
        "fs/watch": {"watchId": "w", "path": "/a"},
        "fuzzyFileSearch/sessionStart": {"sessionId": "s", "roots": ["/a"]},
        "process/spawn": {"processHandle": "p", "command": ["x"]},
    }
    for number, (method, params) in enumerate(asked.items(), 20):
        rig.client(id=number, method=method, params=params)
        rig.server(id=number, result={})


def test_watches_are_opened_again_and_processes_have_ended(rig: Rig) -> None:
    _open_handles(rig)
    rig.lose()
    assert [params["processHandle"] for params in rig.got("process/exited")] == ["p"]
    rig.to_client.clear()
    rig.reconnect()
    rig.server(id=rig.to_server[-1]["id"], result={})
    assert rig.asked("fs/watch")["params"] == {"watchId": "w", "path": "/a"}
    again = rig.asked("fuzzyFileSearch/sessionStart")
    assert again["params"]["sessionId"] == "s"
    # The client asked for them once, and is answered once.
    rig.server(id=again["id"], result={})
    rig.server(id=rig.asked("fs/watch")["id"], error={"code": -32600, "message": "no"})
    assert rig.to_client == []
    # And again, over the next loss; a process ends once.
    rig.lose()
    assert rig.got("process/exited") == []
    rig.reconnect()
    rig.server(id=rig.to_server[-1]["id"], result={})
    assert rig.asked("fs/watch")


def test_what_the_client_has_let_go_is_not_opened_again(rig: Rig) -> None:
    _open_handles(rig)
    rig.client(id=30, method="fs/unwatch", params={"watchId": "w"})
    rig.client(id=31, method="fuzzyFileSearch/sessionStop", params={"sessionId": "s"})
    rig.tell("process/exited", processHandle="p", exitCode=0)
    rig.to_client.clear()
    rig.lose()
    assert rig.got("process/exited") == []
    rig.reconnect()
    rig.server(id=rig.to_server[-1]["id"], result={})
    methods = [message["method"] for message in rig.to_server]
    assert not {"fs/watch", "fuzzyFileSearch/sessionStart"} & set(methods)


def test_what_was_refused_was_never_open(rig: Rig) -> None:
    rig.client(id=20, method="fs/watch", params={"watchId": "w", "path": "/no"})
    rig.server(id=20, error={"code": -32600, "message": "no"})
    rig.welcome()
    assert all(message["method"] != "fs/watch" for message in rig.to_server)


@pytest.mark.parametrize("is_over", [True, False])
def test_a_review_ends_under_the_id_that_it_was_asked_under(rig: Rig, *, is_over: bool) -> None:
    rig.client(id=2, method="review/start", params={"threadId": "t1"})
    turn = {"id": "r1", "status": "inProgress", "items": []}
    rig.server(id=2, result={"turn": turn, "reviewThreadId": "t1"})
    rig.tell("turn/started", threadId="t1", turn={"id": "r2"})
    rig.welcome()
    if is_over:
        done = {"id": "r1", "status": "completed", "items": []}
        resumed(rig, done, {"id": "r2", "status": "interrupted", "items": []})
    else:
        resumed(rig, {"id": "r2", "status": "inProgress", "items": []})
        assert rig.got("turn/completed") == []
        rig.tell("turn/completed", threadId="t1", turn={"id": "r1", "status": "completed"})
    ends = [(told["turn"]["id"], told["turn"]["status"]) for told in rig.got("turn/completed")]
    assert ends == [("r1", "completed")]
