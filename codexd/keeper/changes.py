"""Starting, stopping and restarting the server for whoever asks over the API.

It is circusd that does it, as for `codexd restart`; here it is waited for, and what came of it is
remembered for as long as this plugin lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import msgspec

from codexd.api.changes import ChangeOrder
from codexd.api.http import Problem
from codexd.child.outcome import Outcome
from codexd.clock import now_iso
from codexd.keeper.circusd import WATCHER, CircusError, Orders
from codexd.shapes import Change, ChangeKind

logger = logging.getLogger("codexd")

_CALL_S: Final = 5.0
# How often it is asked whether turns run, and looked whether the server is up.
_IDLE_POLL_S: Final = 0.25
_LOOK_S: Final = 0.05
# What circus needs beyond the child's own time to end.
_MARGIN_S: Final = 20.0
# How long the record may lag behind what circusd has answered: on a full disk it is told of late.
_LAG_S: Final = 5.0
_REMEMBERED: Final = 64

_COMMANDS: Final[dict[ChangeKind, str]] = {
    "start": "codexd-child-start",
    "stop": "codexd-child-stop",
    "restart": "codexd-restart",
}


class _Failed(Exception):
    """The text is one line for whoever asked."""


class _Doing(msgspec.Struct):
    """The change that is under way. ``waits``: nothing was done yet, for turns run."""

    change: Change
    timeout_s: float | None
    deadline: float | None
    waits: bool = True
    is_ordered: bool = False
    replaced_by: str | None = None
    heard: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    over: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def grace_s(self) -> float | None:
        """Seconds that turns may take to end; None for the daemon's own stop timeout."""
        if self.change.when == "now":
            return 0.0
        return self.timeout_s if self.change.when == "drained" else None


