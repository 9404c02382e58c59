"""Turns that have begun and not ended, on record: found again after any death.

The registry says of each session which turn runs on its thread. It is written a moment after the
events, so the events since then say the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from codexd.clock import now_iso
from codexd.contracts import RUNNING_TURN, Event, EventLevel, SessionRecord
from codexd.records.open_approvals import TURN_ENDS

# More than a plugin can record between two writes of the registry.
_LOOK_BACK = 10_000

Record = Callable[[EventLevel, str, str, dict[str, Any]], None]


def since_the_registry(newest_first: Iterable[Event], registry_at: str | None) -> list[Event]:
    """The events that may be newer than the registry, oldest first."""
    found: list[Event] = []
    for event in newest_first:
        # Times of one form compare as texts do.
        if len(found) >= _LOOK_BACK or (registry_at is not None and event.created_at < registry_at):
            break
        found.append(event)
    return found[::-1]


def bring_up_to_date(
    sessions: Iterable[SessionRecord], events: Iterable[Event], endpoint: str
) -> list[SessionRecord]:
    """The sessions that are not as the events tell, as they should be."""
    sessions = list(sessions)
    known = {record.thread_id: record for record in sessions if record.status == "active"}
    before = dict(known)
    # A session may be closed while its turn runs.
    closed = {_turn_of(record): record for record in sessions if record.status != "active"}
    rested: list[SessionRecord] = []
    for event in events:
        detail = event.detail or {}
        thread_id, turn_id = detail.get("threadId"), detail.get("turnId")
        if not isinstance(thread_id, str) or not isinstance(turn_id, str):
            continue
        record = known.get(thread_id)
        if event.type == "turn.started":
            record = record or _lost_session(event, thread_id, endpoint)
            known[thread_id] = _with_turn(record, turn_id)
        elif event.type in TURN_ENDS:
            if record is not None and _turn_of(record) == turn_id:
                known[thread_id] = _with_turn(record, None)
            if turn_id in closed:
                rested.append(_with_turn(closed.pop(turn_id), None))
    changed = [record for thread_id, record in known.items() if before.get(thread_id) != record]
    return rested + changed


def running_turns(sessions: Iterable[SessionRecord]) -> dict[str, str]:
    """The id of each turn that runs on record, by that of its thread."""
    return {
        session.thread_id: turn_id
        for session in sessions
        if session.thread_id is not None and (turn_id := _turn_of(session)) is not None
    }


def end_open_turns(
    sessions: Iterable[SessionRecord], put: Callable[[SessionRecord], None], record: Record
) -> None:
    """The server is gone and nobody saw its turns end: they were interrupted."""
    for session in list(sessions):
        turn_id = _turn_of(session)
        if turn_id is None:
            continue
        put(_with_turn(session, None))
        detail = {
            "threadId": session.thread_id,
            "turnId": turn_id,
            "sessionId": session.session_id,
        }
        record("info", "turn.interrupted", "A turn was interrupted.", detail)


def _turn_of(record: SessionRecord) -> str | None:
    return record.metadata.get(RUNNING_TURN)


def _with_turn(record: SessionRecord, turn_id: str | None) -> SessionRecord:
    metadata = {key: value for key, value in record.metadata.items() if key != RUNNING_TURN}
    if turn_id is not None:
        metadata[RUNNING_TURN] = turn_id
    return msgspec.structs.replace(record, metadata=metadata, updated_at=now_iso())


def _lost_session(event: Event, thread_id: str, endpoint: str) -> SessionRecord:
    """Its registration is on record, but the registry was not written any more."""
    return SessionRecord(
        session_id=str((event.detail or {}).get("sessionId")),
        purpose="duplex",
        thread_id=thread_id,
        endpoint=endpoint,
        created_at=event.created_at,
        updated_at=event.created_at,
    )
