"""The records that other programs read: state files, events and `--json` output.

Attribute names are snake_case here and camelCase on disk. Times are ISO 8601 UTC with
milliseconds and ``Z`` (see :func:`codexd.clock.now_iso`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

ServerMode = Literal["app-server", "exec"]
ChildStrategy = Literal["spawn", "external"]
ChildStatus = Literal["external", "failed", "idle", "running", "starting", "stopped"]
EventLevel = Literal["error", "info", "warn"]
SessionPurpose = Literal["duplex", "smoke", "worker"]
SessionStatus = Literal["active", "closed"]


# Of a session's metadata: the turn that runs on its thread; not there for none. So the end of a
# turn is recorded also when nobody of those lives who saw it begin.
RUNNING_TURN = "runningTurn"


class Record(msgspec.Struct, rename="camel"):
    """Base of every record: camelCase names on disk, unknown keys ignored when read."""


class Identity(Record, kw_only=True):
    """identity.json. ``daemon_id`` is made once per state directory."""

    daemon_id: str
    node_id: str
    repo_root: str
    created_at: str
    version: str | None = None


class ChildState(Record, kw_only=True):
    """The child as last seen; part of daemon-state.json."""

    strategy: ChildStrategy
    mode: ServerMode
    endpoint: str
    status: ChildStatus = "idle"
    command: str | None = None
    args: list[str] = []
    cwd: str | None = None
    pid: int | None = None
    started_at: str | None = None
    exited_at: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    last_error: str | None = None
    ready: bool = False
    ready_at: str | None = None
    restarts: int = 0
    next_restart_at: str | None = None


class DaemonState(Record, kw_only=True):
    """daemon-state.json."""

    started: bool = False
    started_at: str | None = None
    stopped_at: str | None = None
    updated_at: str
    pid: int | None = None
    child: ChildState


class SessionRecord(Record, kw_only=True):
    """One entry of session-registry.json."""

    session_id: str
    purpose: SessionPurpose
    thread_id: str | None = None
    status: SessionStatus = "active"
    endpoint: str
    child_pid: int | None = None
    created_at: str
    updated_at: str
    metadata: dict[str, str] = {}


class SessionRegistry(Record, kw_only=True):
    """session-registry.json."""

    updated_at: str | None = None
    sessions: list[SessionRecord] = []


class Event(Record, kw_only=True):
    """One line of events.jsonl."""

    seq: int
    created_at: str
    level: EventLevel
    type: str
    message: str
    detail: dict[str, Any] | None = None


class RecentEvents(Record, kw_only=True):
    """recent-events.json: the last ``max_entries`` events.

    ``newest`` is for whoever opens the log next: see :mod:`codexd.eventlog.newest`.
    """

    max_entries: int
    updated_at: str | None = None
    events: list[Event] = []
    newest: list[Event] | msgspec.UnsetType = msgspec.UNSET


class SmokeCheck(Record, kw_only=True):
    """One line of `codexd smoke`."""

    name: str
    status: Literal["ok", "failed"]
    detail: str