class ChildChanges:
    """One change at a time.

    ``judge(seconds)`` tells what became of a start so long ago, ``child_pid()`` which server is on
    record, ``reconcile()`` brings the record up to what circusd did, and ``spawn()`` runs what goes
    on for as long as the plugin does.
    """

    def __init__(
        self,
        circus: Orders,
        judge: Callable[[float], Outcome | None],
        child_pid: Callable[[], int | None],
        reconcile: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        *,
        is_external: bool,
    ) -> None:
        self._circus = circus
        self._judge = judge
        self._child_pid = child_pid
        self._reconcile = reconcile
        self._spawn = spawn
        self._is_external = is_external
        self._changes: dict[str, Change] = {}
        self._doing: _Doing | None = None

    # -- for the API ---------------------------------------------------------------------------

    def begin(self, kind: ChangeKind, order: ChangeOrder) -> Change:
        """Begin a change.

        The same once more is the one that is under way; then the last word on when counts. One
        that only waits for turns makes room for another kind.

        Raises:
            Problem: another kind is under way, or the server is external.
        """
        if self._is_external:
            text = f"The server is external: {kind} it where it was started."
            raise Problem(HTTPStatus.CONFLICT, "external-server", text)
        doing = self._doing
        if doing is not None and doing.change.kind == kind:
            self._hear(doing, order)
            return doing.change
        if doing is not None and not doing.waits:
            text = (
                f"A {doing.change.kind} is under way: wait for it, or send it again with "
                '`"when": "now"` to end it sooner.'
            )
            more = {"changeId": doing.change.id}
            raise Problem(HTTPStatus.CONFLICT, "change-under-way", text, more=more)
        change = Change(id=str(uuid.uuid4()), kind=kind, since=now_iso(), when=order.when)
        if doing is not None:
            doing.replaced_by = change.id
            doing.heard.set()
            self._end(doing, f"Change {change.id} ({kind}) took its place while turns ran.")
        self._remember(change)
        self._doing = _Doing(change, *_limits(order))
        self._spawn(self._do(self._doing))
        return change

    async def wait(self, change: Change, seconds: float) -> None:
        """Wait until it is over, but no longer."""
        doing = self._doing
        if doing is not None and doing.change is change:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await doing.over.wait()

    def found(self, change_id: str) -> Change | None:
        """The one of this id."""
        return self._changes.get(change_id)

    def newest_first(self) -> list[Change]:
        """All that are remembered."""
        return list(reversed(self._changes.values()))

    # -- doing it ------------------------------------------------------------------------------

    def _hear(self, doing: _Doing, order: ChangeOrder) -> None:
        """The last word on when."""
        if doing.waits or (doing.is_ordered and order.when != "idle"):
            doing.change.when = order.when
            doing.timeout_s, doing.deadline = _limits(order)
        if doing.waits:
            doing.heard.set()
        elif doing.is_ordered and order.when != "idle" and doing.change.kind != "start":
            self._spawn(self._say_again(doing.change.kind, doing.grace_s))

    async def _say_again(self, kind: ChangeKind, grace_s: float | None) -> None:
        """circusd takes the last word on how long turns may take."""
        options = {} if grace_s is None else {"graceful_timeout": grace_s}
        try:
            await self._circus.order(_COMMANDS[kind], timeout_s=_CALL_S, name=WATCHER, **options)
        except CircusError as error:
            logger.warning("%s", error)

    async def _do(self, doing: _Doing) -> None:
        error: str | None = None
        try:
            if doing.change.kind != "start":
                await self._until_idle(doing)
            before = self._child_pid()
            answer = await self._order(doing)
            self._reconcile()
            await self._catch_up(doing.change.kind, before, answer.get("started") or [])
            await self._see(doing.change.kind)
        except (_Failed, CircusError) as failure:
            error = str(failure)
        except Exception:
            logger.exception("a change to the server failed")
            error = "codexd failed on this change; codexd.log says more."
        self._end(doing, error)

    def _end(self, doing: _Doing, error: str | None) -> None:
        if doing.over.is_set():
            return
        doing.change.status = "done" if error is None else "failed"
        doing.change.error = error
        doing.over.set()
        if self._doing is doing:
            self._doing = None

    async def _until_idle(self, doing: _Doing) -> None:
        """Wait until no turn runs. While nobody can tell, it is waited as well."""
        while doing.change.when == "idle":
            doing.heard.clear()
            turns = await self._turns()
            if doing.replaced_by is not None or turns == 0 or doing.change.when != "idle":
                return
            if doing.deadline is not None and _now() >= doing.deadline:
                why = "Turns still run" if turns else "Nobody can tell whether turns run"
                raise _Failed(f'{why} after `timeoutMs`; `"when": "now"` does not wait.')
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_POLL_S):
                    await doing.heard.wait()

    async def _turns(self) -> int | None:
        try:
            answer = await self._circus.call("codexd-turns", timeout_s=_CALL_S)
        except CircusError:
            return None
        turns: int | None = answer.get("turns")
        return turns

    async def _order(self, doing: _Doing) -> dict[str, Any]:
        kind = doing.change.kind
        asked = await self._circus.call("codexd-turns", timeout_s=_CALL_S)
        if doing.replaced_by is not None:
            raise _Failed("It was replaced.")
        doing.waits, doing.is_ordered = False, True
        grace_s = None if kind == "start" else doing.grace_s
        options = {} if grace_s is None else {"graceful_timeout": grace_s}
        limit_s = asked.get("graceful_timeout", 0.0) if grace_s is None else grace_s
        try:
            answer = await self._circus.order(
                _COMMANDS[kind],
                timeout_s=limit_s + _MARGIN_S,
                name=WATCHER,
                waiting=True,
                **options,
            )
        finally:
            doing.is_ordered = False
        if answer.get("failed"):
            raise _Failed(f"circusd could not {kind} the server: {answer['failed']}.")
        return answer

    async def _catch_up(self, kind: ChangeKind, before: int | None, started: list[int]) -> None:
        """Wait until what circusd did is on record; ``started`` are the servers that it started."""
        if kind == "stop":
            late: tuple[int | None, ...] = () if before is None else (before,)
        else:
            late = (before, None) if started and before not in started else ()
        begun = _now()
        while self._child_pid() in late and _now() - begun < _LAG_S:
            await asyncio.sleep(_LOOK_S)

    async def _see(self, kind: ChangeKind) -> None:
        """What became of it."""
        begun = _now()
        if kind == "stop":
            if self._child_pid() is not None:
                raise _Failed("The server still runs.")
            return
        while (outcome := self._judge(_now() - begun)) is None:
            await asyncio.sleep(_LOOK_S)
        if outcome.kind == "failed":
            raise _Failed(f"The server is not ready: {outcome.reason}")

    def _remember(self, change: Change) -> None:
        self._changes[change.id] = change
        while len(self._changes) > _REMEMBERED:
            del self._changes[next(iter(self._changes))]


def _limits(order: ChangeOrder) -> tuple[float | None, float | None]:
    """The time that was given, and when it is over."""
    if order.timeout_ms is None:
        return None, None
    return order.timeout_ms / 1000, _now() + order.timeout_ms / 1000


def _now() -> float:
    return asyncio.get_running_loop().time()
