from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from circus.watcher import Watcher

import codexd.circus_ext.hooks  # noqa: F401  tells circus which class to make
from codexd.circus_ext.channel import PLUGIN
from codexd.circus_ext.plugin_watcher import PluginProcess, PluginWatcher

ENDS_AT_ONCE = f"{sys.executable} -ISc pass"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def make(cmd: str) -> PluginWatcher:
    watcher = Watcher.load_from_config({"name": PLUGIN, "cmd": cmd, "singleton": True})
    assert isinstance(watcher, PluginWatcher)
    return watcher


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each try to start a process."""
    made: list[str] = []
    spawn = PluginProcess.spawn

    def noted(process: PluginProcess) -> None:
        made.append(process.cmd)
        spawn(process)

    monkeypatch.setattr(PluginProcess, "spawn", noted)
    return made


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_only_the_plugin_is_watched_so() -> None:
    async def test() -> None:
        other = Watcher.load_from_config({"name": "other", "cmd": "x"})
        assert type(other) is Watcher
        make("x")

    run(test)


def test_a_command_that_is_not_there_is_tried_again_after_a_pause(
    tries: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        watcher = make("/nowhere/python -c x")
        await watcher._start()
        await until(lambda: len(tries) == 2)
        # Now it rests: circus's looks change nothing.
        for _ in range(5):
            await watcher.manage_processes()
        assert len(tries) == 2
        # An operator does not wait.
        await watcher._start()
        assert len(tries) >= 3
        await watcher._stop()
        assert watcher._timer is None

    run(test)
    assert caplog.text.count("the plugin cannot be started") == 1


def test_a_plugin_that_ends_at_once_rests_and_an_operators_stop_ends_that(
    tries: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        watcher = make(ENDS_AT_ONCE)
        await watcher._start()
        for count in (1, 2):
            await until(lambda count=count: len(tries) == count)  # type: ignore[misc]
            (process,) = watcher.processes.values()
            await until(lambda process=process: not process.is_alive())  # type: ignore[misc]
            watcher.reap_process(process.pid)
        await watcher.manage_processes()
        assert len(tries) == 2
        assert not watcher.processes
        await watcher._stop()
        assert watcher._timer is None
        await asyncio.sleep(0)
        assert len(tries) == 2

    run(test)
    assert caplog.text.count("the plugin ends soon") == 1
