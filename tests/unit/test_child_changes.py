"""Changes to the server over the API: one at a time, and what becomes of each is told truly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from codexd.api.changes import ChangeOrder, ChangeRoutes
from codexd.api.http import Access, Answer, Head, Problem
from codexd.api.table import Table
from codexd.child.outcome import Outcome
from codexd.keeper import changes as module
from codexd.keeper.changes import ChildChanges
from codexd.keeper.circusd import WATCHER, CircusError
from codexd.shapes import Change, ChangeKind, When


class World:
    """A circusd and a record of the server, both as told."""

    def __init__(self, *, is_external: bool = False) -> None:
        self.turns: int | None = 0
        self.pid: int | None = 100
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.answer: dict[str, Any] = {}
        self.error: str | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.outcome: Outcome | None = Outcome("up")
        self.tasks: list[asyncio.Task[None]] = []
        self.changes = ChildChanges(
            self,
            lambda _: self.outcome,
            lambda: self.pid,
            lambda: None,
            self.spawn,
            is_external=is_external,
        )

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(coroutine))

    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        assert (command, properties) == ("codexd-turns", {})
        assert timeout_s <= 5
        await asyncio.sleep(0)
        return {"turns": self.turns, "graceful_timeout": 30.0}

    async def order(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        assert properties.pop("name") == WATCHER
        if properties.pop("waiting", False):
            assert timeout_s > properties.get("graceful_timeout", 30.0)
            self.told.append((command, properties))
            await self.may_answer.wait()
            if self.error is not None:
                raise CircusError(self.error)
            if command == "codexd-child-stop":
                self.pid = None
            elif "failed" not in self.answer:
                self.pid = (self.pid or 100) + 1
                return {"started": [self.pid], **self.answer}
        else:
            self.told.append((f"again {command}", properties))
        return self.answer

    def begin(
        self, kind: ChangeKind, when: When = "drained", timeout_ms: int | None = None
    ) -> Change:
        return self.changes.begin(kind, ChangeOrder(when=when, timeout_ms=timeout_ms))

    async def settled(self) -> None:
        """Give everything its turn."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def end(self, change: Change) -> str | None:
        """Wait until it is over; its error."""
        await self.changes.wait(change, 10)
        assert change.status == ("done" if change.error is None else "failed")
        return change.error


def play(act: Callable[[World], Awaitable[None]], *, is_external: bool = False) -> None:
    async def main() -> None:
        world = World(is_external=is_external)
        async with asyncio.timeout(20):
            await act(world)
            for task in world.tasks:
                task.cancel()
            await asyncio.gather(*world.tasks, return_exceptions=True)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_POLL_S", 0.01)
    monkeypatch.setattr(module, "_LOOK_S", 0.005)
    monkeypatch.setattr(module, "_LAG_S", 0.05)


@pytest.mark.parametrize(
    ("kind", "when", "timeout_ms", "command", "grace"),
    [
        ("restart", "drained", None, "codexd-restart", {}),
        ("restart", "drained", 1500, "codexd-restart", {"graceful_timeout": 1.5}),
        ("restart", "now", None, "codexd-restart", {"graceful_timeout": 0.0}),
        ("restart", "idle", 1500, "codexd-restart", {}),
        ("stop", "now", 1500, "codexd-child-stop", {"graceful_timeout": 0.0}),
        ("stop", "drained", None, "codexd-child-stop", {}),
        ("start", "drained", 1500, "codexd-child-start", {}),
    ],
)
def test_what_is_ordered(
    kind: ChangeKind, when: When, timeout_ms: int | None, command: str, grace: dict[str, Any]
) -> None:
    async def act(world: World) -> None:
        change = world.begin(kind, when, timeout_ms)
        assert (change.kind, change.status, change.error) == (kind, "doing", None)
        assert await world.end(change) is None
        assert world.told == [(command, grace)]

    play(act)


