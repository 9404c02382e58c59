"""Every turn that has begun on record ends on record, once, whatever died and when."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from codexd.contracts import RUNNING_TURN, Event, SessionRecord
from codexd.records.open_turns import bring_up_to_date, end_open_turns, since_the_registry


def _at(number: int) -> str:
    return f"2026-01-01T00:00:{number // 10:02d}.{number % 10}00Z"


def _event(number: int, type_: str, thread: str, turn: str) -> Event:
    detail = {"threadId": thread, "turnId": turn, "sessionId": f"session-{thread}"}
    return Event(
        seq=number, created_at=_at(number), level="info", type=type_, message="", detail=detail
    )


def _session(thread: str, turn: str | None = None) -> SessionRecord:
    return SessionRecord(
        session_id=f"session-{thread}",
        purpose="duplex",
        thread_id=thread,
        endpoint="stdio://x",
        created_at=_at(0),
        updated_at=_at(0),
        metadata={} if turn is None else {RUNNING_TURN: turn, "kept": "yes"},
    )


def _ended(sessions: list[SessionRecord]) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = []
    end_open_turns(
        sessions, lambda _record: None, lambda _l, type_, _m, detail: told.append((type_, detail))
    )
    return told


def test_a_turn_of_the_registry_is_ended_and_taken_off_it() -> None:
    put: list[SessionRecord] = []
    told: list[dict[str, Any]] = []
    sessions = [_session("a", "u1"), _session("b")]
    end_open_turns(sessions, put.append, lambda _l, _t, _m, detail: told.append(detail))
    assert told == [{"threadId": "a", "turnId": "u1", "sessionId": "session-a"}]
    assert [record.metadata for record in put] == [{"kept": "yes"}]


def test_a_session_that_the_registry_missed_is_put_back() -> None:
    (record,) = bring_up_to_date([], [_event(1, "turn.started", "a", "u1")], "stdio://x")
    assert (record.session_id, record.thread_id, record.status) == ("session-a", "a", "active")
    assert record.metadata == {RUNNING_TURN: "u1"}


def test_a_turn_that_outlived_its_session_has_ended_with_the_event() -> None:
    closed = replace(_session("a", "u1"), status="closed")
    (record,) = bring_up_to_date([closed], [_event(1, "turn.completed", "a", "u1")], "stdio://x")
    assert (record.session_id, record.status, record.metadata) == (
        closed.session_id,
        "closed",
        {"kept": "yes"},
    )
    assert bring_up_to_date([closed], [_event(1, "turn.completed", "a", "u2")], "stdio://x") == []


def test_events_from_before_the_registry_are_not_read() -> None:
    events = [_event(number, "turn.started", "a", f"u{number}") for number in range(9, 0, -1)]
    read: list[int] = []

    def newest_first() -> Any:
        for event in events:
            read.append(event.seq)
            yield event

    assert [event.seq for event in since_the_registry(newest_first(), _at(7))] == [7, 8, 9]
    assert read == [9, 8, 7, 6]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.data())
def test_whenever_the_registry_was_written_last(
    steps: list[tuple[str, bool]], data: st.DataObject
) -> None:
    # One turn at a time on each thread; True: it is interrupted, False: completed.
    running: dict[str, str] = {}
    events: list[Event] = []
    registries: list[dict[str, str]] = [{}]
    for thread, interrupted in steps:
        number = len(events) + 1
        if thread in running:
            type_ = "turn.interrupted" if interrupted else "turn.completed"
            events.append(_event(number, type_, thread, running.pop(thread)))
        else:
            running[thread] = f"u{number}"
            events.append(_event(number, "turn.started", thread, running[thread]))
        registries.append(dict(running))
    written = data.draw(st.integers(0, len(events)))
    sessions = {thread: _session(thread, turn) for thread, turn in registries[written].items()}
    at = _at(written) if written else None
    newer = since_the_registry(reversed(events), at)
    for record in bring_up_to_date(sessions.values(), newer, "stdio://x"):
        sessions[record.thread_id or ""] = record
    ended = _ended(list(sessions.values()))
    assert {detail["threadId"]: detail["turnId"] for _, detail in ended} == running
    assert len(ended) == len(running)
