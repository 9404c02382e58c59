"""The routes of turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from codexd.api.asker import Asker
from codexd.api.http import (
    EVENT_STREAM,
    JSON,
    NDJSON,
    Access,
    Answer,
    Call,
    Problem,
    Stream,
    event_frame,
)
from codexd.api.local_client import Refused, problem_of
from codexd.api.table import Nothing, route
from codexd.api.threads import check_directory
from codexd.api.turn_book import RUNNING_LIMIT, TurnBook
from codexd.api.turn_run import TurnRun, final_response
from codexd.encoding import encode_json
from codexd.shapes import FINISHED, RUNS, FinishedTurn, Input, StartedTurn, Turn

_DAY_S = 86_400
# What codex 0.163 says to whoever would interrupt a turn that it has said it has begun, and not
# begun yet: up to 0.3 s on a busy machine (measured).
_NOT_ACTIVE = "no active turn to interrupt"
_PAUSE_S = 0.05
_PATIENCE_S = 2.0

_TURN_PROBLEMS = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)


class TurnQuery(msgspec.Struct, forbid_unknown_fields=True):
    """``wait`` is how many seconds the answer may wait for the end of the turn."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=_DAY_S)] | None = None


class NewTurn(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """``input`` is a text, or the protocol's list; the rest overrides what the thread has."""

    input: Input
    cwd: str | None = None
    model: str | None = None
    effort: str | None = None
    summary: str | None = None
    approval_policy: str | dict[str, Any] | None = None
    sandbox_policy: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None


class Steering(msgspec.Struct, forbid_unknown_fields=True):
    """What the agent is told while it works: a text, or the protocol's list."""

    input: Input


class Done(msgspec.Struct, rename="camel"):
    """The turn that it was done to."""

    turn_id: str


class _Item(msgspec.Struct, rename="camel"):
    id: str
    status: str = RUNS
    items: list[dict[str, Any]] = []
    error: dict[str, Any] | None = None
    duration_ms: int | None = None


class _WithTurns(msgspec.Struct):
    turns: list[_Item] = []


class _Read(msgspec.Struct):
    thread: _WithTurns


class TurnRoutes:
    """``book`` has the turns that were asked for here, ``asker`` asks the server.

    ``turn_status(thread, turn)`` is how a turn stands by what the server has told, if it has.
    """

    def __init__(
        self,
        book: TurnBook,
        asker: Asker,
        turn_status: Callable[[str, str], str | None],
    ) -> None:
        self._book = book
        self._asker = asker
        self._turn_status = turn_status

    @route(
        "POST",
        "/v1/threads/{threadId}/turns",
        Access.ADMIN,
        query=TurnQuery,
        body=NewTurn,
        answer=FinishedTurn,
        status=HTTPStatus.OK,
        also={HTTPStatus.ACCEPTED: StartedTurn},
        problems=_TURN_PROBLEMS,
        streams=(EVENT_STREAM, NDJSON),
    )
    async def start(self, call: Call[TurnQuery, NewTurn]) -> Answer | Stream:
        """Start a turn; with `wait` or as a stream, answer with how it ended."""
        check_directory(call.body.cwd)
        if self._book.is_full:
            text = f"{RUNNING_LIMIT} turns run over HTTP already: wait for one of them to end."
            problem = HTTPStatus.SERVICE_UNAVAILABLE
            raise Problem(problem, "full", text, headers={"Retry-After": "5"})
        thread_id = call.params["threadId"]
        media_type = call.head.wants(JSON, EVENT_STREAM, NDJSON)
        run = self._book.make(thread_id)
        reader = None if media_type == JSON else run.listen()
        try:
            turn = await self._book.start(run, _params(call.body))
        except Refused as refused:
            raise problem_of(refused) from refused
        location = {"Location": f"/v1/threads/{thread_id}/turns/{turn.turn_id}"}
        if reader is not None:
            frames = run.follow(reader)
            return Stream(_stream(run, frames, media_type), media_type, headers=location)
        if call.query.wait is not None:
            await run.wait(call.query.wait)
            if turn.status != RUNS:
                return Answer(turn, HTTPStatus.OK, location)
        return Answer(StartedTurn(turn.turn_id), HTTPStatus.ACCEPTED, location)

    @route(
        "GET",
        "/v1/threads/{threadId}/turns/{turnId}",
        Access.READ,
        answer=Turn,
        problems=_TURN_PROBLEMS,
    )
    async def show(self, call: Call[Nothing, None]) -> Turn:
        """Show a turn."""
        thread_id, turn_id = call.params["threadId"], call.params["turnId"]
        known = self._book.find(thread_id, turn_id)
        read = await self._asker.read_thread(thread_id, _Read)
        found = next((turn for turn in read.thread.turns if turn.id == turn_id), None)
        if known is not None:
            fields = {name: getattr(known, name) for name in known.__struct_fields__}
            return Turn(**fields, items=[] if found is None else found.items)
        if found is None:
            text = f"The thread has no turn {turn_id}. GET /v1/threads/{thread_id} lists them."
            raise Problem(HTTPStatus.NOT_FOUND, "turn-not-found", text)
        return Turn(
            turn_id=found.id,
            # A turn that has just ended may read as interrupted: its end is not written down yet.
            status=self._turn_status(thread_id, turn_id) or found.status,
            final_response=final_response(found.items),
            duration_ms=found.duration_ms,
            error=found.error,
            items=found.items,
        )

    @route(
        "POST",
        "/v1/threads/{threadId}/turns/{turnId}/interrupt",
        Access.ADMIN,
        answer=Done,
        problems=_TURN_PROBLEMS,
    )
    async def interrupt(self, call: Call[Nothing, None]) -> Done:
        """Interrupt a turn that runs."""
        thread_id, turn_id = call.params["threadId"], call.params["turnId"]
        until = time.monotonic() + _PATIENCE_S
        while not await self._interrupts(thread_id, turn_id, is_last=time.monotonic() >= until):
            await asyncio.sleep(_PAUSE_S)
        return Done(turn_id)

    async def _interrupts(self, thread_id: str, turn_id: str, *, is_last: bool) -> bool:
        """False where the server does not know yet that the turn runs, and may be asked again."""
        try:
            params = {"threadId": thread_id, "turnId": turn_id}
            await self._asker.ask("turn/interrupt", params, dict[str, Any])
        except Problem as problem:
            if is_last or _NOT_ACTIVE not in problem.detail or not self._runs(thread_id, turn_id):
                raise
            return False
        return True

    def _runs(self, thread_id: str, turn_id: str) -> bool:
        known = self._book.find(thread_id, turn_id)
        is_awaited = known is not None and known.status == RUNS
        return is_awaited or self._turn_status(thread_id, turn_id) == RUNS

    @route(
        "POST",
        "/v1/threads/{threadId}/turns/{turnId}/steer",
        Access.ADMIN,
        body=Steering,
        answer=Done,
        problems=_TURN_PROBLEMS,
    )
    async def steer(self, call: Call[Nothing, Steering]) -> Done:
        """Tell the agent something while it works."""
        turn_id = call.params["turnId"]
        params = {
            "threadId": call.params["threadId"],
            "expectedTurnId": turn_id,
            "input": _input(call.body.input),
        }
        await self._asker.ask("turn/steer", params, dict[str, Any])
        return Done(turn_id)


def _input(given: Input) -> list[dict[str, Any]]:
    return [{"type": "text", "text": given}] if isinstance(given, str) else given


def _params(new: NewTurn) -> dict[str, Any]:
    given = {
        "cwd": new.cwd,
        "model": new.model,
        "effort": new.effort,
        "summary": new.summary,
        "approvalPolicy": new.approval_policy,
        "sandboxPolicy": new.sandbox_policy,
        "outputSchema": new.output_schema,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    return {"input": _input(new.input), **asked}


async def _stream(
    run: TurnRun,
    frames: AsyncGenerator[tuple[str, bytes] | None, None],
    media_type: str,
) -> AsyncGenerator[bytes, None]:
    """The turn's notifications, each as the server sent it, and then how the turn ended."""
    is_sse = media_type == EVENT_STREAM
    async for frame in frames:
        if frame is not None:
            method, data = frame
            yield event_frame(data, event=method) if is_sse else data + b"\n"
        elif is_sse:
            yield b": the turn goes on\n\n"
    finished = encode_json(run.turn)
    yield event_frame(finished, event=FINISHED) if is_sse else finished + b"\n"
