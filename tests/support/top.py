"""What `codexd top` is fed with, made up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from codexd.cli.top.model import Model
from codexd.cli.top.shown import Hub, Live, Messages, Process, Snapshot, Status
from codexd.contracts import ChildState, DaemonState, Event, EventLevel, Identity
from codexd.shapes import Session

NOW = datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC)
MIB = 1 << 20


def model() -> Model:
    """A view that has heard nothing yet."""
    return Model("/repo")


def event(
    seq: int, type_: str, *, message: str = "", level: str = "info", at: str = "", **detail: Any
) -> Event:
    """An event of the last minute."""
    when = at or "2026-11-25T12:00:00.000Z"
    return Event(
        seq=seq,
        created_at=when,
        level=cast("EventLevel", level),
        type=type_,
        message=message,
        detail=detail or None,
    )


def session(name: str, thread_id: str | None = "t", **more: Any) -> Session:
    """An active session."""
    return Session(
        session_id=f"session-{name}",
        purpose="duplex",
        thread_id=thread_id,
        endpoint="stdio://codex-app-server",
        created_at="2026-11-25T11:00:00.000Z",
        updated_at="2026-11-25T11:00:00.000Z",
        **more,
    )


def thread(*texts: str) -> dict[str, Any]:
    """A thread as the server tells it, a turn for each text."""
    turns = [
        {"items": [{"type": "agentMessage", "text": text}], "status": "completed"} for text in texts
    ]
    return {"id": "t", "preview": "a thread", "turns": turns}


def snapshot(
    at: float = 0.0,
    *,
    messages: tuple[int, int] | None = (0, 0),
    sessions: Sequence[Session] | None = None,
    processes: Sequence[Process] = (),
    turns: int = 0,
    approvals: int = 0,
    **child: Any,
) -> Snapshot:
    """A daemon whose server is ready."""
    usual: dict[str, Any] = {
        "strategy": "spawn",
        "mode": "app-server",
        "endpoint": "stdio://codex-app-server",
        "status": "running",
        "pid": 42,
        "ready": True,
        "started_at": "2026-11-25T10:00:00.000Z",
    }
    state = ChildState(**{**usual, **child})
    hub = Hub(
        ready=state.ready,
        clients=2,
        running_turns=turns,
        waiting_approvals=approvals,
        server_version="0.163.0",
        messages=None if messages is None else Messages(*messages),
    )
    begun = "2026-11-22T12:00:00.000Z"
    status = Status(
        daemon=DaemonState(started=True, started_at=begun, updated_at=begun, pid=40, child=state),
        hub=hub,
        identity=Identity(daemon_id="d", node_id="mini-main", repo_root="/repo", created_at=begun),
        live=Live(daemon_pid=40),
    )
    found = [session("a")] if sessions is None else list(sessions)
    return Snapshot(at, status, found, list(processes))
