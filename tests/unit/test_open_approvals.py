"""Every approval that was asked for on record is resolved on record, once, whatever died."""

from __future__ import annotations

from typing import Any

from codexd.contracts import Event
from codexd.records.open_approvals import OpenApprovals
from codexd.records.recorder import Recorder
from tests.unit.test_recorder import FakeEvents, FakeState


def _approval(turn: str | None, item: str, thread: str = "a") -> dict[str, Any]:
    return {"method": "m", "threadId": thread, "turnId": turn, "itemId": item}


def _turn(turn: str, thread: str = "a") -> dict[str, Any]:
    return {"threadId": thread, "turnId": turn, "sessionId": "s"}


def _event(type_: str, detail: dict[str, Any] | None) -> Event:
    return Event(seq=1, created_at="", level="info", type=type_, message="", detail=detail)


LOG = [
    _event("approval.requested", _approval("u1", "of an earlier turn")),
    _event("turn.started", _turn("u2")),
    _event("approval.requested", _approval("u2", "given")),
    _event("approval.requested", _approval("u2", "open")),
    # A plugin that was restarted hears of it again.
    _event("approval.requested", _approval("u2", "open")),
    _event("approval.requested", _approval(None, "of an unknown turn")),
    _event("approval.requested", _approval("u9", "of another thread", "b")),
    _event("approval.resolved", _approval("u2", "given")),
    _event("session.closed", None),
]


def test_what_was_open_when_all_died_is_resolved_before_its_turn_ends() -> None:
    events = FakeEvents()
    approvals = OpenApprovals.found(reversed(LOG), {"a": "u2"})
    recorder = Recorder(FakeState(), events, approvals=approvals)
    for _ in range(2):
        recorder.event("info", "turn.interrupted", "A turn was interrupted.", _turn("u2"))
    assert events.types == [
        "approval.resolved",
        "approval.resolved",
        "turn.interrupted",
        "turn.interrupted",
    ]
    assert events.details[:2] == [
        {**_approval("u2", "open"), "reason": "turn-ended"},
        {**_approval(None, "of an unknown turn"), "reason": "turn-ended"},
    ]


def test_a_log_is_read_no_further_than_the_turns_that_run() -> None:
    read: list[Event] = []

    def newest_first() -> Any:
        for event in reversed(LOG):
            read.append(event)
            yield event

    OpenApprovals.found(newest_first(), {})
    assert read == []
    OpenApprovals.found(newest_first(), {"a": "u2"})
    assert read[-1].type == "turn.started"


def test_what_the_hub_tells_is_not_told_again() -> None:
    events = FakeEvents()
    recorder = Recorder(FakeState(), events)
    recorder.event("info", "approval.requested", "", _approval("u1", "i"))
    recorder.event("info", "approval.requested", "", _approval("u2", "of the next turn"))
    recorder.event("info", "approval.resolved", "", _approval("u1", "i"))
    recorder.event("info", "turn.completed", "", _turn("u1"))
    assert events.types.count("approval.resolved") == 1
    recorder.event("info", "turn.completed", "", _turn("u2"))
    assert events.types[-2:] == ["approval.resolved", "turn.completed"]
