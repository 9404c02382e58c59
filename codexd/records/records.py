"""The state files and the event log, opened together by the one process that may write them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from codexd import runtime
from codexd.child import steps as supervision
from codexd.clock import now_iso
from codexd.config import Config, Paths, Runtime, Server
from codexd.contracts import SessionPurpose, SessionRecord
from codexd.eventlog.log import EventLog
from codexd.eventlog.newest import Newest
from codexd.eventlog.reader import events_with
from codexd.platform.filelock import FileLock
from codexd.platform.process import end_group
from codexd.records.open_approvals import OpenApprovals
from codexd.records.open_turns import (
    bring_up_to_date,
    end_open_turns,
    running_turns,
    since_the_registry,
)
from codexd.records.recorder import Recorder
from codexd.store.state import Flusher, StateStore

logger = logging.getLogger("codexd")

# How long the plugin may take to let go of the state files after circus has ended it.
_HANDOVER_S = 5.0


class StillWritten(OSError):
    """Another process keeps the state files. The text is one line."""


class Places:
    """The directories, and the lock that says who writes in them: all may be taken away."""

    def __init__(self, paths: Paths, place: Runtime, lock: FileLock) -> None:
        self._paths = paths
        self._place = place
        self._lock = lock
        self._trouble = ""

    @property
    def is_well(self) -> bool:
        """Whether at the last look nothing was left to be made again."""
        return not self._trouble

    def look(self) -> list[str]:
        """Make again what was taken away, and set aside what was put in the place of it.

        Returns:
            What was done, in a sentence each.
        """
        trouble, repairs = "", []
        try:
            was_there = os.path.isdir(self._paths.state_dir)
            repairs = runtime.make_directories(self._paths, self._place)
            if not was_there:
                repairs.append("The state directory was taken away; it was made again.")
            # Only behind no link: what is there is then ours to move.
            repairs += runtime.set_right(self._paths, self._place)
            if not self._lock.acquire(0):
                trouble = "another process has taken writer.lock"
        except OSError as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            logger.error("the directories cannot be made again: %s", trouble)
        self._trouble = trouble
        return repairs


class Records(msgspec.Struct):
    """Everything that is written down, and the recorder that writes it.

    ``places`` sees that the directories are there, and tells what it had to do.
    """

    server: Server
    paths: Paths
    steps_path: str
    state: StateStore
    events: EventLog
    recorder: Recorder
    flusher: Flusher
    places: Places

    def look(self) -> bool:
        """See that everything is there, and write what waits; whether the places are well."""
        self.events.tick()
        for repair in self.places.look():
            self.recorder.event("warn", "state.repaired", repair)
        self.state.look()
        return self.places.is_well

    def must_be_written(self) -> None:
        """Write all of it, now.

        Raises:
            OSError: the disk does not take it. The text is one line for the user.
        """
        self.events.must_be_written()
        self.flusher.must_be_written()

    def daemon_begins(self, pid: int, *, until: int | None = None) -> None:
        """Record how the last daemon ended, where it could not, and that the one ``pid`` begins.

        ``until``: as for :meth:`catch_up`.
        """
        self.catch_up(until)
        if until is None:
            self.end_open_turns()
        self._end_earlier_daemon()
        self.recorder.daemon_started(pid, self.server)

    def catch_up(self, until: int | None = None) -> None:
        """Record what circusd did and nobody has recorded yet, also how it died.

        With ``until``, this goes for those before the present circusd, whose last step bears
        that number. Call it only when the child of that circusd is gone.
        """
        record = supervision.load(self.steps_path)
        if until is None:
            first = record.first_to_apply(self.state.daemon.pid, self.recorder.recorded)
            self.recorder.replay([step for step in record.steps if step.number >= first])
        else:
            self.recorder.replay([step for step in record.steps if step.number <= until])
        if self.recorder.child.pid is not None:
            self.recorder.lost_with_daemon(record.last_number if until is None else until)

    def _end_earlier_daemon(self) -> None:
        # One that was killed could not record its end. The log decides, for the state is written
        # a moment later.
        started, stopped = (self.events.kinds.of(f"daemon.{w}") for w in ("started", "stopped"))
        if started is not None and (stopped is None or started.seq > stopped.seq):
            self.recorder.daemon_stopped(found=True)

    def end_open_turns(self) -> None:
        """The server is gone, and its turns with it. Not for one that is not ours: it may live."""
        if self.server.child_strategy == "spawn":
            end_open_turns(self.state.sessions.values(), self.recorder.session, self.recorder.event)

    def open_session(
        self, session_id: str, purpose: SessionPurpose, metadata: dict[str, str]
    ) -> None:
        """Register a session without a thread, unless it is there."""
        if session_id in self.state.sessions:
            return
        now = now_iso()
        record = SessionRecord(
            session_id=session_id,
            purpose=purpose,
            endpoint=self.server.endpoint,
            child_pid=self.recorder.child.pid,
            created_at=now,
            updated_at=now,
            metadata=metadata,
        )
        self.recorder.session(record)
        detail = {"sessionId": record.session_id, "threadId": None}
        message = f"Registered {purpose} session {record.session_id}."
        self.recorder.event("info", "session.registered", message, detail)

    def close_session(self, session_id: str) -> None:
        """Close a session, if there is one."""
        if session_id not in self.state.sessions:
            return
        self.state.close_session(session_id)
        self.recorder.event(
            "info", "session.closed", f"Closed session {session_id}.", {"sessionId": session_id}
        )


@contextlib.contextmanager
def open_records(config: Config, *, timeout_s: float, evict: bool = False) -> Iterator[Records]:
    """Open the files for writing; what was damaged is set right and recorded.

    ``evict``: end a process that does not let go of them in time. Only for the daemon, while
    it knows that no plugin of its own runs: such a process is one that an earlier daemon left
    behind, stopped or hung.

    Raises:
        StillWritten: another process did not let go of them within ``timeout_s`` seconds.
    """
    lock = FileLock(os.path.join(config.paths.state_dir, "writer.lock"))
    is_ours = lock.acquire(timeout_s)
    if not is_ours and evict:
        holder = lock.signature()
        if holder is not None:
            end_group(holder, grace_s=0, report=logger.warning)
        is_ours = lock.acquire(timeout_s)
    if not is_ours:
        raise StillWritten(f"Another process still writes the files in {config.paths.state_dir}.")
    try:
        # The plugin writes beside its loop; the daemon has none yet, or no more.
        records = _open(config, lock, write_beside=not evict)
        try:
            yield records
        finally:
            records.events.tick()
            records.flusher.stop()
            records.events.close()
    finally:
        lock.release()


def open_as_daemon(config: Config) -> contextlib.AbstractContextManager[Records]:
    """Open the files as the daemon, while it knows that no plugin of its own runs."""
    return open_records(config, timeout_s=_HANDOVER_S, evict=True)


def record_end(config: Config, *, close_session: str | None = None) -> None:
    """Record what the plugin could not see, and that the daemon ends; circus must be gone.

    Raises:
        OSError: the files cannot be written.
    """
    with open_as_daemon(config) as records:
        records.catch_up()
        records.end_open_turns()
        if close_session is not None:
            records.close_session(close_session)
        records.recorder.daemon_stopped()


def _open(config: Config, lock: FileLock, *, write_beside: bool) -> Records:
    paths, policy = config.paths, config.policy
    events = EventLog(
        paths.structured_event_log_path,
        paths.recent_events_path,
        max_bytes=policy.log_max_bytes,
        backups=policy.log_backups,
        cache_size=config.event_cache_size,
    )
    state = StateStore.open(config, recent=events.recent_record)
    events.subscribe(state.event_recorded)
    # The events tell what the registry was not written for any more.
    newer = since_the_registry(
        events_with(paths.structured_event_log_path, "turnId"), state.registry_at
    )
    for session in bring_up_to_date(state.sessions.values(), newer, config.server.endpoint):
        state.put_session(session)
    recorder = Recorder(
        state,
        events,
        recorded=_newest_recorded_step(paths, events.kinds),
        last_end=_last_end(events.kinds),
        approvals=OpenApprovals.found(
            events_with(paths.structured_event_log_path, "turnId"),
            running_turns(state.sessions.values()),
        ),
    )
    for repair in (*events.repairs, *state.repairs):
        recorder.event("warn", "state.repaired", repair)
    flusher = Flusher(state)
    if write_beside:
        flusher.start()
    return Records(
        config.server,
        paths,
        supervision.path_of(paths.state_dir),
        state,
        events,
        recorder,
        flusher,
        Places(paths, config.runtime, lock),
    )


def _last_end(newest: Newest) -> dict[str, Any]:
    """The detail of the newest ``child.exited``: why that child ended is written nowhere else."""
    event = newest.of("child.exited")
    return {} if event is None else event.detail or {}


def _newest_recorded_step(paths: Paths, newest: Newest) -> int:
    number = newest.step(paths.structured_event_log_path)
    if number is not None:
        return number
    # Rotated away: what circusd still remembers was recorded long ago.
    return supervision.load(supervision.path_of(paths.state_dir)).last_number