@pytest.mark.parametrize("turns", [2, None])
def test_idle_waits_for_turns_and_for_word_of_them(turns: int | None) -> None:
    async def act(world: World) -> None:
        world.turns = turns
        change = world.begin("restart", "idle")
        await asyncio.sleep(0.05)
        assert (change.status, world.told) == ("doing", [])
        world.turns = 0
        assert await world.end(change) is None
        assert len(world.told) == 1

    play(act)


@pytest.mark.parametrize(("turns", "why"), [(2, "still run"), (None, "Nobody can tell")])
def test_idle_gives_up_in_time(turns: int | None, why: str) -> None:
    async def act(world: World) -> None:
        world.turns = turns
        error = await world.end(world.begin("restart", "idle", 30))
        assert error is not None
        assert why in error
        assert world.told == []
        # And the next one is none of its business.
        assert await world.end(world.begin("stop", "now")) is None

    play(act)


def test_the_same_once_more_is_the_same_and_the_last_word_counts() -> None:
    async def act(world: World) -> None:
        world.turns = 1
        change = world.begin("restart", "idle")
        await world.settled()
        assert world.begin("restart", "drained", 2000) is change
        assert change.when == "drained"
        world.may_answer.clear()
        await world.settled()
        assert world.told == [("codexd-restart", {"graceful_timeout": 2.0})]
        # circusd has it, and is told that it shall not wait.
        assert world.begin("restart", "idle") is change
        assert change.when == "drained"
        assert world.begin("restart", "now") is change
        await world.settled()
        assert world.told[1:] == [("again codexd-restart", {"graceful_timeout": 0.0})]
        world.may_answer.set()
        assert await world.end(change) is None
        assert world.begin("restart", "now") is not change

    play(act)


def test_another_kind_waits_for_what_is_under_way_but_not_for_what_waits() -> None:
    async def act(world: World) -> None:
        world.turns = 1
        waiting = world.begin("restart", "idle")
        await world.settled()
        stop = world.begin("stop", "now")
        error = await world.end(waiting)
        assert error is not None
        assert stop.id in error
        world.may_answer.clear()
        await world.settled()
        with pytest.raises(Problem) as caught:
            world.begin("start")
        assert caught.value.status == HTTPStatus.CONFLICT
        assert caught.value.more == {"changeId": stop.id}
        world.may_answer.set()
        assert await world.end(stop) is None
        # The one that was replaced has ordered nothing.
        assert [command for command, _ in world.told] == ["codexd-child-stop"]
        assert await world.end(world.begin("start")) is None

    play(act)


def test_what_goes_wrong_is_told() -> None:
    async def act(world: World) -> None:
        world.error = "circusd did not answer codexd-restart in 50 s"
        assert await world.end(world.begin("restart")) == world.error
        world.error = None
        world.answer = {"failed": "arbiter is already running"}
        assert "already running" in (await world.end(world.begin("restart")) or "")
        world.answer = {}
        world.outcome = Outcome("failed", "no such file")
        assert "no such file" in (await world.end(world.begin("restart")) or "")
        world.outcome = None
        late = world.begin("restart")
        await asyncio.sleep(0.03)
        assert late.status == "doing"
        world.outcome = Outcome("up")
        assert await world.end(late) is None

    play(act)


def test_a_failure_of_ours_is_an_end_too() -> None:
    async def act(world: World) -> None:
        world.changes._judge = lambda _: 1 / 0  # type: ignore[assignment, return-value]
        assert "codexd.log" in (await world.end(world.begin("restart")) or "")
        assert await world.end(world.begin("stop")) is None

    play(act)


def test_a_record_that_is_late_is_waited_for() -> None:
    async def act(world: World) -> None:
        world.pid = None

        async def late_order(command: str, **_: Any) -> dict[str, Any]:
            world.told.append((command, {}))
            asyncio.get_running_loop().call_later(0.02, setattr, world, "pid", 7)
            return {"started": [7]}

        world.changes._circus.order = late_order  # type: ignore[method-assign]
        seen: list[int | None] = []
        world.changes._judge = lambda _: seen.append(world.pid) or Outcome("up")  # type: ignore[func-returns-value]
        assert await world.end(world.begin("start")) is None
        assert seen == [7]

    play(act)


