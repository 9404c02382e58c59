"""The states of the child, as tables: state and event give the next state, an event an action.

docs/reference/states.md shows the same tables, and a test holds the two together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import get_args

from codexd.contracts import ChildStatus


class ChildEvent(StrEnum):
    """What can happen to a child."""

    STARTING = "starting"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn failed"
    READY = "ready"
    NOT_READY = "not ready"
    ENDED_WELL = "ended well"
    ENDED_BADLY = "ended badly"
    WAITING = "waiting to restart"
    EXTERNAL = "external"
    RELEASED = "released"


STATES: tuple[ChildStatus, ...] = get_args(ChildStatus)

_SPAWNABLE: tuple[ChildStatus, ...] = ("failed", "idle", "running", "starting", "stopped")


def _rows(
    states: tuple[ChildStatus, ...], event: ChildEvent, then: ChildStatus
) -> dict[tuple[ChildStatus, ChildEvent], ChildStatus]:
    return {(state, event): then for state in states}


# A child seen for the first time by a restarted plugin may be in any state of its own, so the
# events that report a fact lead from every state of a spawned child to that fact.
TRANSITIONS: dict[tuple[ChildStatus, ChildEvent], ChildStatus] = {
    **_rows(("failed", "idle", "stopped", "external"), ChildEvent.STARTING, "starting"),
    **_rows(_SPAWNABLE, ChildEvent.SPAWNED, "running"),
    **_rows(_SPAWNABLE, ChildEvent.SPAWN_FAILED, "failed"),
    **_rows(_SPAWNABLE, ChildEvent.ENDED_WELL, "stopped"),
    **_rows(_SPAWNABLE, ChildEvent.ENDED_BADLY, "failed"),
    **_rows(_SPAWNABLE, ChildEvent.WAITING, "failed"),
    **_rows(("running",), ChildEvent.READY, "running"),
    **_rows(("running",), ChildEvent.NOT_READY, "running"),
    **_rows(("external",), ChildEvent.READY, "external"),
    **_rows(("external",), ChildEvent.NOT_READY, "external"),
    **_rows(STATES, ChildEvent.EXTERNAL, "external"),
    **_rows(("external",), ChildEvent.RELEASED, "idle"),
}

# What codexd does about it, whatever the state.
ACTIONS: dict[ChildEvent, str] = {
    ChildEvent.STARTING: "Start the process.",
    ChildEvent.SPAWNED: "Read its output; connect and shake hands.",
    ChildEvent.SPAWN_FAILED: "Set the time of the next try.",
    ChildEvent.READY: "Resume the active sessions, send what waited; forget the crash loop "
    "after a while.",
    ChildEvent.NOT_READY: "Connect again; replace a process that hangs.",
    ChildEvent.ENDED_WELL: "End what is left of its process group, read the rest of its output, "
    "answer the waiting clients; start another where the restart policy says so and nobody has "
    "stopped it.",
    ChildEvent.ENDED_BADLY: "The same, at once the first time and later and later after that.",
    ChildEvent.WAITING: "Start another when the time has come.",
    ChildEvent.EXTERNAL: "Connect to the endpoint, and again whenever it is lost.",
    ChildEvent.RELEASED: "Hang up.",
}


class NoTransition(ValueError):
    """An event that cannot happen in this state."""


def next_status(status: ChildStatus, event: ChildEvent) -> ChildStatus:
    """The state after ``event``.

    Raises:
        NoTransition: the table has no such row.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise NoTransition(f"a child that is {status} cannot be {event.value}") from None
