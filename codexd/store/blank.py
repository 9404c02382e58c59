"""The records of a state directory in which nothing has happened yet."""

from __future__ import annotations

from codexd.clock import now_iso
from codexd.config import Server
from codexd.contracts import ChildState, DaemonState, RecentEvents


def blank_daemon(server: Server) -> DaemonState:
    """A daemon that never ran, with the configured child."""
    child = ChildState(
        strategy=server.child_strategy,
        mode=server.mode,
        endpoint=server.endpoint,
        command=server.child_command,
        args=list(server.child_args),
        cwd=server.child_cwd,
    )
    return DaemonState(updated_at=now_iso(), child=child)


def blank_recent(max_entries: int) -> RecentEvents:
    """No events."""
    return RecentEvents(max_entries=max_entries)
