"""What codexd's watchers do otherwise than circus's, on real processes without a daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from codexd.circus_ext.arbiter import is_complete
from codexd.circus_ext.patient import PatientWatcher

LIVES = f'{sys.executable} -ISc "import signal; signal.pause()"'


class Seen(PatientWatcher):
    """Remembers which ends it was told of."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__("test", *args, **options)
        self.ends: list[tuple[int, int | None]] = []
        self.topics: list[str] = []

    def notify_event(self, topic: str, msg: dict[str, Any]) -> None:
        self.topics.append(topic)
        if topic == "reap":
            self.ends.append((msg["process_pid"], msg["exit_code"]))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def only(watcher: Seen) -> Any:
    (process,) = watcher.processes.values()
    return process


def suspend(pid: int) -> None:
    """From now on SIGTERM does not end it; SIGKILL does."""
    os.kill(pid, signal.SIGSTOP)
    # Of two signals that wait, the one of the lower number would be taken first.
    os.waitpid(pid, os.WUNTRACED)


def test_a_second_stop_waits_for_the_kill_that_is_going_on() -> None:
    async def test() -> None:
        watcher = Seen(LIVES, graceful_timeout=0.3)
        await watcher._start()
        process = only(watcher)
        suspend(process.pid)
        kill = asyncio.ensure_future(_wait(watcher.kill_process(process, graceful_timeout=0.6)))
        await asyncio.sleep(0)
        assert process.stopping
        await watcher._stop()
        assert not process.is_alive()
        assert watcher.is_stopped()
        assert len(watcher.ends) == 1
        await kill

    run(test)


async def _wait(future: Any) -> None:
    await future


def test_an_expired_process_is_reaped_and_followed_by_another() -> None:
    async def test() -> None:
        watcher = Seen(LIVES, max_age=1, max_age_variance=0, graceful_timeout=5)
        await watcher._start()
        process = only(watcher)
        process.started -= 10
        await watcher.manage_processes()
        assert watcher.ends == [(process.pid, -15)]
        assert only(watcher).pid != process.pid
        await watcher._stop()

    run(test)


def test_a_start_during_a_stop_starts_nothing() -> None:
    async def test() -> None:
        watcher = Seen(LIVES, graceful_timeout=0.3)
        await watcher._start()
        # One that ends at once would be gone before there is a moment to start another in.
        suspend(only(watcher).pid)
        stop = asyncio.ensure_future(_wait(watcher._stop()))
        await asyncio.sleep(0)
        assert watcher.is_stopping()
        await watcher._start()
        await stop
        assert watcher.is_stopped()
        assert not watcher.processes
        assert watcher.topics.count("spawn") == 1

    run(test)


def test_a_look_that_the_system_refuses_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        looks: list[int] = []
        enough = asyncio.Event()

        async def refused() -> None:
            looks.append(1)
            if len(looks) == 1:
                raise OSError(24, "Too many open files")
            enough.set()

        monkeypatch.setattr("codexd.circus_ext.patient._TROUBLE_RETRY_S", 0.01)
        watcher = Seen(LIVES)
        monkeypatch.setattr(watcher, "manage_processes", lambda: asyncio.ensure_future(refused()))
        watcher.wake()
        await enough.wait()

    run(test)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="nobody tells without reaping")
def test_circus_looks_only_where_there_is_something_to_find() -> None:
    async def test() -> None:
        watcher = Seen(LIVES, graceful_timeout=5)
        arbiter = SimpleNamespace(iter_watchers=lambda: [watcher])
        await watcher._start()
        process = only(watcher)
        assert is_complete(arbiter)
        watcher.numprocesses = 2
        assert not is_complete(arbiter)
        watcher.numprocesses, watcher.max_age = 1, 60
        assert not is_complete(arbiter)
        watcher.max_age = 0
        assert is_complete(arbiter)
        os.kill(process.pid, signal.SIGKILL)
        # Dead and not reaped, and then reaped by somebody else.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_complete(arbiter)
        os.waitpid(process.pid, 0)
        assert not is_complete(arbiter)
        await watcher._stop()
        # Nothing is wanted of it, and there is no child at all: circus may see for itself.
        assert not is_complete(arbiter)

    run(test)
