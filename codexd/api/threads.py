"""The routes of threads, as far as they are no turns."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from codexd.api.asker import Asker
from codexd.api.http import Access, Answer, Call
from codexd.api.local_client import Refused, problem_of
from codexd.api.openings import Openings
from codexd.api.paging import Limit
from codexd.api.sessions import Metadata, Sessions, check_metadata, registered
from codexd.api.table import Nothing, invalid, route
from codexd.contracts import SessionPurpose
from codexd.shapes import StartedThread, ThreadList


class ThreadQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which threads; ``after`` is the `next` of the answer before."""

    limit: Limit = 50
    after: str | None = None
    cwd: str | None = None
    archived: bool = False


class NewThread(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A thread that is to be started; what is not given is as the server has it configured."""

    cwd: str | None = None
    model: str | None = None
    approval_policy: str | dict[str, Any] | None = None
    sandbox: str | None = None
    config: dict[str, Any] | None = None
    purpose: SessionPurpose = "duplex"
    metadata: Metadata = {}


class _Page(msgspec.Struct, rename="camel"):
    data: list[dict[str, Any]] = []
    next_cursor: str | None = None


class _Thread(msgspec.Struct):
    thread: dict[str, Any]


_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE


class ThreadRoutes:
    """``openings`` starts threads, ``asker`` asks the server, ``sessions`` keeps the sessions.

    ``turn_status(thread, turn)`` is how a turn stands by what the server has told, if it has.
    """

    def __init__(
        self,
        openings: Openings,
        asker: Asker,
        sessions: Sessions,
        turn_status: Callable[[str, str], str | None],
    ) -> None:
        self._openings = openings
        self._asker = asker
        self._sessions = sessions
        self._turn_status = turn_status

    @route(
        "GET",
        "/v1/threads",
        Access.READ,
        query=ThreadQuery,
        answer=ThreadList,
        problems=(_UNAVAILABLE,),
    )
    async def list(self, call: Call[ThreadQuery, None]) -> ThreadList:
        """List the server's threads, the newest first."""
        query = call.query
        params: dict[str, Any] = {"limit": query.limit, "archived": query.archived}
        if query.after is not None:
            params["cursor"] = query.after
        if query.cwd is not None:
            check_directory(query.cwd)
            params["cwd"] = query.cwd
        page = await self._asker.ask("thread/list", params, _Page)
        return ThreadList(page.data, page.next_cursor)

    @route(
        "POST",
        "/v1/threads",
        Access.ADMIN,
        body=NewThread,
        answer=StartedThread,
        status=HTTPStatus.CREATED,
        problems=(_UNAVAILABLE,),
    )
    async def start(self, call: Call[Nothing, NewThread]) -> Answer:
        """Start a thread."""
        new = call.body
        check_metadata(new.metadata)
        check_directory(new.cwd)
        given = {
            "cwd": new.cwd,
            "model": new.model,
            "approvalPolicy": new.approval_policy,
            "sandbox": new.sandbox,
            "config": new.config,
        }
        params = {name: value for name, value in given.items() if value is not None}
        try:
            thread_id = await self._openings.start(params)
        except Refused as refused:
            raise problem_of(refused) from refused
        session = await registered(self._sessions, new.purpose, new.metadata, thread_id)
        started = StartedThread(thread_id, session.session_id)
        return Answer(started, HTTPStatus.CREATED, {"Location": f"/v1/threads/{thread_id}"})

    @route(
        "GET",
        "/v1/threads/{threadId}",
        Access.READ,
        answer=dict[str, Any],
        problems=(HTTPStatus.NOT_FOUND, _UNAVAILABLE),
    )
    async def show(self, call: Call[Nothing, None]) -> dict[str, Any]:
        """Show a thread with its turns, as the server has it."""
        thread_id = call.params["threadId"]
        thread = (await self._asker.read_thread(thread_id, _Thread)).thread
        # A turn that has just ended may read as interrupted: its end is not written down yet.
        turns = thread.get("turns")
        for turn in turns if isinstance(turns, list) else ():
            told = self._turn_status(thread_id, str(turn.get("id")))
            if told is not None:
                turn["status"] = told
        return thread


def check_directory(cwd: str | None) -> None:
    """See that it means the same directory to whoever asks and to the server.

    Raises:
        Problem: it does not.
    """
    if cwd is not None and (not cwd.startswith("/") or "\0" in cwd):
        raise invalid("`cwd` must be an absolute path.", "cwd")
