"""The plugin on uvloop's event loop, where that is installed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from codexd.circus_ext.plugin import fast_loop
from tests.unit.test_trip import answer, ask, plugin_at


def test_without_it_circuss_loop_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert fast_loop() is None


def test_with_it_the_plugins_loop_is_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = asyncio.new_event_loop()
    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(new_event_loop=lambda: made))
    loop = fast_loop()
    assert loop is not None
    assert loop.asyncio_loop is made  # type: ignore[attr-defined]
    loop.close()
    assert made.is_closed()


def test_a_request_and_its_answer_on_it(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with asyncio.timeout(20), plugin_at(tmp_path) as (plugin, client):
            await ask(client, 7, "model/list")
            asked = await plugin.heard("model/list")
            plugin.say({"id": asked["id"], "result": {"data": ["x" * 300_000]}})
            assert len((await answer(client, 7))["result"]["data"][0]) == 300_000

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
