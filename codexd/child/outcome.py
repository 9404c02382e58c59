"""What became of a start, judged by the record of the daemon and its child."""

from __future__ import annotations

from typing import Literal

import msgspec

from codexd.child.command import speaks_protocol
from codexd.config import Server
from codexd.contracts import DaemonState
from codexd.settings import Policy

# How long a child that may not speak the protocol gets before it is called running, not ready.
_PATIENCE_S = 3.0


class Outcome(msgspec.Struct, frozen=True):
    """What became of a start; ``reason`` is one line where it is ``failed``.

    On the way there it is ``running`` once the child runs, and ``waiting`` when that has not
    answered for a second.
    """

    kind: Literal["running", "waiting", "up", "failed"]
    reason: str | None = None


def judge(
    daemon: DaemonState | None, server: Server, policy: Policy, pid: int, waited_s: float
) -> Outcome | None:
    """What the record says of the daemon ``pid``; None while it is too early to tell."""
    if daemon is None or daemon.pid != pid or not daemon.started:
        return None
    child = daemon.child
    if child.ready or child.status == "external":
        return Outcome("up")
    if server.mode == "exec" and child.status in ("running", "stopped"):
        return Outcome("up")
    is_final = policy.restart == "never" or child.next_restart_at is not None
    if child.status == "failed" and is_final:
        return Outcome("failed", child.last_error)
    if child.status == "stopped" and policy.restart != "always":
        return Outcome("up")
    if child.status == "running" and not speaks_protocol(server):
        return Outcome("up") if waited_s >= _PATIENCE_S else None
    if waited_s < policy.ready_timeout_ms / 1000:
        return None
    return Outcome("failed", child.last_error or f"The child is {child.status}, not ready.")
