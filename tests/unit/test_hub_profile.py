"""A client that stands for the only one of a server of its own."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.hub import clients
from codexd.hub.profile import (
    NOTHING,
    BadProfile,
    ClientProfile,
    read_profile,
)
from tests.support.hub import HubRig

PROFILE = ClientProfile(
    cwd="/w", config={"model": "m", "sandbox_mode": "read-only", "a.b": 1}, private=True
)
APPROVAL = "item/commandExecution/requestApproval"


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1, profile=PROFILE)
    rig.connect(2)
    return rig


@pytest.mark.parametrize(
    ("method", "params", "sent"),
    [
        ("thread/start", {}, {"cwd": "/w", "config": PROFILE.config}),
        ("thread/start", {"cwd": None}, {"cwd": "/w", "config": PROFILE.config}),
        ("thread/start", {"cwd": "/x"}, {"cwd": "/x", "config": PROFILE.config}),
        ("thread/start", {"cwd": "sub"}, {"cwd": "/w/sub", "config": PROFILE.config}),
        (
            "thread/start",
            {"config": {"model": "own", "a": {"b": 2}}},
            {
                "cwd": "/w",
                "config": {"sandbox_mode": "read-only", "model": "own", "a": {"b": 2}},
            },
        ),
        ("thread/resume", {"threadId": "t"}, {"threadId": "t", "config": {"a.b": 1}}),
        ("thread/fork", {"threadId": "t"}, {"threadId": "t", "config": {"model": "m", "a.b": 1}}),
        ("command/exec", {"command": ["x"]}, {"command": ["x"], "cwd": "/w"}),
        ("skills/list", {}, {"cwds": ["/w"]}),
        ("skills/list", {"cwds": ["/x"]}, {"cwds": ["/x"]}),
        ("hooks/list", {"cwds": []}, {"cwds": ["/w"]}),
        ("fuzzyFileSearch", {"roots": [".", "a", "/b"]}, {"roots": ["/w", "/w/a", "/b"]}),
        ("fuzzyFileSearch/sessionStart", {"roots": [""]}, {"roots": ["/w"]}),
        ("thread/list", {}, {}),
        ("thread/list", {"cwd": "sub"}, {"cwd": "sub"}),
        ("turn/start", {"threadId": "t"}, {"threadId": "t"}),
    ],
)
def test_requests_get_what_a_server_of_its_own_would_know(
    rig: HubRig, method: str, params: dict[str, Any], sent: dict[str, Any]
) -> None:
    rig.ask(1, method, params)
    got = rig.asked(method)["params"]
    got.pop("processId", None)
    assert got == sent


@pytest.mark.parametrize("params", [{}, {"cwd": "sub"}])
def test_who_says_nothing_of_a_directory_gets_none_put_in(
    rig: HubRig, params: dict[str, Any]
) -> None:
    rig.connect(3, profile=ClientProfile(config={"model": "m"}))
    rig.ask(3, "thread/start", params)
    assert rig.asked("thread/start")["params"] == {**params, "config": {"model": "m"}}


def test_a_client_on_a_socket_gets_nothing_put_in(rig: HubRig) -> None:
    rig.ask(2, "thread/start", {})
    assert rig.asked("thread/start")["params"] == {}


def test_a_private_client_hears_of_its_own_threads_only(rig: HubRig) -> None:
    rig.open_thread(2, "other")
    rig.tell("thread/status/changed", threadId="other", status={"type": "idle"})
    rig.tell("thread/started", thread={"id": "sub", "parentThreadId": "other"})
    rig.tell("item/agentMessage/delta", threadId="sub", delta="x")
    rig.child({"id": 5, "method": APPROVAL, "params": {"threadId": "sub", "turnId": "u"}})
    rig.tell("account/updated", authMode=None)
    heard = [message.get("method") for message in rig.to_client[1][1:]]
    assert heard == ["account/updated"]
    assert rig.got(2, APPROVAL)
    assert len(rig.got(2, "thread/started")) == 2


def test_it_hears_of_its_own_threads_and_of_their_subagents(rig: HubRig) -> None:
    rig.open_thread(1, "mine")
    rig.tell("thread/started", thread={"id": "sub", "parentThreadId": "mine"})
    rig.tell("thread/started", thread={"id": "subsub", "parentThreadId": "sub"})
    rig.tell(
        "thread/status/changed", threadId="subsub", status={"type": "active", "activeFlags": []}
    )
    rig.tell("item/agentMessage/delta", threadId="sub", delta="x")
    rig.child({"id": 5, "method": APPROVAL, "params": {"threadId": "subsub", "turnId": "u"}})
    assert len(rig.got(1, "thread/started")) == 3
    for method in ("thread/status/changed", "item/agentMessage/delta", APPROVAL):
        assert len(rig.got(1, method)) == 1


def _began(rig: HubRig, parent: str, **item: Any) -> None:
    item = {"type": "collabAgentToolCall", "id": "i", "tool": "spawnAgent", **item}
    rig.tell("item/completed", threadId=parent, turnId="u", item=item)


@pytest.mark.parametrize(
    ("parent", "item", "hears"),
    [
        ("mine", {"receiverThreadIds": ["sub"]}, True),
        ("mine", {"receiverThreadIds": ["sub"], "tool": "closeAgent"}, False),
        ("mine", {"receiverThreadIds": [7, None, ""]}, False),
        ("mine", {"receiverThreadIds": 7}, False),
        ("other", {"receiverThreadIds": ["sub"]}, False),
        ("mine", {"type": "subAgentActivity", "kind": "started", "agentThreadId": "sub"}, True),
        ("mine", {"type": "subAgentActivity", "kind": "completed", "agentThreadId": "sub"}, False),
    ],
)
def test_a_subagent_of_which_only_its_parent_tells_is_heard_and_asks(
    rig: HubRig, parent: str, item: dict[str, Any], hears: bool
) -> None:
    rig.open_thread(1, "mine")
    rig.open_thread(2, "other")
    rig.tell("warning", threadId="sub", message="early")
    rig.child({"id": 5, "method": APPROVAL, "params": {"threadId": "sub", "turnId": "u"}})
    for _ in range(2):
        _began(rig, parent, **item)
    rig.tell("item/agentMessage/delta", threadId="sub", delta="x")
    rig.tell("thread/status/changed", threadId="sub", status={"type": "idle"})
    for method in (APPROVAL, "item/agentMessage/delta", "thread/status/changed"):
        assert len(rig.got(1, method)) == hears
        assert len(rig.got(2, method)) == 1


def test_a_thread_that_could_not_be_resumed_is_not_its_own(rig: HubRig) -> None:
    rig.ask(1, "thread/resume", {"threadId": "x"})
    rig.answer("thread/resume", error={"code": -32600, "message": "no"})
    rig.tell("thread/status/changed", threadId="x", status={"type": "idle"})
    assert rig.got(1, "thread/status/changed") == []


def test_a_past_thread_stays_its_own_where_a_resume_of_it_is_refused(rig: HubRig) -> None:
    rig.open_thread(1, "mine")
    rig.tell("thread/archived", threadId="mine")
    rig.ask(1, "thread/resume", {"threadId": "mine"})
    rig.answer("thread/resume", error={"code": -32600, "message": "mine is archived."})
    rig.tell("thread/unarchived", threadId="mine")
    assert len(rig.got(1, "thread/unarchived")) == 1


def test_a_thread_that_it_has_left_stays_its_own_where_a_resume_of_it_is_refused(
    rig: HubRig,
) -> None:
    rig.open_thread(1, "mine")
    rig.join_thread(2, "mine")
    rig.ask(1, "thread/unsubscribe", {"threadId": "mine"})
    rig.ask(1, "thread/resume", {"threadId": "mine"})
    rig.answer("thread/resume", error={"code": -32001, "message": "overloaded"})
    rig.tell("thread/archived", threadId="mine")
    assert len(rig.got(1, "thread/archived")) == 1


def test_a_thread_for_which_it_has_waited_in_vain_is_not_its_own(rig: HubRig) -> None:
    rig.open_thread(2, "other")
    rig.lose()
    asked = rig.ask(1, "thread/resume", {"threadId": "other"})
    for _ in range(122):
        rig.tick(1)
    assert "error" in rig.answers(1, asked)[0]
    rig.ready()
    rig.tell("thread/archived", threadId="other")
    assert rig.got(1, "thread/archived") == []


def test_of_its_past_threads_the_last_to_go_are_remembered(
    rig: HubRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_PAST_THREADS", 2)
    for thread_id in ("a", "b", "a", "c"):
        rig.open_thread(1, thread_id)
        rig.tell("thread/closed", threadId=thread_id)
    for thread_id in ("a", "b", "c"):
        rig.tell("thread/deleted", threadId=thread_id)
    told = [entry["params"]["threadId"] for entry in rig.got(1, "thread/deleted")]
    assert told == ["a", "c"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cwd":1}', '{"cwd":"w"}', '{"private":2}', "\xff"]
)
def test_a_profile_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadProfile, match="Codexd-Profile"):
        read_profile(text)


def test_no_header_is_no_profile() -> None:
    assert read_profile(None) is NOTHING
    assert read_profile('{"cwd":"/w"}') == ClientProfile(cwd="/w")


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ({"data": ["mine", "other"], "nextCursor": "c"}, {"data": ["mine"], "nextCursor": "c"}),
        ({"data": 7}, {"data": 7}),
        ({}, {}),
    ],
)
def test_a_private_client_sees_its_own_of_the_threads_that_are_loaded(
    rig: HubRig, answer: dict[str, Any], got: dict[str, Any]
) -> None:
    rig.open_thread(1, "mine")
    rig.open_thread(2, "other")
    for client, result in ((1, got), (2, answer)):
        asked = rig.ask(client, "thread/loaded/list")
        rig.answer("thread/loaded/list", dict(answer))
        assert rig.answers(client, asked)[0]["result"] == result


def test_what_a_private_client_had_is_its_own_while_the_next_plugin_resumes_it(
    rig: HubRig,
) -> None:
    rig.open_thread(1, "mine")
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["mine"]], later.now))
    later.ready("mine")
    later.connect(1, profile=ClientProfile(private=True))
    resumed = later.ask(1, "thread/resume", {"threadId": "mine"})
    asked = later.ask(1, "thread/loaded/list")
    assert not later.answers(1, resumed)
    later.answer("thread/loaded/list", {"data": ["mine", "other"]})
    assert later.answers(1, asked)[0]["result"]["data"] == ["mine"]
