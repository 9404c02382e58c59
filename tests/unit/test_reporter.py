"""The plugin tells circusd: on change, again and again, and whatever circusd does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from codexd.child.told import Report
from codexd.keeper import reporter
from codexd.keeper.circusd import CircusError
from codexd.keeper.reporter import Reporter


class Circus:
    """circusd: answers as told, keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answer: Callable[[], dict[str, Any]] = lambda: {"status": "ok", "starts": 1}
        self.said = asyncio.Event()

    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        assert command == "codexd-report"
        assert timeout_s <= 5
        self.heard.append(properties["report"])
        self.said.set()
        return self.answer()

    async def next(self) -> dict[str, Any]:
        await asyncio.wait_for(self.said.wait(), 20)
        self.said.clear()
        return self.heard[-1]


class Rig:
    def __init__(self, again_s: float = 1000.0) -> None:
        self.circus = Circus()
        self.turns = 0
        self.again_s = again_s
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.reporter = Reporter(self.circus, self.look, self.record)

    def look(self) -> Report:
        return Report(plugin=1, child=2, server="up", turns=self.turns, again_s=self.again_s)

    def record(self, level: str, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level in ("error", "warn")
        assert message.endswith(".") or message == "hung"
        self.events.append((type_, detail))


async def run(play: Callable[[Rig], Any], *, again_s: float = 1000.0) -> Rig:
    rig = Rig(again_s)
    task = asyncio.ensure_future(rig.reporter.run())
    try:
        await play(rig)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return rig


def test_a_change_is_told_at_once() -> None:
    async def play(rig: Rig) -> None:
        assert (await rig.circus.next())["turns"] == 0
        rig.turns = 2
        rig.reporter.changed()
        assert (await rig.circus.next())["turns"] == 2

    asyncio.run(run(play))


def test_without_one_it_is_told_again() -> None:
    async def play(rig: Rig) -> None:
        for _ in range(3):
            await rig.circus.next()

    asyncio.run(run(play, again_s=0.01))


@pytest.mark.parametrize("what", ["silence", "refusal", "nonsense"])
def test_whatever_circusd_answers_the_telling_goes_on(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporter, "PERIOD_S", 0.01)

    def answer() -> dict[str, Any]:
        if what == "nonsense":
            return {"status": "ok", "troubles": 5}
        raise CircusError(what)

    async def play(rig: Rig) -> None:
        rig.circus.answer = answer
        for _ in range(3):
            await rig.circus.next()

    asyncio.run(run(play))
    assert len(caplog.records) == 1


def test_what_became_of_an_earlier_plugin_is_recorded_once() -> None:
    troubles = [{"number": 1, "pid": 8, "reason": "hung"}, {"number": 2, "pid": 9, "reason": None}]

    async def play(rig: Rig) -> None:
        rig.circus.answer = lambda: {"status": "ok", "troubles": troubles}
        assert (await rig.circus.next())["acknowledged"] == 0
        for _ in range(3):
            assert (await rig.circus.next())["acknowledged"] == 2

    rig = asyncio.run(run(play, again_s=0.01))
    assert [(type_, detail.get("endedPid", detail["pid"])) for type_, detail in rig.events] == [
        ("plugin.unhealthy", 8),
        ("plugin.restarted", 8),
        ("plugin.restarted", 9),
    ]


def test_the_last_word_says_so_and_waits_for_nobody() -> None:
    async def play() -> None:
        rig = Rig()

        def gone() -> dict[str, Any]:
            raise CircusError("circusd did not answer")

        rig.circus.answer = gone
        await rig.reporter.leave()
        assert rig.circus.heard[-1]["isLeaving"] is True

    asyncio.run(play())
