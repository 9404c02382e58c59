"""The routes that start, stop and restart the server, and those of what became of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, Protocol

import msgspec

from codexd.api.http import Access, Answer, Call, Problem
from codexd.api.table import Nothing, route
from codexd.shapes import Change, ChangeKind, When

_MAX_WAIT_S: Final = 3600
_MAX_TIMEOUT_MS: Final = 7 * 24 * 3600 * 1000
_USUAL_LIMIT: Final = 100


class ChangeOrder(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """How running turns are treated.

    ``now`` cuts them; ``drained`` holds new ones back and lets these end, within ``timeoutMs`` or
    the daemon's stop timeout; ``idle`` first waits until none runs, up to ``timeoutMs`` or without
    end.
    """

    when: When = "drained"
    timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=_MAX_TIMEOUT_MS)] | None = None


class ChangeList(msgspec.Struct, frozen=True):
    """The newest first; ``next`` is the `after` of what follows, null at the end."""

    changes: list[Change]
    next: str | None


class WaitQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For how many seconds to wait until the change is over."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=_MAX_WAIT_S)] = 0.0


class ListQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which part of a list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = _USUAL_LIMIT
    after: str | None = None


class Changes(Protocol):
    """Who makes changes, and remembers them for a while."""

    def begin(self, kind: ChangeKind, order: ChangeOrder) -> Change:
        """Begin one, or add to the one that is under way.

        Raises:
            Problem: another is under way, or the server is not ours to change.
        """

    async def wait(self, change: Change, seconds: float) -> None:
        """Wait until it is over, but no longer."""

    def found(self, change_id: str) -> Change | None:
        """The one of this id."""

    def newest_first(self) -> list[Change]:
        """All that are remembered."""


# Of the three routes that make a change.
_MAKES: Final[dict[str, Any]] = {
    "query": WaitQuery,
    "body": ChangeOrder,
    "answer": Change,
    "status": HTTPStatus.ACCEPTED,
    "also": {HTTPStatus.OK: Change},
    "problems": (HTTPStatus.CONFLICT,),
}


class ChangeRoutes:
    """``changes`` makes them."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    @route("POST", "/v1/child/start", Access.ADMIN, **_MAKES)
    async def start(self, call: Call[WaitQuery, ChangeOrder]) -> Answer:
        """Start the server, where it does not run."""
        return await self._make("start", call)

    @route("POST", "/v1/child/stop", Access.ADMIN, **_MAKES)
    async def stop(self, call: Call[WaitQuery, ChangeOrder]) -> Answer:
        """Stop the server; the daemon and its clients stay."""
        return await self._make("stop", call)

    @route("POST", "/v1/child/restart", Access.ADMIN, **_MAKES)
    async def restart(self, call: Call[WaitQuery, ChangeOrder]) -> Answer:
        """Start the server anew; its threads and clients stay."""
        return await self._make("restart", call)

    @route("GET", "/v1/changes", Access.READ, query=ListQuery, answer=ChangeList)
    async def list_changes(self, call: Call[ListQuery, None]) -> ChangeList:
        """List the changes that this plugin made, the newest first."""
        changes = self._changes.newest_first()
        after = call.query.after
        if after is not None:
            ids = [change.id for change in changes]
            changes = changes[ids.index(after) + 1 :] if after in ids else []
        some = changes[: call.query.limit]
        return ChangeList(some, some[-1].id if len(some) < len(changes) else None)

    @route(
        "GET",
        "/v1/changes/{changeId}",
        Access.READ,
        answer=Change,
        problems=(HTTPStatus.NOT_FOUND,),
    )
    async def change(self, call: Call[Nothing, None]) -> Change:
        """Tell what became of a change."""
        change = self._changes.found(call.params["changeId"])
        if change is None:
            text = (
                "There is no such change. The plugin forgets old ones, and all when it is started "
                "anew: GET /v1/status tells how the server is."
            )
            raise Problem(HTTPStatus.NOT_FOUND, "no-such-change", text)
        return change

    async def _make(self, kind: ChangeKind, call: Call[WaitQuery, ChangeOrder]) -> Answer:
        change = self._changes.begin(kind, call.body)
        if call.query.wait:
            await self._changes.wait(change, call.query.wait)
        is_over = bool(call.query.wait) and change.status != "doing"
        status = HTTPStatus.OK if is_over else HTTPStatus.ACCEPTED
        return Answer(change, status, {"Location": f"/v1/changes/{change.id}"})
