from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub.hub import HubLimits
from tests.support.hub import INITIALIZED, HubRig


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    return rig


def test_initialize_is_answered_as_the_child_has_answered_codexd() -> None:
    rig = HubRig()
    rig.connect(1)
    result = rig.to_client[1][0]["result"]
    # It is what goes to the model's API, whoever asks.
    assert result == INITIALIZED
    assert rig.to_child == []
    assert rig.event_types() == ["client.connected"]


def test_initialize_waits_for_a_child() -> None:
    rig = HubRig(ready=False)
    rig.connect(1)
    assert rig.to_client[1] == []
    rig.ready()
    assert rig.to_client[1][0]["id"] == 0


def test_a_second_initialize_and_a_request_before_the_first_are_refused(rig: HubRig) -> None:
    again = rig.ask(1, "initialize", {"clientInfo": {"name": "x", "version": "1"}})
    assert rig.answers(1, again)[0]["error"] == {"code": -32600, "message": "Already initialized"}
    rig.do(rig.hub.client_opened(3, rig.now))
    early = rig.ask(3, "thread/list")
    assert rig.answers(3, early)[0]["error"] == {"code": -32600, "message": "Not initialized"}
    assert rig.to_child == []


@pytest.mark.parametrize("request_id", [0, -1, 9007199254740993, "x", "", "hub-x-1", 'a"b'])
def test_every_client_gets_back_its_own_id(rig: HubRig, request_id: Any) -> None:
    rig.ask(1, "model/list", id_=request_id)
    first = rig.asked("model/list")["id"]
    rig.ask(2, "model/list", id_=request_id)
    assert rig.asked("model/list")["id"] != first
    rig.child({"id": first, "result": {"data": ["one"]}})
    assert [entry["result"] for entry in rig.answers(1, request_id)[-1:]] == [{"data": ["one"]}]
    assert all("data" not in entry.get("result", {}) for entry in rig.to_client[2])


def test_unknown_methods_and_members_pass_untouched(rig: HubRig) -> None:
    rig.say(1, {"id": 5, "method": "new/thing", "params": {"a": [1, 2.5]}, "trace": {"x": "y"}})
    sent = rig.asked("new/thing")
    assert (sent["params"], sent["trace"]) == ({"a": [1, 2.5]}, {"x": "y"})
    rig.child({"id": sent["id"], "result": None, "extra": 1})
    assert rig.answers(1, 5) == [{"id": 5, "result": None, "extra": 1}]
    rig.tell("new/notice", threadless=True)
    assert rig.got(1, "new/notice")[0]["emittedAtMs"] == 5
    assert rig.got(2, "new/notice")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"[]",
        b'[{"id":1,"method":"thread/list"}]',
        b"null",
        b'{"id":true,"method":"x"}',
        b'{"id":1.5,"method":"x"}',
        b'{"id":{},"method":"x"}',
        b'{"id":1,"method":7}',
        b'{"foo":1}',
        b"\xff\xfe",
        b"[" * 20000,
        b'{"id":1,"result":{}}',
    ],
)
def test_what_is_no_message_harms_nobody(rig: HubRig, data: bytes) -> None:
    before = (len(rig.to_client[1]), len(rig.to_client[2]))
    rig.say(1, data)
    rig.do(rig.hub.child_message(data, rig.now))
    assert rig.to_child == []
    assert (len(rig.to_client[1]), len(rig.to_client[2])) == before
    assert rig.ask(2, "model/list")
    assert rig.asked("model/list")


def test_a_clients_notification_goes_to_the_server_once_it_is_initialized(rig: HubRig) -> None:
    rig.do(rig.hub.client_opened(3, rig.now))
    for client in (1, 3):
        rig.say(client, {"method": "new/notice", "params": {"a": client}})
    assert rig.to_child == [{"method": "new/notice", "params": {"a": 1}}]


def test_an_answer_to_an_earlier_hub_is_dropped(rig: HubRig) -> None:
    rig.ask(1, "model/list")
    before = len(rig.to_client[1])
    rig.child({"id": "hub-earlier-1", "result": {}})
    rig.child({"id": 1, "result": {}})
    assert len(rig.to_client[1]) == before


def test_nothing_comes_for_a_client_that_left(rig: HubRig) -> None:
    rig.ask(1, "model/list")
    rig.leave(1)
    rig.answer("model/list")
    assert rig.hub.snapshot()["clients"] == 1
    assert rig.event_types()[-1] == "client.disconnected"
    # Nor is it listened to any more, and that it leaves again is nothing.
    before = len(rig.to_child)
    rig.ask(1, "model/list")
    rig.leave(1)
    assert len(rig.to_child) == before
    assert rig.event_types().count("client.disconnected") == 1


