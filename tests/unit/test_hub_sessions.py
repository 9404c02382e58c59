"""Sessions as people see them: what is shown of a thread, and what is registered by hand."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.contracts import RUNNING_TURN
from tests.support.hub import HubRig

OPENED = {"id": "t", "preview": "", "cwd": "/work", "name": None}


def opened(rig: HubRig, **thread: Any) -> None:
    """The client c1 has started the thread t."""
    rig.connect(1)
    rig.ask(1, "thread/start", {})
    rig.answer("thread/start", {"thread": {**OPENED, **thread}})


def turned(rig: HubRig, text: str) -> None:
    """It has begun a turn."""
    start = {"threadId": "t", "input": [{"type": "text", "text": text}]}
    rig.ask(1, "turn/start", start)
    rig.answer("turn/start", {"turn": {"id": "u", "items": []}})


def title(rig: HubRig) -> str | None:
    view = rig.hub.view("t")
    assert view is not None
    return view.title


def test_a_thread_is_known_by_what_clients_and_server_say() -> None:
    rig = HubRig()
    opened(rig)
    view = rig.hub.view("t")
    assert view is not None
    assert (view.title, view.cwd, view.clients, view.turn) == (None, "/work", ("c1",), None)
    turned(rig, "fix\n the  bug")
    view = rig.hub.view("t")
    assert view is not None
    assert (view.title, view.turn) == ("fix the bug", "u")
    rig.tell("thread/name/updated", threadId="t", threadName="The bug")
    assert title(rig) == "The bug"
    rig.tell("thread/name/updated", threadId="t", threadName=None)
    assert title(rig) == "fix the bug"
    # None of it is recorded.
    assert "bug" not in repr(rig.events) + repr(rig.sessions)


@pytest.mark.parametrize("odd", [{"name": 7}, {"preview": None}, {"cwd": ["x"]}])
def test_a_description_that_is_odd_takes_nothing_with_it(odd: dict[str, Any]) -> None:
    rig = HubRig()
    opened(rig, **odd)
    assert rig.sessions["t"].status == "active"
    view = rig.hub.view("t")
    assert view is not None
    assert (view.title, view.clients) == (None, ("c1",))


def test_a_long_title_is_cut() -> None:
    rig = HubRig()
    opened(rig, preview="x" * 100_000)
    assert title(rig) == "x" * 200


def test_a_long_name_of_a_client_is_cut() -> None:
    rig = HubRig()
    rig.do(rig.hub.client_opened(1, rig.now))
    info = {"name": "x" * 100_000, "version": "1"}
    rig.say(1, {"id": 0, "method": "initialize", "params": {"clientInfo": info}})
    rig.join_thread(1, "t")
    view = rig.hub.view("t")
    assert view is not None
    shown = "x" * 80
    assert view.clients == (shown,)
    assert rig.hub.snapshot()["clientNames"] == {shown: 1}
    assert rig.events[0].detail["name"] == shown


def test_a_session_is_registered_before_and_after_its_thread_is_used() -> None:
    rig = HubRig()
    record, actions = rig.hub.register("t", "worker", {"job": "7"}, rig.now)
    rig.do(actions)
    assert rig.sessions["t"] == record
    assert [event.type for event in rig.events] == ["session.registered"]
    opened(rig)
    # Its use changes nothing of it.
    assert rig.sessions["t"].session_id == record.session_id
    assert (rig.sessions["t"].purpose, rig.sessions["t"].metadata) == ("worker", {"job": "7"})
    again, actions = rig.hub.register("t", "duplex", {"more": "x"}, rig.now)
    rig.do(actions)
    assert again.session_id == record.session_id
    assert (again.purpose, again.metadata) == ("duplex", {"job": "7", "more": "x"})
    assert [event.type for event in rig.events].count("session.registered") == 1


def test_what_is_registered_is_resumed_by_whoever_uses_it_after_a_restart() -> None:
    rig = HubRig()
    record, actions = rig.hub.register("t", "worker", {"job": "7"}, rig.now)
    rig.do(actions)
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t"]], later.now))
    later.ready()
    assert later.hub.view("t") is not None
    again, actions = later.hub.register("t", "worker", {}, later.now)
    later.do(actions)
    assert (again.session_id, again.metadata) == (record.session_id, {"job": "7"})


def test_a_session_that_is_closed_by_hand_is_another_when_its_thread_is_used_again() -> None:
    rig = HubRig()
    opened(rig)
    first = rig.sessions["t"].session_id
    rig.do(rig.hub.close_session("t", rig.now))
    assert rig.sessions["t"].status == "closed"
    rig.do(rig.hub.close_session("t", rig.now))
    assert [event.type for event in rig.events].count("session.closed") == 1
    turned(rig, "x")
    again = rig.sessions["t"]
    assert again.status == "active"
    assert again.session_id != first


@pytest.mark.parametrize("is_used_again", [True, False])
def test_a_turn_that_outlives_its_session_is_told_and_ends_as_its_own(
    *, is_used_again: bool
) -> None:
    rig = HubRig()
    opened(rig)
    turned(rig, "x")
    first = rig.sessions["t"].session_id
    rig.do(rig.hub.close_session("t", rig.now))
    closed = rig.sessions["t"]
    assert (closed.status, closed.metadata) == ("closed", {RUNNING_TURN: "u"})
    if is_used_again:
        rig.do(rig.hub.register("t", "worker", {}, rig.now)[1])
        assert rig.sessions["t"].status == "active"
    rig.tell("turn/completed", threadId="t", turn={"id": "u", "items": [], "status": "completed"})
    assert [record.metadata for record in rig.registry.values()] == [{}] * (1 + is_used_again)
    assert rig.registry[first].status == "closed"
    ended = [event for event in rig.events if event.type == "turn.completed"]
    assert [event.detail["sessionId"] for event in ended] == [first]


def test_a_turn_that_outlived_its_session_is_heard_of_by_the_next_plugin() -> None:
    rig = HubRig()
    opened(rig)
    turned(rig, "x")
    rig.do(rig.hub.close_session("t", rig.now))
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t"]], later.now))
    assert later.hub.snapshot()["activeSessions"] == 0
    later.ready("t", same_child=True)
    later.answer("thread/resume", {"thread": {"id": "t", "status": {"type": "active"}}})
    assert later.hub.snapshot()["runningTurns"] == 1
    later.tell("turn/completed", threadId="t", turn={"id": "u", "items": [], "status": "completed"})
    assert later.sessions["t"].metadata == {}
    assert [event.type for event in later.events if "turn" in event.type] == ["turn.completed"]
