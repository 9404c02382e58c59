"""What the server asks, as people see and answer it: every kind, every word, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub.approvals import (
    DECISIONS,
    AlreadyDecided,
    BadDecision,
    UnknownApproval,
    decisions_of,
    kind_of,
)
from tests.support.hub import HubRig

COMMAND = "item/commandExecution/requestApproval"
WANTED = {"fileSystem": {"write": ["/x"]}}
ANSWERS: dict[str, dict[str, Any]] = {
    COMMAND: {word: {"decision": word} for word in DECISIONS},
    "item/fileChange/requestApproval": {word: {"decision": word} for word in DECISIONS},
    "item/permissions/requestApproval": {
        "accept": {"permissions": WANTED, "scope": "turn"},
        "acceptForSession": {"permissions": WANTED, "scope": "session"},
        "decline": {"permissions": {}, "scope": "turn"},
        "cancel": {"permissions": {}, "scope": "turn"},
    },
    "item/tool/requestUserInput": {"decline": {"answers": {}}, "cancel": {"answers": {}}},
    "mcpServer/elicitation/request": {
        "accept": {"action": "accept", "content": {}},
        "decline": {"action": "decline", "content": None},
        "cancel": {"action": "cancel", "content": None},
    },
    "applyPatchApproval": {
        "accept": {"decision": "approved"},
        "acceptForSession": {"decision": "approved_for_session"},
        "decline": {"decision": "denied"},
        "cancel": {"decision": "abort"},
    },
    "execCommandApproval": {
        "accept": {"decision": "approved"},
        "acceptForSession": {"decision": "approved_for_session"},
        "decline": {"decision": "denied"},
        "cancel": {"decision": "abort"},
    },
}


def asked(method: str, **params: Any) -> tuple[HubRig, str]:
    """A thread, and a request on it; its approval id."""
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    base = {"threadId": "t1", "turnId": "u1", "itemId": "i", "permissions": WANTED}
    rig.child({"id": 5, "method": method, "params": {**base, **params}})
    (waiting,) = rig.hub.approvals()
    return rig, waiting.approval_id


def last(rig: HubRig) -> Any:
    """What was answered to the server."""
    (answer,) = [message for message in rig.to_child if message.get("id") == 5]
    return answer["result"]


@pytest.mark.parametrize(
    ("method", "word"), [(method, word) for method, known in ANSWERS.items() for word in known]
)
def test_each_word_is_the_answer_that_its_kind_takes(method: str, word: str) -> None:
    rig, approval_id = asked(method)
    rig.do(rig.hub.decide(approval_id, word, rig.now))
    assert last(rig) == ANSWERS[method][word]
    with pytest.raises(AlreadyDecided, match="answered"):
        rig.hub.decide(approval_id, word, rig.now)


@pytest.mark.parametrize("method", list(ANSWERS))
def test_a_word_that_is_none_of_its_own_leaves_it_waiting(method: str) -> None:
    rig, approval_id = asked(method)
    for word in {*DECISIONS, "yes", ""} - set(decisions_of(method)):
        with pytest.raises(BadDecision, match=kind_of(method)):
            rig.hub.decide(approval_id, word, rig.now)
    assert [waiting.approval_id for waiting in rig.hub.approvals()] == [approval_id]
    assert set(decisions_of(method)) == set(ANSWERS[method])


@pytest.mark.parametrize(
    ("method", "decision", "result"),
    [
        (COMMAND, {"acceptWithX": {}}, {"decision": {"acceptWithX": {}}}),
        ("item/tool/requestUserInput", {"answers": {"q": 1}}, {"answers": {"q": 1}}),
        ("some/new/request", {"whatever": True}, {"whatever": True}),
    ],
)
def test_an_object_is_passed_on(
    method: str, decision: dict[str, Any], result: dict[str, Any]
) -> None:
    rig, approval_id = asked(method)
    rig.do(rig.hub.decide(approval_id, decision, rig.now))
    assert last(rig) == result


@pytest.mark.parametrize(
    ("method", "decision", "told"),
    [
        (COMMAND, {"decision": "accept"}, "one member, which is an object"),
        (COMMAND, {}, "one member"),
        (COMMAND, {"acceptWithX": {}, "acceptWithY": {}}, "one member"),
        ("execCommandApproval", {"approved": True}, "one member"),
        ("item/tool/requestUserInput", {"q": 1}, "has `answers`"),
        ("mcpServer/elicitation/request", {"decision": "accept"}, "has `action`"),
        ("item/permissions/requestApproval", {"scope": "turn"}, "has `permissions`"),
        ("item/tool/call", {"contentItems": []}, "has `success`"),
    ],
)
def test_an_object_that_is_no_answer_is_refused(
    method: str, decision: dict[str, Any], told: str
) -> None:
    rig, approval_id = asked(method)
    with pytest.raises(BadDecision, match=told):
        rig.hub.decide(approval_id, decision, rig.now)
    assert [waiting.approval_id for waiting in rig.hub.approvals()] == [approval_id]


def test_what_nobody_knows_takes_no_word() -> None:
    rig, approval_id = asked("some/new/request")
    (waiting,) = rig.hub.approvals()
    assert (waiting.kind, waiting.decisions) == ("some/new/request", ())
    with pytest.raises(BadDecision, match="no word"):
        rig.hub.decide(approval_id, "accept", rig.now)
    with pytest.raises(UnknownApproval):
        rig.hub.approval("approval-none")


def test_the_summary_has_what_one_must_see() -> None:
    rig, _ = asked(COMMAND, command="rm x", cwd="/w", reason=None, startedAtMs=7)
    (waiting,) = rig.hub.approvals()
    assert waiting.summary == {"command": "rm x", "cwd": "/w"}
    assert "rm x" not in json.dumps([event.detail for event in rig.events])


@pytest.mark.parametrize(("size", "shown"), [(10, {"path": "/a", "diff": "+x"}), (300_000, None)])
def test_the_files_of_a_change_are_remembered_as_far_as_there_is_room(
    size: int, shown: dict[str, Any] | None
) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    changes = [{"path": "/a", "diff": "+x"}, {"path": "/b", "diff": "y" * size}]
    item = {"id": "i", "type": "fileChange", "changes": changes, "status": "inProgress"}
    rig.tell("item/started", threadId="t1", turnId="u1", item=item)
    base = {"threadId": "t1", "turnId": "u1", "itemId": "i"}
    rig.child({"id": 5, "method": "item/fileChange/requestApproval", "params": base})
    (waiting,) = rig.hub.approvals()
    files = waiting.summary["files"]
    assert files[0] == (shown or {"path": "/a"})
    assert [file["path"] for file in files] == ["/a", "/b"]
    # An item that is odd has no files.
    rig.tell("item/started", threadId="t1", turnId="u1", item={**item, "changes": 7})
    rig.tell("item/completed", threadId="t1", turnId="u1", item=item)
    (waiting,) = rig.hub.approvals()
    assert "files" not in waiting.summary


@pytest.mark.parametrize("is_lost_first", [True, False])
def test_an_answer_that_went_with_the_connection_is_given_again(is_lost_first: bool) -> None:
    rig, approval_id = asked(COMMAND)
    again = {"id": 5, "method": COMMAND, "params": {"threadId": "t1", "turnId": "u1"}}
    if is_lost_first:
        rig.lose()
    rig.do(rig.hub.decide(approval_id, "accept", rig.now))
    if not is_lost_first:
        # On the connection over which it went nothing is lost: it only comes later.
        rig.child(again)
        rig.lose()
    rig.ready("t1", same_child=True)
    rig.to_child.clear()
    for _ in range(2):
        rig.child(again)
    assert rig.to_child == [{"id": 5, "result": {"decision": "accept"}}]
    assert [event.type for event in rig.events if "approval" in event.type] == [
        "approval.requested",
        "approval.resolved",
    ]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("turn", "turn-ended"),
        ("thread", "thread-closed"),
        ("server", "server-gone"),
        ("next", "server-gone"),
    ],
)
def test_what_ends_an_approval_is_told(how: str, reason: str) -> None:
    rig, approval_id = asked(COMMAND)
    if how == "turn":
        rig.end_turn()
    elif how == "thread":
        rig.tell("thread/closed", threadId="t1")
    else:
        rig.lose()
        # While only the connection is lost, the server may still have it.
        assert rig.hub.approval(approval_id).kind == "commandExecution"
        if how == "server":
            rig.end()
        else:
            rig.ready()
    resolved = [event for event in rig.events if event.type == "approval.resolved"]
    assert [event.detail["reason"] for event in resolved] == [reason]
    assert resolved[0].detail["approvalId"] == approval_id
    with pytest.raises(AlreadyDecided, match=reason):
        rig.hub.decide(approval_id, "accept", rig.now)


FORM = "mcpServer/elicitation/request"


@pytest.mark.parametrize(("opened", "hearers"), [("t9", {1}), ("other", {1, 2}), (None, {1, 2})])
def test_what_is_asked_while_a_thread_is_being_opened_is_for_who_opens_it(
    opened: str | None, hearers: set[int]
) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    rig.ask(1, "thread/start", {"cwd": "/w"})
    rig.child({"id": "s1", "method": FORM, "params": {"threadId": "t9", "mode": "form"}})
    assert not rig.got(1, FORM)
    assert not rig.got(2, FORM)
    if opened is None:
        rig.answer("thread/start", error={"code": -32600, "message": "no"})
    else:
        rig.answer("thread/start", {"thread": {"id": opened}})
    rig.tell("item/agentMessage/delta", threadId="t9", delta="x")
    for method in (FORM, "item/agentMessage/delta"):
        # Once each, and what no one has opened (a subagent's) goes to all.
        assert {client: len(rig.got(client, method)) for client in (1, 2)} == {
            client: int(client in hearers) for client in (1, 2)
        }
