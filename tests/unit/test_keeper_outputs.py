"""The child's output on real pipes: what is told of it, how often, and its last words."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from codexd.child.pipes import ChildPipes, remove, stage_path
from codexd.config import Config
from codexd.contracts import EventLevel
from codexd.eventlog.accounting import unaccounted
from codexd.eventlog.stage import Stage
from codexd.keeper import outputs
from codexd.keeper.outputs import Outputs
from tests.support.memory import config_at


class Room:
    """The outputs of children that are this test."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.told: list[tuple[str, str, int]] = []
        self.details: list[dict[str, Any]] = []
        self.heard = b""
        self.talks = False
        self.outputs = Outputs(
            config.paths,
            config.policy,
            config.runtime.runtime_dir,
            self._record,
            lambda: None,
            may_be_protocol=True,
            is_talk=lambda: self.talks,
        )

    def _record(self, level: EventLevel, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level
        self.told.append((type_, message, detail["bytes"]))
        self.details.append(detail)

    def _hear(self, data: bytes) -> None:
        self.heard += data

    def child(self, generation: int) -> ChildPipes:
        pipes = ChildPipes.create(self.config.runtime.runtime_dir, generation)
        self.outputs.add(generation)
        self.outputs.hand_to(generation, self._hear)
        return pipes

    def end(self, pipes: ChildPipes) -> str | None:
        self.outputs.ended(pipes.generation)
        pipes.close()
        return self.outputs.take_last_words(pipes.generation)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.002)

    async def say(self, pipes: ChildPipes, data: bytes) -> None:
        """Write to stdout, and wait until it was read."""
        wanted = len(self.heard) + len(data)
        os.write(pipes.stdout, data)
        await self.until(lambda: len(self.heard) == wanted)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_at(tmp_path)
    os.makedirs(config.runtime.runtime_dir)
    os.makedirs(config.paths.logs_dir)
    return config


def run(config: Config, act: Callable[[Room], Awaitable[None]]) -> Room:
    async def main() -> Room:
        room = Room(config)
        await act(room)
        room.outputs.close()
        return room

    return asyncio.run(main())


TALK = "stdout: (protocol messages)"
# More than what the server answers codexd itself.
TURN = b'{"method":"item/agentMessage/delta"}\n' * 200


def test_talk_is_told_once_for_long_and_before_anything_else(config: Config) -> None:
    async def act(room: Room) -> None:
        pipes = room.child(1)
        await room.say(pipes, b"hello\n")
        room.talks = True
        for _ in range(50):
            await room.say(pipes, b'{"method":"x"}\n')
        await asyncio.sleep(3 * outputs.BURST_S)
        assert room.told == [("child.stdout", "stdout: hello", 6)]
        # Another plugin would find out what is not told yet.
        assert unaccounted(config.paths.stdout_log_path, room.details[-1])[0] == 50 * 15
        room.talks = False
        await room.say(pipes, b"bye\n")
        room.end(pipes)

    room = run(config, act)
    assert room.told == [
        ("child.stdout", "stdout: hello", 6),
        ("child.stdout", TALK, 50 * 15),
        ("child.stdout", "stdout: bye", 4),
    ]
    assert room.outputs.moved == {"stdout": 6 + 50 * 15 + 4, "stderr": 0}


def test_talk_is_told_at_the_childs_end(config: Config) -> None:
    async def act(room: Room) -> None:
        room.talks = True
        pipes = room.child(1)
        await room.say(pipes, b"{}\n")
        os.write(pipes.stdout, b"{}\n")
        room.end(pipes)
        assert room.told == [("child.stdout", TALK, 6)]

    run(config, act)


