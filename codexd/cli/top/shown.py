"""What the view is fed with: how the daemon is in one moment, and what became of what was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from codexd.contracts import DaemonState, Event, Identity
from codexd.shapes import Session


class Messages(msgspec.Struct, rename="camel"):
    """How many have gone through the hub since it was made."""

    from_clients: int = 0
    to_clients: int = 0


class Hub(msgspec.Struct, rename="camel"):
    """What the hub tells; ``messages`` is None where the daemon is of an older version."""

    ready: bool = False
    clients: int = 0
    running_turns: int = 0
    waiting_approvals: int = 0
    waiting_requests: int = 0
    server_version: str | None = None
    messages: Messages | None = None


class Live(msgspec.Struct, rename="camel"):
    daemon_pid: int | None = None


class _Recent(msgspec.Struct):
    events: list[Event] = []


class Status(msgspec.Struct, rename="camel"):
    """What of `GET /v1/status` is shown."""

    daemon: DaemonState
    hub: Hub
    identity: Identity | None = None
    live: Live = msgspec.field(default_factory=Live)
    recent_events: _Recent = msgspec.field(default_factory=_Recent)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the daemon. ``cpu`` is in percent of a core, None before there is a second look.

    ``role`` is daemon, plugin, server or other.
    """

    pid: int
    role: str
    name: str
    cpu: float | None
    resident: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon at ``at``, in seconds of a clock that only goes forward."""

    at: float
    status: Status
    sessions: list[Session]
    processes: list[Process]


@dataclass(frozen=True, slots=True)
class Away:
    """Nobody answers; why, in one line."""

    why: str


@dataclass(frozen=True, slots=True)
class Past:
    """What had happened before the first look; all events that were shown so far are void.

    ``counted`` are those of the last day from which restarts and turns are known, ``recent`` the
    newest of all. Both in order.
    """

    counted: list[Event] = field(default_factory=list)
    recent: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Looked:
    """A thread as the server has it; or why it cannot be had."""

    thread_id: str
    thread: dict[str, Any] | None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A line about what the user has asked for; ``is_over``: nothing more will come of it."""

    text: str
    is_over: bool = True


@dataclass(frozen=True, slots=True)
class Broken:
    """What should never happen: nothing more will be heard."""

    error: Exception


Fed = Snapshot | Away | Past | Event | Looked | Note | Broken
