"""The routes of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Protocol

import msgspec

from codexd.api.asker import Asker
from codexd.api.http import Access, Answer, Call, Problem
from codexd.api.paging import Limit, page
from codexd.api.table import Nothing, invalid, route
from codexd.contracts import SessionPurpose, SessionRecord, SessionStatus
from codexd.hub.session_book import KEPT_METADATA
from codexd.hub.threads import ThreadView
from codexd.shapes import Session, SessionList

# What is kept in the registry is read as a whole by everybody.
_METADATA_COUNT = 64
_METADATA_CHARS = 4096

Text = Annotated[str, msgspec.Meta(max_length=_METADATA_CHARS)]
Metadata = Annotated[dict[Text, Text], msgspec.Meta(max_length=_METADATA_COUNT)]


class Sessions(Protocol):
    """Who keeps the sessions."""

    def all(self) -> Iterable[SessionRecord]:
        """Every record of the registry."""

    def view(self, thread_id: str) -> ThreadView | None:
        """How its thread is shown."""

    async def register(
        self, purpose: SessionPurpose, metadata: Mapping[str, str], thread_id: str | None
    ) -> SessionRecord:
        """Make a session, or give the thread's own a purpose and metadata.

        Raises:
            OSError: the disk does not take it.
        """

    def close(self, session_id: str) -> SessionRecord | None:
        """Close a session; None where there is no such one."""


class SessionQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which sessions."""

    status: SessionStatus | None = None
    purpose: SessionPurpose | None = None
    thread_id: str | None = None
    limit: Limit = 100
    after: str | None = None


class NewSession(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A session that is to be registered; with a thread, it is the session of that thread."""

    purpose: SessionPurpose
    metadata: Metadata = {}
    thread_id: str | None = None


class _Read(msgspec.Struct):
    thread: dict[str, Any] = {}


class SessionRoutes:
    """``sessions`` keeps them, ``asker`` asks the server whether a thread is there."""

    def __init__(self, sessions: Sessions, asker: Asker) -> None:
        self._sessions = sessions
        self._asker = asker

    @route("GET", "/v1/sessions", Access.READ, query=SessionQuery, answer=SessionList)
    async def list(self, call: Call[SessionQuery, None]) -> SessionList:
        """List the sessions, the newest first."""
        query = call.query
        wanted = [
            record
            for record in self._sessions.all()
            if query.status in (None, record.status)
            and query.purpose in (None, record.purpose)
            and query.thread_id in (None, record.thread_id)
        ]
        wanted.sort(key=lambda record: (record.created_at, record.session_id), reverse=True)
        shown, next_ = page(wanted, lambda record: record.session_id, query.limit, query.after)
        return SessionList([self._shown(record) for record in shown], next_)

    @route(
        "POST",
        "/v1/sessions",
        Access.ADMIN,
        body=NewSession,
        answer=Session,
        status=HTTPStatus.CREATED,
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def register(self, call: Call[Nothing, NewSession]) -> Answer:
        """Register a session; with a thread, take that up."""
        new = call.body
        check_metadata(new.metadata)
        if new.thread_id is not None:
            await self._asker.ask("thread/read", {"threadId": new.thread_id}, _Read)
        record = await registered(self._sessions, new.purpose, new.metadata, new.thread_id)
        location = {"Location": f"/v1/sessions/{record.session_id}"}
        return Answer(self._shown(record), HTTPStatus.CREATED, location)

    @route(
        "GET",
        "/v1/sessions/{sessionId}",
        Access.READ,
        answer=Session,
        problems=(HTTPStatus.NOT_FOUND,),
    )
    async def show(self, call: Call[Nothing, None]) -> Session:
        """Show one session."""
        session_id = call.params["sessionId"]
        for record in self._sessions.all():
            if record.session_id == session_id:
                return self._shown(record)
        raise _unknown(session_id)

    @route(
        "DELETE",
        "/v1/sessions/{sessionId}",
        Access.ADMIN,
        answer=Session,
        problems=(HTTPStatus.NOT_FOUND,),
    )
    async def close(self, call: Call[Nothing, None]) -> Session:
        """Close a session. Its thread stays, and whoever uses that again opens another."""
        session_id = call.params["sessionId"]
        record = self._sessions.close(session_id)
        if record is None:
            raise _unknown(session_id)
        return self._shown(record)

    def _shown(self, record: SessionRecord) -> Session:
        view = None if record.thread_id is None else self._sessions.view(record.thread_id)
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        if view is None:
            return Session(**fields)
        return Session(
            **fields, title=view.title, cwd=view.cwd, clients=list(view.clients), turn=view.turn
        )


async def registered(
    sessions: Sessions, purpose: SessionPurpose, metadata: Mapping[str, str], thread_id: str | None
) -> SessionRecord:
    """The session, written down.

    Raises:
        Problem: the disk does not take it.
    """
    try:
        return await sessions.register(purpose, metadata, thread_id)
    except OSError as error:
        text = f"The session is there, but cannot be written down yet: {error}. Make room."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-written", text) from error


def check_metadata(metadata: Mapping[str, str]) -> None:
    """See that it holds nothing that codexd itself keeps there.

    Raises:
        Problem: it does.
    """
    for key in metadata:
        if key in KEPT_METADATA:
            raise invalid(f"`metadata.{key}` is kept by codexd itself.", f"metadata.{key}")


def _unknown(session_id: str) -> Problem:
    text = f"There is no session {session_id}. GET /v1/sessions lists them."
    return Problem(HTTPStatus.NOT_FOUND, "session-not-found", text)