def test_a_minute_or_much_talk_is_told_as_well(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        room.talks = True
        pipes = room.child(1)
        monkeypatch.setattr(outputs, "_TALK_BYTES", 10)
        await room.say(pipes, b"{}\n")
        await room.say(pipes, b"{1234567}\n")
        assert room.told == [("child.stdout", TALK, 13)]
        monkeypatch.setattr(outputs, "_TALK_BYTES", 1 << 20)
        monkeypatch.setattr(outputs, "TALK_S", 0.01)
        await room.say(pipes, TURN)
        await room.until(lambda: len(room.told) == 2)
        assert room.told[1] == ("child.stdout", TALK, len(TURN))

    run(config, act)


def test_little_talk_is_told_seldom_and_more_of_it_as_soon_as_ever(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        room.talks = True
        stdout = room.outputs._streams[0]
        pipes = room.child(1)
        monkeypatch.setattr(outputs, "TALK_S", 0.01)
        await room.say(pipes, b"{}\n")
        await room.until(lambda: stdout._patient_bytes < len(TURN))
        assert stdout._timer is not None
        left_s = stdout._timer.when() - asyncio.get_running_loop().time()
        assert 500 < left_s < 600
        assert room.told == []
        await room.say(pipes, TURN)
        await room.until(lambda: len(room.told) == 1)
        assert room.told[0] == ("child.stdout", TALK, len(TURN) + 3)
        monkeypatch.setattr(outputs, "_LITTLE_S", 0.02)
        await room.say(pipes, b"{}\n")
        await room.until(lambda: len(room.told) == 2)

    run(config, act)


def test_the_end_of_all_tells_what_is_left(config: Config) -> None:
    async def act(room: Room) -> None:
        room.talks = True
        await room.say(room.child(1), b"{}\n")

    assert run(config, act).told == [("child.stdout", TALK, 3)]


def test_what_a_child_said_last_is_its_own(config: Config) -> None:
    async def act(room: Room) -> None:
        first, second, third = (room.child(generation) for generation in (1, 2, 3))
        os.write(first.stderr, b"Error: of the first\n" + b"frame\n" * 3)
        os.write(third.stderr, b"x" * 40_000 + b"\nError: of the third\n")
        assert room.end(first) == "Error: of the first"
        assert room.end(second) is None
        assert room.end(third) == "Error: of the third"
        assert room.outputs.take_last_words(3) is None

    run(config, act)


def test_what_a_child_said_long_before_does_not_tell_of_its_end(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        pipes = room.child(1)
        os.write(pipes.stderr, b"Error: of its beginning\n")
        await room.until(lambda: bool(room.told))
        monkeypatch.setattr(outputs, "_LAST_WORDS_S", 0.0)
        await asyncio.sleep(0.001)
        assert room.end(pipes) is None

        pipes = room.child(2)
        os.write(pipes.stderr, b"Error: of its beginning\n")
        await room.until(lambda: len(room.told) == 2)
        os.write(pipes.stderr, b"so long\n")
        monkeypatch.setattr(outputs, "_LAST_WORDS_S", 5.0)
        assert room.end(pipes) == "Error: of its beginning"

    run(config, act)


def test_whoever_goes_on_writing_to_a_dead_childs_pipe_does_not_hold_up_the_next(
    config: Config,
) -> None:
    async def act(room: Room) -> None:
        pipes = room.child(1)
        heard: list[bytes] = []

        def more(data: bytes) -> None:
            heard.append(data)
            if len(heard) < 1000:
                os.write(pipes.stdout, b"more")

        room.outputs.hand_to(1, more)
        os.write(pipes.stdout, b"the child's own")
        room.end(pipes)
        assert heard == [b"the child's own"]

    assert run(config, act).outputs.moved["stdout"] == len("the child's own")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has stages")
@pytest.mark.parametrize("is_named_anew", [False, True])
def test_what_a_plugin_that_died_left_on_the_stage_is_read(
    config: Config, is_named_anew: bool
) -> None:
    async def act(room: Room) -> None:
        runtime_dir = config.runtime.runtime_dir
        pipes = ChildPipes.create(runtime_dir, 1)
        os.write(pipes.stdout, b"left")
        if is_named_anew:
            # The names were taken away meanwhile, and circusd has made them again.
            remove(runtime_dir, 1)
            pipes.name_again(runtime_dir)
        stage = Stage(stage_path(runtime_dir, 1, "stdout"))
        assert stage.fill(pipes.stdout, 100) == 4
        stage.close()
        room.outputs.add(1)
        assert Path(config.paths.stdout_log_path).read_bytes() == b"left"
        room.end(pipes)

    run(config, act)