def test_opt_outs_are_each_clients_own() -> None:
    rig = HubRig()
    rig.connect(1, optOutNotificationMethods=["thread/started"])
    rig.connect(2)
    rig.tell("thread/started", thread={"id": "t"})
    assert not rig.got(1, "thread/started")
    assert rig.got(2, "thread/started")


def test_a_new_client_is_greeted_as_the_server_would() -> None:
    rig = HubRig()
    rig.tell("configWarning", summary="one")
    rig.tell("configWarning", summary="two")
    rig.tell("remoteControl/status/changed", status="disabled")
    rig.tell("remoteControl/status/changed", status="enabled")
    rig.connect(1)
    greeting = [(entry["method"], entry["params"]) for entry in rig.to_client[1][1:]]
    assert greeting == [
        ("configWarning", {"summary": "one"}),
        ("configWarning", {"summary": "two"}),
        ("remoteControl/status/changed", {"status": "enabled"}),
    ]


def test_clients_that_never_initialize_are_sent_away() -> None:
    rig = HubRig(HubLimits(initialize_timeout_s=10))
    rig.do(rig.hub.client_opened(1, rig.now))
    rig.connect(2)
    rig.tick(9)
    assert rig.closed == []
    rig.tick(2)
    assert rig.closed == [1]


# -- handles ---------------------------------------------------------------------------------


def test_handles_of_two_clients_do_not_meet(rig: HubRig) -> None:
    rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    one = rig.asked("fs/watch")["params"]
    rig.ask(2, "fs/watch", {"watchId": "w", "path": "/b"})
    two = rig.asked("fs/watch")["params"]
    assert one["watchId"] != two["watchId"]
    assert one["path"] == "/a"
    rig.tell("fs/changed", watchId=two["watchId"], changedPaths=["/b/x"])
    assert not rig.got(1, "fs/changed")
    assert rig.got(2, "fs/changed")[0]["params"] == {"watchId": "w", "changedPaths": ["/b/x"]}
    rig.tell("fs/changed", watchId="somebody-elses", changedPaths=[])
    assert len(rig.got(2, "fs/changed")) == 1


def test_a_client_that_leaves_lets_go_of_its_handles(rig: HubRig) -> None:
    rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    watch = rig.asked("fs/watch")["params"]["watchId"]
    rig.ask(1, "command/exec", {"processId": "p", "command": ["sleep"]})
    process = rig.asked("command/exec")["params"]["processId"]
    rig.ask(1, "command/exec", {"processId": "done", "command": ["true"]})
    rig.answer("command/exec", {"exitCode": 0})
    rig.leave(1)
    assert rig.asked("fs/unwatch")["params"] == {"watchId": watch}
    ended = [entry for entry in rig.to_child if entry["method"] == "command/exec/terminate"]
    assert [entry["params"]["processId"] for entry in ended] == [process]


def _handle(rig: HubRig, method: str, name: str) -> str:
    handle: str = rig.asked(method)["params"][name]
    return handle


def _released(rig: HubRig, client: int) -> list[str]:
    before = len(rig.to_child)
    rig.leave(client)
    return [entry["method"] for entry in rig.to_child[before:]]


def test_what_is_over_is_not_let_go_again(rig: HubRig) -> None:
    rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    rig.ask(1, "fs/unwatch", {"watchId": "w"})
    rig.ask(1, "process/spawn", {"processHandle": "p", "command": ["true"]})
    handle = _handle(rig, "process/spawn", "processHandle")
    rig.tell("process/outputDelta", processHandle=handle, delta="x")
    rig.tell("process/exited", processHandle=handle, exitCode=0)
    for method in ("process/outputDelta", "process/exited"):
        assert rig.got(1, method)[0]["params"]["processHandle"] == "p"
    assert _released(rig, 1) == []


def test_to_use_a_handle_is_not_to_end_it_nor_to_open_one(rig: HubRig) -> None:
    rig.ask(1, "command/exec", {"processId": "p", "command": ["cat"]})
    for name in ("p", "unheard-of"):
        rig.ask(1, "command/exec/write", {"processId": name, "deltaBase64": ""})
    assert _released(rig, 1) == ["command/exec/terminate"]


def test_a_name_that_is_in_use_stays_with_who_opened_it(rig: HubRig) -> None:
    for _ in range(2):
        rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    # The server refuses the second one.
    rig.answer("fs/watch", error={"code": -32600, "message": "in use"})
    assert _released(rig, 1) == ["fs/unwatch"]


def test_what_is_no_handle_is_not_made_one(rig: HubRig) -> None:
    request = rig.ask(1, "model/list")
    error = {"code": -32600, "message": "no model hub-x-1:m"}
    rig.answer("model/list", error=error)
    assert rig.answers(1, request)[0]["error"] == error


