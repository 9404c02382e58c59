"""Orders for the child that come at once, in circusd."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from circus.exc import ConflictError
from tornado import gen

from codexd.circus_ext import channel
from codexd.circus_ext.channel import Channel
from codexd.circus_ext.watcher import AppServerWatcher
from tests.unit.test_channel import PATIENCE, Arbiter


class Watcher(AppServerWatcher):
    """Its child is a number; circus's own commands exclude each other and take a while."""

    def __init__(self) -> None:
        self.processes = {1: None}
        self.drains = False
        self.channel = Channel(Arbiter(), PATIENCE, {})
        self.done: list[str] = []
        self._runs = False

    def restart(self) -> Any:
        return self._run("restart", {max(self.processes, default=0) + 1: None})

    def stop(self) -> Any:
        return self._run("stop", {})

    def start(self) -> Any:
        return self._run("start", self.processes or {9: None})

    def _run(self, name: str, after: dict[int, None]) -> Any:
        if self._runs:
            raise ConflictError("arbiter is already running a command")
        self._runs = True
        return self._later(name, after)

    @gen.coroutine
    def _later(self, name: str, after: dict[int, None]) -> Any:
        yield gen.sleep(0.03)
        self.processes = {}
        yield gen.sleep(0.03)
        self.processes, self._runs = after, False
        self.done.append(name)
        return {"started": sorted(after)}


def play(act: Callable[[Watcher], Awaitable[None]]) -> None:
    async def main() -> None:
        await act(Watcher())

    asyncio.run(main())


def test_two_restarts_at_once_are_one() -> None:
    async def act(watcher: Watcher) -> None:
        orders = [watcher.restart_in_order(0.0) for _ in range(3)]
        assert await asyncio.gather(*orders) == [{"started": [2]}] * 3
        assert watcher.done == ["restart"]
        assert await watcher.restart_in_order(0.0) == {"started": [3]}

    play(act)


def test_a_child_that_is_stopped_is_restarted_all_the_same() -> None:
    async def act(watcher: Watcher) -> None:
        await watcher.stop_in_order(0.0)
        assert watcher.processes == {}
        assert await watcher.restart_in_order(0.0) == {"started": [1]}
        await watcher.stop_in_order(0.0)
        assert await watcher.start_in_order() == {"started": [9]}
        assert watcher.done == ["stop", "restart", "stop", "start"]

    play(act)


def test_a_child_that_has_brought_about_one_process_is_not_alone() -> None:
    async def act(watcher: Watcher) -> None:
        family: Any = SimpleNamespace(size=0)
        watcher.family = family
        assert watcher.is_alone()
        family.size = 1
        assert not watcher.is_alone()

    play(act)


def test_what_circus_will_not_do_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(watcher: Watcher) -> None:
        def refused() -> Any:
            raise ConflictError("arbiter is restarting...")

        watcher.restart = watcher.stop = watcher.start = refused  # type: ignore[method-assign]
        orders = (watcher.restart_in_order(0.0), watcher.stop_in_order(0.0))
        for order in (*orders, watcher.start_in_order()):
            assert await order == {"failed": "arbiter is restarting..."}

    monkeypatch.setattr(channel, "_CONFLICT_LIMIT_S", 0.0)
    play(act)
