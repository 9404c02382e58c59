"""The types of events that there are; docs/reference/events.md says what each means."""

from __future__ import annotations

from typing import Final

from codexd.contracts import Event

TYPES: Final = (
    "approval.command.failed",
    "approval.requested",
    "approval.resolved",
    "child.abandoned",
    "child.busy_idle",
    "child.exited",
    "child.external",
    "child.promoted",
    "child.ready",
    "child.recycling",
    "child.restarting",
    "child.spawn.failed",
    "child.started",
    "child.stderr",
    "child.stdout",
    "child.stopped",
    "child.unhealthy",
    "child.waiting",
    "client.connected",
    "client.cut",
    "client.disconnected",
    "daemon.started",
    "daemon.stopped",
    "events.dropped",
    "hub.full",
    "hub.listening",
    "hub.socket.failed",
    "hub.tls.failed",
    "hub.token.changed",
    "hub.token.failed",
    "hub.token.wrong",
    "link.lost",
    "link.refused",
    "plugin.restarted",
    "plugin.unhealthy",
    "session.closed",
    "session.lost",
    "session.recovered",
    "session.registered",
    "spare.ended",
    "spare.ready",
    "state.repaired",
    "turn.completed",
    "turn.interrupted",
    "turn.started",
)

# What a type counts as that is none of these: of an event that another program wrote.
OTHER: Final = "other"

# What an event shows in place of the protocol's own messages, which are nobody else's to read.
PROTOCOL: Final = "(protocol messages)"


def is_protocol(event: Event) -> bool:
    """Whether an event tells only that server and clients have talked (stdio endpoints)."""
    return event.type == "child.stdout" and event.message.endswith(f" {PROTOCOL}")
