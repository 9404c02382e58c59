"""What can be asked of a daemon: each call with its path, its body and the type of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from codexd.client.wire import target
from codexd.contracts import SessionPurpose, SessionStatus
from codexd.shapes import (
    ApprovalList,
    Change,
    ChangeKind,
    Decision,
    Input,
    PageCode,
    Session,
    SessionList,
    StartedThread,
    ThreadList,
    Turn,
    When,
)

_Answer = TypeVar("_Answer")

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[_Answer]):
    """One request; ``answer`` is the type of what comes back."""

    method: str
    path: str
    answer: type[_Answer]
    body: Any = None


def status() -> ApiCall[JsonObject]:
    """All that `codexd status --json` prints."""
    return ApiCall("GET", "/v1/status", JsonObject)


def sessions(
    status: SessionStatus | None,
    purpose: SessionPurpose | None,
    thread: str | None,
    after: str | None,
) -> ApiCall[SessionList]:
    """One page of sessions."""
    query = {"status": status, "purpose": purpose, "threadId": thread, "after": after}
    return ApiCall("GET", target("/v1/sessions", **query), SessionList)


def session(session_id: str) -> ApiCall[Session]:
    """One session."""
    return ApiCall("GET", target("/v1/sessions/{}", session_id), Session)


def open_session(
    purpose: SessionPurpose, metadata: Mapping[str, str] | None, thread: str | None
) -> ApiCall[Session]:
    """Register a session."""
    body = given(purpose=purpose, metadata=metadata and dict(metadata), threadId=thread)
    return ApiCall("POST", "/v1/sessions", Session, body)


def close_session(session_id: str) -> ApiCall[Session]:
    """Close one."""
    return ApiCall("DELETE", target("/v1/sessions/{}", session_id), Session)


def threads(limit: int, after: str | None, cwd: str | None, archived: bool) -> ApiCall[ThreadList]:
    """One page of threads."""
    query = {"limit": limit, "after": after, "cwd": cwd, "archived": archived or None}
    return ApiCall("GET", target("/v1/threads", **query), ThreadList)


def thread(thread_id: str) -> ApiCall[JsonObject]:
    """A thread with its turns."""
    return ApiCall("GET", target("/v1/threads/{}", thread_id), JsonObject)


def start_thread(body: JsonObject) -> ApiCall[StartedThread]:
    """Start a thread."""
    return ApiCall("POST", "/v1/threads", StartedThread, body)


def turn(thread_id: str, turn_id: str) -> ApiCall[Turn]:
    """One turn."""
    return ApiCall("GET", target("/v1/threads/{}/turns/{}", thread_id, turn_id), Turn)


def interrupt(thread_id: str, turn_id: str) -> ApiCall[JsonObject]:
    """Interrupt a turn."""
    path = target("/v1/threads/{}/turns/{}/interrupt", thread_id, turn_id)
    return ApiCall("POST", path, JsonObject)


def steer(thread_id: str, turn_id: str, input_: Input) -> ApiCall[JsonObject]:
    """Tell the agent something while it works."""
    path = target("/v1/threads/{}/turns/{}/steer", thread_id, turn_id)
    return ApiCall("POST", path, JsonObject, {"input": input_})


def approvals(thread: str | None, after: str | None) -> ApiCall[ApprovalList]:
    """One page of approvals that wait."""
    return ApiCall("GET", target("/v1/approvals", threadId=thread, after=after), ApprovalList)


def decide(approval_id: str, decision: Decision) -> ApiCall[JsonObject]:
    """Answer an approval."""
    path = target("/v1/approvals/{}", approval_id)
    return ApiCall("POST", path, JsonObject, {"decision": decision})


def change(kind: ChangeKind, when: When, timeout_ms: int | None, wait_s: float) -> ApiCall[Change]:
    """Start, stop or restart the server."""
    path = target("/v1/child/{}", kind, wait=wait_s)
    return ApiCall("POST", path, Change, given(when=when, timeoutMs=timeout_ms))


def page_code() -> ApiCall[PageCode]:
    """Make a code for the page."""
    return ApiCall("POST", "/v1/page/codes", PageCode)


def events(
    since: int | None,
    types: Sequence[str],
    level: str | None,
    limit: int | None,
    follow: bool,
) -> str:
    """The target of the events."""
    return target(
        "/v1/events",
        since=since,
        type=list(types),
        level=level,
        limit=limit,
        follow=follow,
    )


def turns(thread_id: str) -> str:
    """The target of a thread's turns."""
    return target("/v1/threads/{}/turns", thread_id)


def given(**values: Any) -> JsonObject:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}
