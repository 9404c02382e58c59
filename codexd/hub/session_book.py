"""Which thread belongs to which session, and how sessions come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from codexd.clock import now_iso
from codexd.contracts import RUNNING_TURN, SessionPurpose, SessionRecord
from codexd.hub.actions import Action, Emit, SessionChanged
from codexd.session_id import new_session_id

# Of a session's metadata: how many approvals wait on its thread; not there for none.
WAITING_APPROVALS = "waitingApprovals"
# Whether the thread ends with its server, being written down nowhere; not there for no.
EPHEMERAL = "ephemeral"
# What codexd itself keeps there; nobody else may.
KEPT_METADATA = frozenset({RUNNING_TURN, WAITING_APPROVALS, EPHEMERAL})


class SessionBook:
    """The active session of each thread. ``act`` takes what is to be recorded."""

    def __init__(self, endpoint: str, act: Callable[[Action], None]) -> None:
        self.child_pid: int | None = None
        self._endpoint = endpoint
        self._act = act
        self._by_thread: dict[str, SessionRecord] = {}
        # Sessions that were closed while a turn of theirs ran: it is theirs until it ends.
        self._outlived: dict[str, SessionRecord] = {}

    def restore(self, records: Iterable[SessionRecord]) -> list[SessionRecord]:
        """Take over the sessions of the registry; returns those whose thread goes on."""
        for record in records:
            if record.thread_id is None:
                continue
            if record.status == "active":
                self._by_thread[record.thread_id] = record
                # What still waits, the server asks again.
                self.waiting(record.thread_id, 0)
            elif RUNNING_TURN in record.metadata:
                self._outlived[record.thread_id] = record
        return [*self._outlived.values(), *self._by_thread.values()]

    def session_of(self, thread_id: str) -> str | None:
        """The id of the thread's active session."""
        record = self._by_thread.get(thread_id)
        return None if record is None else record.session_id

    @property
    def count(self) -> int:
        """How many sessions are active."""
        return len(self._by_thread)

    def used(self, thread_id: str) -> None:
        """Someone uses the thread: it is an active session, if it was not one already."""
        if thread_id not in self._by_thread:
            self._open(thread_id, "duplex", {})

    def register(
        self, thread_id: str, purpose: SessionPurpose, metadata: Mapping[str, str]
    ) -> SessionRecord:
        """The thread is a session of this purpose, whether it was one already or not."""
        record = self._by_thread.get(thread_id)
        if record is None:
            return self._open(thread_id, purpose, metadata)
        changes = {"purpose": purpose, "metadata": {**record.metadata, **metadata}}
        record = msgspec.structs.replace(record, **changes, updated_at=now_iso())
        self._by_thread[thread_id] = record
        self._act(SessionChanged(record))
        return record

    def _open(
        self, thread_id: str, purpose: SessionPurpose, metadata: Mapping[str, str]
    ) -> SessionRecord:
        now = now_iso()
        record = SessionRecord(
            session_id=new_session_id(),
            purpose=purpose,
            thread_id=thread_id,
            endpoint=self._endpoint,
            child_pid=self.child_pid,
            created_at=now,
            updated_at=now,
            metadata=dict(metadata),
        )
        self._by_thread[thread_id] = record
        self._act(SessionChanged(record))
        message = f"Registered {purpose} session {record.session_id}."
        self._emit("session.registered", message, record)
        return record

    def waiting(self, thread_id: str, approvals: int) -> None:
        """So many approvals wait on the thread for an answer."""
        self._note(thread_id, WAITING_APPROVALS, str(approvals) if approvals else None)

    def turn_runs(self, thread_id: str, turn_id: str | None) -> None:
        """A turn runs on the thread; None: none does any more."""
        self._note(thread_id, RUNNING_TURN, turn_id)
        outlived = self._outlived.get(thread_id)
        if outlived is not None and outlived.metadata[RUNNING_TURN] != turn_id:
            del self._outlived[thread_id]
            self._act(SessionChanged(_at_rest(outlived)))

    def session_of_turn(self, thread_id: str) -> str | None:
        """The id of the session of the turn that runs on the thread, or ran last."""
        outlived = self._outlived.get(thread_id)
        return self.session_of(thread_id) if outlived is None else outlived.session_id

    def is_ephemeral(self, thread_id: str) -> None:
        """The thread is written down nowhere."""
        self._note(thread_id, EPHEMERAL, "true")

    def _note(self, thread_id: str, key: str, value: str | None) -> None:
        record = self._by_thread.get(thread_id)
        if record is None or record.metadata.get(key) == value:
            return
        metadata = {name: record.metadata[name] for name in record.metadata if name != key}
        if value is not None:
            metadata[key] = value
        record = msgspec.structs.replace(record, metadata=metadata, updated_at=now_iso())
        self._by_thread[thread_id] = record
        self._act(SessionChanged(record))

    def closed(self, thread_id: str) -> None:
        """The thread was closed, archived or deleted, or it was ephemeral and its server ended."""
        record = self._end(thread_id)
        if record is not None:
            self._emit("session.closed", f"Closed session {record.session_id}.", record)

    def lost(self, thread_id: str, reason: str) -> None:
        """The thread could not be resumed."""
        record = self._end(thread_id)
        if record is not None:
            detail = {"sessionId": record.session_id, "threadId": thread_id, "reason": reason}
            message = f"Session {record.session_id} could not be resumed after the restart."
            self._act(Emit("error", "session.lost", message, detail))

    def recovered(self, thread_id: str) -> None:
        """The thread was resumed in a new child."""
        record = self._by_thread.get(thread_id)
        if record is None:
            return
        record = msgspec.structs.replace(record, child_pid=self.child_pid, updated_at=now_iso())
        self._by_thread[thread_id] = record
        self._act(SessionChanged(record))
        message = f"Resumed session {record.session_id} after the restart."
        self._emit("session.recovered", message, record)

    def _end(self, thread_id: str) -> SessionRecord | None:
        record = self._by_thread.pop(thread_id, None)
        if record is None:
            return None
        ended = msgspec.structs.replace(record, status="closed", updated_at=now_iso())
        if RUNNING_TURN in ended.metadata:
            self._outlived[thread_id] = ended
        else:
            ended = _at_rest(ended)
        self._act(SessionChanged(ended))
        return ended

    def _emit(self, type_: str, message: str, record: SessionRecord) -> None:
        detail = {"sessionId": record.session_id, "threadId": record.thread_id}
        self._act(Emit("info", type_, message, detail))


def _at_rest(record: SessionRecord) -> SessionRecord:
    """The session with nothing going on in it any more."""
    going_on = (RUNNING_TURN, WAITING_APPROVALS)
    metadata = {name: value for name, value in record.metadata.items() if name not in going_on}
    return msgspec.structs.replace(record, metadata=metadata, updated_at=now_iso())
