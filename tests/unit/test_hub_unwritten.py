"""Threads that are not written down: those without a turn yet, and ephemeral ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub.kept import Kept
from tests.support.hub import HubRig

OPENING: dict[str, Any] = {
    "cwd": "/w",
    "developerInstructions": "be kind",
    "approvalPolicy": "never",
    "config": {"model_reasoning_summary": "detailed", "model": "m"},
}


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    return rig


def _open(rig: HubRig, **params: Any) -> None:
    rig.ask(1, "thread/start", {**OPENING, **params})
    ephemeral = params.get("ephemeral", False)
    rig.answer("thread/start", {"thread": {"id": "t1", "ephemeral": ephemeral}})


def _restart(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.ready()


def test_a_new_thread_is_had_written_down_and_nobody_is_told(rig: HubRig) -> None:
    _open(rig)
    asked = rig.asked("thread/read")
    assert asked["params"] == {"threadId": "t1", "includeTurns": True}
    before = {client: list(got) for client, got in rig.to_client.items()}
    rig.child({"id": asked["id"], "error": {"code": -32601, "message": "not supported yet"}})
    assert rig.to_client == before


def test_without_a_turn_it_is_resumed_with_everything_it_was_opened_with(rig: HubRig) -> None:
    _open(rig, dynamicTools=[{"name": "x"}], ephemeral=False)
    rig.ask(1, "thread/settings/update", {"threadId": "t1", "model": "a", "effort": "low"})
    rig.answer("thread/settings/update")
    rig.ask(1, "thread/settings/update", {"threadId": "t1", "model": "b"})
    rig.answer("thread/settings/update")
    for _ in range(2):
        _restart(rig)
        base = {"threadId": "t1", "excludeTurns": True}
        assert rig.asked("thread/resume")["params"] == {**base, **OPENING}
        rig.answer("thread/resume", {"thread": {"id": "t1"}})
        changed = {"threadId": "t1", "model": "b", "effort": "low"}
        assert rig.asked("thread/settings/update")["params"] == changed
    assert not rig.got(1, "thread/closed")
    assert rig.sessions["t1"].status == "active"


def test_once_it_has_a_turn_the_rollout_knows_better(rig: HubRig) -> None:
    _open(rig)
    rig.run_turn(1)
    rig.end_turn()
    _restart(rig)
    assert rig.asked("thread/resume")["params"] == {
        "threadId": "t1",
        "excludeTurns": True,
        "config": {"model_reasoning_summary": "detailed"},
    }
    rig.answer("thread/resume", {"thread": {"id": "t1"}})
    assert "thread/settings/update" not in [entry["method"] for entry in rig.to_child]


@pytest.mark.parametrize("told_by", ["answer", "notification"])
def test_an_ephemeral_thread_ends_with_its_server_and_is_no_loss(rig: HubRig, told_by: str) -> None:
    if told_by == "answer":
        _open(rig, ephemeral=True)
        assert "thread/read" not in [entry["method"] for entry in rig.to_child]
    else:
        rig.tell("thread/started", thread={"id": "t1", "ephemeral": True})
    assert rig.sessions["t1"].metadata == {"ephemeral": "true"}
    rig.run_turn(1)
    _restart(rig)
    assert "thread/resume" not in [entry["method"] for entry in rig.to_child]
    ends = [event for event in rig.events if event.type.startswith(("session.", "turn.i"))]
    assert [(event.type, event.level) for event in ends][1:] == [
        ("turn.interrupted", "info"),
        ("session.closed", "info"),
    ]
    assert len(rig.got(2, "thread/closed")) == 1
    assert rig.sessions["t1"].status == "closed"


def test_the_next_plugin_knows_what_is_ephemeral(rig: HubRig) -> None:
    _open(rig, ephemeral=True)
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], rig.now))
    later.ready()
    assert later.event_types() == ["session.closed"]


def _next_plugin(rig: HubRig, kept: dict[str, Any]) -> HubRig:
    """One that is asked for the thread after the server has died, too."""
    later = HubRig(ready=False)
    threads = Kept(threads=kept)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now, threads))
    later.ready()
    later.connect(1)
    later.ask(1, "turn/start", {"threadId": "t1", "input": []})
    return later


def test_the_next_plugin_knows_what_a_thread_was_opened_with(rig: HubRig) -> None:
    _open(rig)
    rig.ask(1, "thread/settings/update", {"threadId": "t1", "effort": "low"})
    rig.answer("thread/settings/update")
    later = _next_plugin(rig, json.loads(json.dumps(rig.hub.kept.threads)))
    base = {"threadId": "t1", "excludeTurns": True}
    assert later.asked("thread/resume")["params"] == {**base, **OPENING}
    later.answer("thread/resume", {"thread": {"id": "t1"}})
    assert later.asked("thread/settings/update")["params"] == {"threadId": "t1", "effort": "low"}


@pytest.mark.parametrize("kept", [{}, {"t1": {"config": 7, "opening": [], "settings": "x"}}])
def test_what_was_not_kept_is_not_given_again(rig: HubRig, kept: dict[str, Any]) -> None:
    _open(rig)
    later = _next_plugin(rig, kept)
    assert later.asked("thread/resume")["params"] == {"threadId": "t1", "excludeTurns": True}
    later.answer("thread/resume", {"thread": {"id": "t1"}})
    assert later.to_child[-1]["method"] == "turn/start"


def test_a_fork_without_a_turn_keeps_what_it_was_forked_with(rig: HubRig) -> None:
    _open(rig)
    rig.run_turn(1)
    rig.end_turn()
    rig.ask(1, "thread/fork", {"threadId": "t1", "model": "other", "lastTurnId": "u1"})
    rig.answer("thread/fork", {"thread": {"id": "t2", "ephemeral": False}})
    _restart(rig)
    (resume,) = [entry for entry in rig.to_child if entry["params"].get("threadId") == "t2"]
    assert resume["params"] == {"threadId": "t2", "excludeTurns": True, "model": "other"}
