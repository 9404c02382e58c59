"""The child's output on macOS, where a named pipe holds 8 KiB and kqueue tells of it late."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codexd.child import pipes as child_io
from codexd.child.pipes import ChildPipes
from codexd.config import Config, resolve
from codexd.eventlog.appendlog import AppendLog
from codexd.keeper.outputs import StreamLog
from codexd.platform import pipe_watch
from tests.support.macos import FifoWriter, KqueueLikeSelector

# Answers of `model/list` and `experimentalFeature/list`, each written in one call.
PIECES = (b"a" * 9_792 + b"\n", b"b" * 26_661 + b"\n", b"c\n", b"d" * 8192)


class Child:
    """The pipes of one child, its output and where that goes."""

    def __init__(self, root: Path) -> None:
        self.config: Config = resolve({"repo_root": str(root)}, {}, cwd="/")
        runtime_dir = self.config.runtime.runtime_dir
        Path(runtime_dir).mkdir(parents=True)
        self.pipes = ChildPipes.create(runtime_dir, 1)
        self.writer = FifoWriter(child_io.pipe_path(runtime_dir, 1, "stdout"))
        self.selector = KqueueLikeSelector(self.writer)
        self.loop = asyncio.SelectorEventLoop(self.selector)
        self.log = root / "stdout.log"
        self.heard = b""
        self.was_stuck = False

    def run(self, until: Callable[[], bool]) -> None:
        """Carry its output until something is so."""

        async def carry() -> None:
            stream = StreamLog(
                "stdout",
                AppendLog(str(self.log), max_bytes=1 << 20, backups=1),
                self.config.runtime.runtime_dir,
                lambda *_: None,
                lambda _generation: None,
                lambda: None,
            )
            stream.hand_to(1, self._hear)
            stream.add(1)
            self.writer.write(*PIECES)
            while not until():
                await asyncio.sleep(0.005)
            self.was_stuck = self.writer.is_writing and not self.heard
            stream.close()

        self.loop.run_until_complete(asyncio.wait_for(carry(), 30))

    def _hear(self, data: bytes) -> None:
        self.heard += data

    def close(self) -> None:
        self.writer.close()
        self.pipes.close()
        self.loop.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path)
    yield made
    made.close()


def test_every_byte_of_a_long_write_arrives(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    child.run(lambda: len(child.heard) == len(b"".join(PIECES)))
    assert child.heard == b"".join(PIECES)
    assert child.log.read_bytes() == child.heard


def test_with_descriptors_that_select_does_not_take(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(pipe_watch, "_SELECT_LIMIT", 0)
    child.run(lambda: len(child.heard) == len(b"".join(PIECES)))
    assert child.heard == b"".join(PIECES)


def test_the_loops_own_selector_would_wait_for_ever(child: Child) -> None:
    """What stands in for kqueue does what it is to stand for."""
    child.run(lambda: child.selector.withheld > 20)
    assert child.was_stuck


def test_a_watch_ends_in_the_middle_of_its_own_callback(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    calls = []

    async def watch() -> None:
        ended = asyncio.Event()

        def on_data() -> None:
            calls.append(1)
            watched.close()
            ended.set()

        watched = pipe_watch.watch_pipe(asyncio.get_running_loop(), child.pipes.stdout, on_data)
        child.writer.write(b"x")
        await asyncio.wait_for(ended.wait(), 10)
        watched.close()

    child.loop.run_until_complete(watch())
    assert calls == [1]