def test_a_handle_that_is_no_text_is_the_servers_to_refuse(rig: HubRig) -> None:
    rig.ask(1, "fs/watch", {"watchId": 7, "path": "/a"})
    assert rig.asked("fs/watch")["params"]["watchId"] == 7


@pytest.mark.parametrize("params", [{}, {"processId": None}])
def test_a_command_without_a_name_ends_with_its_client_too(
    rig: HubRig, params: dict[str, Any]
) -> None:
    for _ in range(2):
        rig.ask(1, "command/exec", {"command": ["sleep"], **params})
    rig.leave(1)
    started, ended = (
        {entry["params"]["processId"] for entry in rig.to_child if entry["method"] == method}
        for method in ("command/exec", "command/exec/terminate")
    )
    assert len(started) == 2
    assert ended == started


def test_an_error_cites_the_handle_as_its_client_knows_it(rig: HubRig) -> None:
    request = rig.ask(1, "process/kill", {"processHandle": "p"})
    cited = rig.asked("process/kill")["params"]["processHandle"]
    text = 'no active process for process handle "%s"'
    rig.answer("process/kill", error={"code": -32600, "message": text % cited})
    (answer,) = rig.answers(1, request)
    assert answer["error"]["message"] == text % "p"


def test_an_id_that_looks_like_a_handle_comes_back_as_it_was_sent(rig: HubRig) -> None:
    request = rig.ask(1, "process/kill", {"processHandle": "p"}, id_="hub-x-1:p")
    rig.answer("process/kill", error={"code": -32600, "message": "no"})
    assert len(rig.answers(1, request)) == 1


def test_processes_end_and_watches_go_on_over_a_restart(rig: HubRig) -> None:
    rig.ask(1, "process/spawn", {"processHandle": "p", "command": ["sleep"]})
    rig.answer("process/spawn")
    rig.ask(1, "command/exec", {"processId": "c", "command": ["sleep"]})
    rig.connect(3, optOutNotificationMethods=["process/exited"])
    rig.ask(3, "process/spawn", {"processHandle": "p", "command": ["sleep"]})
    rig.answer("process/spawn")
    rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    rig.answer("fs/watch")
    watch = rig.asked("fs/watch")["params"]
    rig.lose()
    # A command says how it ended in its answer.
    assert [len(rig.got(client, "process/exited")) for client in (1, 3)] == [1, 0]
    # Nobody saw its end: no output of it is known, and none was cut.
    assert rig.got(1, "process/exited")[0]["params"] == {
        "processHandle": "p",
        "exitCode": -1,
        "stdout": "",
        "stdoutCapReached": False,
        "stderr": "",
        "stderrCapReached": False,
    }
    rig.to_child.clear()
    rig.ready()
    assert rig.asked("fs/watch")["params"] == watch


def test_a_watch_that_was_refused_before_it_was_sent_is_not_opened_again() -> None:
    rig = HubRig(HubLimits(wait_s=60))
    rig.connect(1)
    rig.lose()
    request = rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    rig.tick(61)
    assert rig.answers(1, request)[0]["error"]["data"]["codexd"]["reason"] == "away"
    rig.ready()
    assert rig.to_child == []


@pytest.mark.parametrize("is_away", [False, True])
def test_what_no_server_has_read_is_opened_once_and_has_not_ended(
    rig: HubRig, *, is_away: bool
) -> None:
    if is_away:
        rig.lose()
    rig.ask(1, "fs/watch", {"watchId": "w", "path": "/a"})
    rig.ask(1, "process/spawn", {"processHandle": "p", "command": ["sleep"]})
    if not is_away:
        rig.lose(*rig.to_child)
    rig.to_child.clear()
    rig.ready()
    methods = sorted(entry["method"] for entry in rig.to_child)
    assert methods == ["fs/watch", "process/spawn"]
    assert rig.got(1, "process/exited") == []
    process = rig.asked("process/spawn")["params"]["processHandle"]
    rig.answer("process/spawn")
    rig.answer("fs/watch")
    rig.leave(1)
    assert rig.asked("process/kill")["params"]["processHandle"] == process


def test_a_request_that_the_connection_does_not_take_is_refused_with_the_reason(
    rig: HubRig,
) -> None:
    asked = [rig.ask(client, "thread/resume", {"threadId": "t1"}) for client in (1, 2)]
    sent = [json.dumps(message).encode() for message in rig.to_child]
    rig.leave(2)
    before = list(rig.to_client[2])
    for data in (*sent, *sent):
        rig.do(rig.hub.not_sent(data, "too long", -32600))
    assert len(rig.answers(1, asked[0])) == 1
    assert rig.answers(1, asked[0])[0]["error"] == {"code": -32600, "message": "too long"}
    assert rig.to_client[2] == before
    # Nothing is waited for, and nobody listens.
    assert rig.hub.snapshot()["waitingRequests"] == 0
    assert rig.hub.snapshot()["threads"] == 0


