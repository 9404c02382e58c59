"""circusd's one timer: every second, or later where it may rest and is told of changes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from codexd.circus_ext import rounds as module
from codexd.circus_ext.rounds import Rounds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nobody tells of changes elsewhere")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.02)
    monkeypatch.setattr(module, "_SETTLE_S", 0.01)


class Goer:
    def __init__(self, answer: Any) -> None:
        self.went = 0
        self.answer = answer
        self.has_gone = asyncio.Event()

    def go(self) -> float:
        self.went += 1
        self.has_gone.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return float(self.answer)

    async def next(self) -> None:
        self.has_gone.clear()
        await asyncio.wait_for(self.has_gone.wait(), 10)


@pytest.mark.parametrize(("answer", "is_there"), [(0.02, True), (1000.0, False), (OSError(), True)])
def test_it_goes_every_second(tmp_path: Path, answer: Any, is_there: bool) -> None:
    async def play() -> None:
        goer = Goer(answer)
        place = tmp_path if is_there else tmp_path / "nowhere"
        rounds = Rounds(asyncio.get_running_loop(), goer.go, [str(place)])
        for _ in range(3):
            await goer.next()
        rounds.stop()

    asyncio.run(play())


def test_where_it_may_rest_a_change_or_a_word_wakes_it(tmp_path: Path) -> None:
    async def play() -> None:
        goer = Goer(1000.0)
        rounds = Rounds(asyncio.get_running_loop(), goer.go, [str(tmp_path)])
        await goer.next()
        (tmp_path / "new").touch()
        await goer.next()
        rounds.within(0.01)
        await goer.next()
        assert goer.went == 3
        await asyncio.sleep(0.1)
        assert goer.went == 3
        rounds.stop()

    asyncio.run(play())
