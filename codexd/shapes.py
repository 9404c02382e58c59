"""What goes over HTTP, as the plugin answers it and :mod:`codexd.client` reads it.

In JSON the names are in camelCase; times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from codexd.contracts import Event, SessionRecord

# The status of a turn that has not ended.
RUNS = "inProgress"
# The last event of a turn that is answered as a stream.
FINISHED = "finished"

Decision = str | dict[str, Any]
Input = str | list[dict[str, Any]]


class Session(SessionRecord, kw_only=True):
    """A record of session-registry.json, and how its thread stands now.

    ``clients`` are the names of those who listen, ``turn`` is the id of the turn that runs. All
    of it comes from what clients and server say, and is written down nowhere.
    """

    title: str | None = None
    cwd: str | None = None
    clients: list[str] = msgspec.field(default_factory=list)
    turn: str | None = None


class SessionList(msgspec.Struct):
    """Sessions, the newest first; ``next`` is what `after` is to be for more."""

    sessions: list[Session]
    next: str | None = None


class ThreadList(msgspec.Struct):
    """Threads as the server describes them, the newest first; ``next`` as for sessions."""

    threads: list[dict[str, Any]]
    next: str | None = None


class StartedThread(msgspec.Struct, rename="camel"):
    """A thread that was started, and its session."""

    thread_id: str
    session_id: str


class StartedTurn(msgspec.Struct, rename="camel"):
    """A turn that runs."""

    turn_id: str
    status: str = RUNS


class FinishedTurn(msgspec.Struct, rename="camel", kw_only=True):
    """A turn and how it ended: `completed`, `failed` or `interrupted`; `inProgress` while it runs.

    ``final_response`` is what the agent said last; ``usage`` are the tokens, as the server tells
    them last; ``error`` is why it failed or was cut.
    """

    turn_id: str
    status: str
    final_response: str | None = None
    usage: dict[str, Any] | None = None
    duration_ms: int | None = None
    error: dict[str, Any] | None = None


class Turn(FinishedTurn, kw_only=True):
    """A turn with its items, as the server has them."""

    items: list[dict[str, Any]] = msgspec.field(default_factory=list)


class Approval(msgspec.Struct, rename="camel", kw_only=True):
    """A request of the server that waits for an answer.

    ``summary`` has what one must see to decide (command, cwd, files) and is in no log;
    ``decisions`` are the words that this kind takes.
    """

    approval_id: str
    kind: str
    thread_id: str | None
    session_id: str | None
    turn_id: str | None
    item_id: str | None
    since: str
    summary: dict[str, Any]
    decisions: list[str]


class ApprovalList(msgspec.Struct):
    """Approvals that wait, the oldest first; ``next`` as for sessions."""

    approvals: list[Approval]
    next: str | None = None


class PageCode(msgspec.Struct, rename="camel"):
    """A code that lets one browser in at ``url``, once and for so many seconds."""

    code: str
    url: str
    valid_for_s: float


ChangeKind = Literal["start", "stop", "restart"]
When = Literal["now", "drained", "idle"]


class Change(msgspec.Struct, rename="camel", kw_only=True):
    """A change to the server; ``error`` says in one line why it failed."""

    id: str
    kind: ChangeKind
    status: Literal["doing", "done", "failed"] = "doing"
    error: str | None = None
    since: str
    when: When


class EventsPage(msgspec.Struct, frozen=True):
    """Events in order; ``next`` is the `since` that goes on from here, null at the end."""

    events: list[Event]
    next: int | None