@pytest.mark.parametrize("error", ["no", {"code": "x"}, {"data": [1]}, {"data": {"reason": 7}}])
def test_an_error_of_another_shape_is_the_clients(rig: HubRig, error: Any) -> None:
    request = rig.ask(1, "model/list")
    rig.answer("model/list", error=error)
    assert rig.answers(1, request) == [{"id": request, "error": error}]


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":1,"method":"\xff\xfe"}',
        b'{"id":"\xff","method":"model/list"}',
        b'{"id":1,"method":"fs/watch","params":{"watchId":"\xff"}}',
        b'{"id":1,"method":"turn/start","params":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b'{"method":"turn/completed","params":{"threadId":"\xff"}}',
        b'{"method":"turn/completed","params":{"threadId":7,"turn":[]}}',
        b'{"method":"serverRequest/resolved","params":[1]}',
        b'{"id":"hub-x-1","result":"\xff"}',
    ],
)
def test_bytes_that_are_no_text_harm_nobody(rig: HubRig, data: bytes) -> None:
    rig.do_raw(rig.hub.client_message(1, data, rig.now))
    rig.do_raw(rig.hub.child_message(data, rig.now))
    assert rig.closed == []
    rig.to_child.clear()
    rig.ask(2, "model/list")
    assert rig.asked("model/list")


def test_searches_and_event_streams_go_on_in_the_next_server(rig: HubRig) -> None:
    rig.open_thread(1)
    rig.ask(1, "fuzzyFileSearch/sessionStart", {"sessionId": "s", "roots": ["/a"]})
    rig.answer("fuzzyFileSearch/sessionStart")
    stream = {"threadId": "t1", "subscriptionId": "x", "server": "m", "name": "n", "arguments": {}}
    rig.ask(1, "mcpServer/event/stream/start", stream)
    rig.answer("mcpServer/event/stream/start")
    before = [rig.asked("fuzzyFileSearch/sessionStart"), rig.asked("mcpServer/event/stream/start")]
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    search = rig.asked("fuzzyFileSearch/sessionStart")
    assert search["params"] == before[0]["params"]
    # The stream needs its thread.
    assert "mcpServer/event/stream/start" not in [entry["method"] for entry in rig.to_child]
    rig.answer("thread/resume", {"thread": {"id": "t1"}})
    assert rig.asked("mcpServer/event/stream/start")["params"] == before[1]["params"]
    rig.tell("fuzzyFileSearch/sessionUpdated", sessionId=search["params"]["sessionId"], files=[])
    assert rig.got(1, "fuzzyFileSearch/sessionUpdated")[0]["params"]["sessionId"] == "s"


@pytest.mark.parametrize("method", ["thread/sample", "userVerification/verify"])
def test_who_cancels_a_request_by_its_id_cancels_that_one(rig: HubRig, method: str) -> None:
    cancel = {"thread/sample": "thread/sample/cancel"}.get(method, "userVerification/cancel")
    rig.ask(1, method, {}, id_="same")
    first = rig.asked(method)["id"]
    rig.ask(2, method, {}, id_="same")
    second = rig.asked(method)["id"]
    rig.ask(2, cancel, {"requestId": "same"})
    assert rig.asked(cancel)["params"] == {"requestId": second}
    rig.answer(method, error={"code": -32603, "message": "canceled"})
    # It is answered already: the server must not take it for one of another's.
    rig.ask(2, cancel, {"requestId": "same"})
    assert rig.asked(cancel)["params"]["requestId"] not in (first, second, "same")
    # What is no id is for the server to refuse.
    rig.ask(2, cancel, {"requestId": [1]})
    assert rig.asked(cancel)["params"] == {"requestId": [1]}
    # Nobody waits any more for what comes of it.
    rig.leave(1)
    assert rig.asked(cancel)["params"] == {"requestId": first}


@pytest.mark.parametrize(
    ("reason", "hears"),
    [
        ("expected a completed plaintext exec_command", True),
        ("thread not found: t1", False),
        ("invalid thread id: t1", False),
        ("Invalid request: unknown variant `thread/guardianReview`", False),
    ],
)
def test_a_review_that_fails_has_its_client_listen_as_with_codex(
    rig: HubRig, reason: str, *, hears: bool
) -> None:
    rig.open_thread(2, "t1")
    rig.ask(1, "thread/guardianReview", {"threadId": "t1"})
    rig.answer("thread/guardianReview", error={"code": -32600, "message": reason})
    rig.tell("turn/started", threadId="t1", turn={"id": "u1"})
    assert bool(rig.got(1, "turn/started")) == hears