def test_a_server_that_is_not_ours_is_left_alone() -> None:
    async def act(world: World) -> None:
        for kind in ("start", "stop", "restart"):
            with pytest.raises(Problem) as caught:
                world.begin(kind)
            assert caught.value.kind == "external-server"
            assert f"{kind} it where" in caught.value.detail
        assert world.changes.newest_first() == []

    play(act, is_external=True)


def test_only_so_many_are_remembered() -> None:
    async def act(world: World) -> None:
        made = []
        for _ in range(module._REMEMBERED + 5):
            made.append(world.begin("restart", "now"))
            await world.end(made[-1])
        assert world.changes.newest_first() == made[:4:-1]
        assert world.changes.found(made[0].id) is None
        assert world.changes.found(made[-1].id) is made[-1]

    play(act)


async def ask(world: World, method: str, target: str, body: bytes = b"") -> tuple[Answer, Any]:
    table = Table([ChangeRoutes(world.changes)])
    answer = await table.find(Head(method, target, {}), Access.ADMIN)[1](body)
    assert isinstance(answer, Answer)
    return answer, msgspec.json.decode(answer.encoded())


def test_over_http() -> None:
    async def act(world: World) -> None:
        answer, change = await ask(world, "POST", "/v1/child/restart")
        place = f"/v1/changes/{change['id']}"
        assert (answer.status, answer.headers) == (202, {"Location": place})
        assert change == {
            "id": change["id"],
            "kind": "restart",
            "status": "doing",
            "error": None,
            "since": change["since"],
            "when": "drained",
        }
        await world.settled()
        _, again = await ask(world, "GET", place)
        assert again == {**change, "status": "done"}
        answer, change = await ask(world, "POST", "/v1/child/stop?wait=5", b'{"when":"now"}')
        assert (answer.status, change["status"]) == (200, "done")
        world.may_answer.clear()
        answer, change = await ask(world, "POST", "/v1/child/start?wait=0.01")
        assert (answer.status, change["status"]) == (202, "doing")
        _, listed = await ask(world, "GET", "/v1/changes?limit=2")
        kinds = [entry["kind"] for entry in listed["changes"]]
        assert (kinds, listed["next"]) == (["start", "stop"], listed["changes"][1]["id"])
        _, rest = await ask(world, "GET", f"/v1/changes?after={listed['next']}")
        assert [entry["kind"] for entry in rest["changes"]] == ["restart"]
        assert rest["next"] is None
        assert (await ask(world, "GET", "/v1/changes?after=nothing"))[1]["changes"] == []

    play(act)


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "field"),
    [
        ("POST", "/v1/child/stop", b'{"when":"later"}', 400, "when"),
        ("POST", "/v1/child/stop", b'{"what":1}', 400, "what"),
        ("POST", "/v1/child/stop", b'{"timeoutMs":-1}', 400, "timeoutMs"),
        ("POST", "/v1/child/stop", b'{"timeoutMs":1e30}', 400, "timeoutMs"),
        ("POST", "/v1/child/stop?wait=nan", b"", 400, "wait"),
        ("POST", "/v1/child/stop?wait=inf", b"", 400, "wait"),
        ("POST", "/v1/child/stop?wait=-1", b"", 400, "wait"),
        ("GET", "/v1/changes?limit=0", b"", 400, "limit"),
        ("GET", "/v1/changes/nothing", b"", 404, None),
    ],
)
def test_what_is_not_understood_is_refused(
    method: str, target: str, body: bytes, status: int, field: str | None
) -> None:
    async def act(world: World) -> None:
        with pytest.raises(Problem) as caught:
            await ask(world, method, target, body)
        assert (caught.value.status, caught.value.more.get("field")) == (status, field)
        assert world.told == []

    play(act)
