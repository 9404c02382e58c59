"""The talk with a spare over its pipes: introduced, kept apart, handed over with every byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, unix_serve

from codexd.child import pipes
from codexd.child.pipes import ChildPipes
from codexd.child.steps import Spare
from codexd.config import Config
from codexd.eventlog.capture import unaccounted
from codexd.keeper import spare as module
from codexd.keeper.outputs import Outputs
from codexd.keeper.spare import SpareTalk, saved_answer
from codexd.link.errors import LinkError
from codexd.platform.process import identify
from tests.support.memory import config_at

ANSWER = {"userAgent": "a spare"}
NOTICE = b'{"method":"account/updated","params":{}}\n'


class Server(threading.Thread):
    """Answers over the pipes of a spare, as this process; says something first."""

    def __init__(self, held: ChildPipes, *, is_mute: bool = False) -> None:
        super().__init__(daemon=True)
        self._held = held
        self.is_mute = is_mute
        self.written = b""
        self.asked: list[dict[str, Any]] = []
        self.start()

    def say(self, data: bytes) -> None:
        self.written += data
        os.write(self._held.stdout, data)

    def run(self) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._held.stdin, 65536)).split(b"\n")
            for line in filter(None, lines):
                if line == b"end":
                    return
                self._answer(json.loads(line))

    def _answer(self, message: dict[str, Any]) -> None:
        self.asked.append(message)
        if "id" in message and not self.is_mute:
            result = ANSWER if message["method"] == "initialize" else {}
            self.say(json.dumps({"id": message["id"], "result": result}).encode() + b"\n")

    def end(self) -> None:
        os.write(self._held.stdin, b"end\n")
        self.join(5)
        self._held.close()


class Room:
    """A plugin's side, with outputs; the spare is this process."""

    def __init__(self, config: Config) -> None:
        self.runtime_dir = config.runtime.runtime_dir
        self.name: str | None = "somebody"
        self.is_caretaker = False
        self.events: list[tuple[str, str]] = []
        self.heard: list[bytes] = []
        self.changes = 0
        self.mute: list[str] = []
        self.held = ChildPipes.create(self.runtime_dir, 7, spare=True)
        self.server = Server(self.held)
        me = identify(os.getpid())
        assert me is not None
        self.spare = Spare(process=me, generation=7)
        self.bytes = 0
        self.details: list[dict[str, Any]] = []
        self.outputs = Outputs(
            config.paths,
            config.policy,
            self.runtime_dir,
            self._output,
            lambda: None,
            may_be_protocol=True,
            is_talk=lambda: False,
        )
        self.talk = self.new_talk()

    def new_talk(self) -> SpareTalk:
        return SpareTalk(
            self.runtime_dir,
            self,
            self.heard.append,
            lambda _level, type_, message, _detail: self.events.append((type_, message)),
            self.changed,
            self.mute.append,
            around=lambda take, data: take(data),
            interval_s=0.05,
            timeout_s=0.2,
        )

    def _output(self, level: str, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level
        assert message
        assert type_ == "child.stdout"
        self.bytes += detail["bytes"]
        self.details.append(detail)

    def changed(self) -> None:
        self.changes += 1

    def spare_introduction(self, *, lasting: bool = False) -> dict[str, Any] | None:
        del lasting
        return None if self.name is None else {"clientInfo": {"name": self.name}}

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.002)

    async def vouched(self) -> None:
        self.talk.follow(self.spare)
        await self.until(lambda: self.talk.vouched == os.getpid())


Play = Callable[[Callable[[Room], Awaitable[None]]], Room]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    config = config_at(tmp_path)
    os.makedirs(config.runtime.runtime_dir)
    os.makedirs(config.paths.logs_dir)

    def play(act: Callable[[Room], Awaitable[None]]) -> Room:
        async def main() -> Room:
            room = Room(config)
            try:
                await act(room)
            finally:
                room.talk.close()
                room.outputs.close()
                room.server.end()
            return room

        return asyncio.run(asyncio.wait_for(main(), 30))

    return play


def test_it_is_greeted_like_the_server_and_given_over_with_every_byte(
    play: Play, tmp_path: Path
) -> None:
    async def act(room: Room) -> None:
        room.server.say(NOTICE)
        await room.vouched()
        # It may still have to read the last of it.
        await room.until(lambda: len(room.server.asked) > 1)
        methods = [message["method"] for message in room.server.asked[:2]]
        assert methods == ["initialize", "initialized"]
        assert room.server.asked[0]["params"] == {"clientInfo": {"name": "somebody"}}
        assert room.events == [("spare.ready", "A spare server answers.")]
        assert room.changes == 1
        # It is asked now and then.
        await room.until(lambda: len(room.server.asked) > 3)
        room.server.say(NOTICE)
        room.outputs.reserve(room.talk.generation)
        room.held.come_forth(room.runtime_dir)
        room.outputs.scan()
        early = room.talk.promote(os.getpid())
        room.outputs.add(7, early)
        feed = room.talk.feed_of(os.getpid())
        assert feed is not None
        room.outputs.hand_to(7, feed)
        greeted = room.talk.take(os.getpid())
        assert greeted is not None
        assert json.loads(greeted.result) == ANSWER
        await greeted.ask()
        greeted.link.listen()
        # What it notified of before, nobody is told.
        assert room.heard == []
        room.server.say(NOTICE)
        await room.until(lambda: room.heard == [NOTICE.strip()])
        assert saved_answer(room.runtime_dir, os.getpid()) == greeted.result
        assert saved_answer(room.runtime_dir, os.getppid()) is None
        assert room.talk.take(os.getpid()) is None
        greeted.link.close()

    room = play(act)
    log = config_at(tmp_path).paths.stdout_log_path
    assert Path(log).read_bytes() == room.server.written
    assert room.bytes == len(room.server.written) == room.outputs.moved["stdout"]
    assert unaccounted(log, room.details[-1])[0] == 0
    assert room.talk.status() == {"pid": None, "ready": False, "promotions": 1}


def test_no_spare_is_greeted_before_the_server_is(play: Play) -> None:
    async def act(room: Room) -> None:
        room.name = None
        room.talk.follow(room.spare)
        assert room.talk.generation is None
        room.name = "the first client"
        await room.vouched()

    room = play(act)
    assert room.server.asked[0]["params"]["clientInfo"]["name"] == "the first client"


def test_one_that_was_introduced_as_somebody_else_is_not_vouched_for(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.vouched()
        room.name = "another"
        assert room.talk.unfit is None
        room.talk.follow(room.spare)
        assert room.talk.vouched is None
        assert room.talk.unfit == os.getpid()
        assert room.changes == 2
        # That spare is done with; a pipe is introduced once.
        room.talk.follow(room.spare)
        assert room.talk.generation is None

    play(act)


def test_a_plugin_does_not_speak_with_one_that_another_has_spoken_with(play: Play) -> None:
    async def act(room: Room) -> None:
        assert pipes.speaks_first(room.runtime_dir, pipes.aside(7))
        room.talk.follow(room.spare)
        assert room.talk.generation is None
        assert (room.talk.unfit, room.changes) == (os.getpid(), 1)
        assert room.server.asked == []

    play(act)


def test_one_that_answers_no_more_is_not_vouched_for(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.vouched()
        room.server.is_mute = True
        await room.until(lambda: room.talk.vouched is None)

    play(act)


def test_one_that_hangs_when_it_is_needed_is_told(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_WORD_S", 0.05)

    async def act(room: Room) -> None:
        await room.vouched()
        room.server.is_mute = True
        room.talk.promote(os.getpid())
        greeted = room.talk.take(os.getpid())
        assert greeted is not None
        with pytest.raises(LinkError):
            await greeted.ask()
        greeted.link.close()
        assert room.mute == ["The spare that took the server's place does not answer."]

    play(act)


def test_one_that_says_too_much_is_not_kept(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EARLY_BYTES", 2000)

    async def act(room: Room) -> None:
        await room.vouched()
        os.write(room.held.stderr, b"x" * 5000)

        def look() -> bool:
            room.talk.follow(room.spare)
            return room.talk.vouched is None

        await room.until(look)

    play(act)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("it is too old", "The spare ended: it is too old"),
        (None, "The spare ended: Error: no such option"),
    ],
)
def test_why_it_ended_is_told(play: Play, reason: str | None, message: str) -> None:
    async def act(room: Room) -> None:
        await room.vouched()
        os.write(room.held.stderr, b"Error: no such option\n")
        room.talk.ended(os.getpid(), 1, reason)
        assert room.talk.vouched is None

    assert play(act).events[-1] == ("spare.ended", message)


# -- on a socket ---------------------------------------------------------------------------------


class OnSocket:
    """A spare that listens, and has its pipes for what it writes."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_mute = False
        self.connections: list[ServerConnection] = []

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            message = json.loads(text)
            self.asked.append(message["method"])
            if "id" in message and not self.is_mute:
                result = ANSWER if message["method"] == "initialize" else {}
                await connection.send(json.dumps({"id": message["id"], "result": result}))

    @contextlib.asynccontextmanager
    async def listening(self, room: Room) -> AsyncIterator[None]:
        # A short path.
        place = tempfile.mkdtemp(prefix="st-", dir="/tmp")
        path = os.path.join(place, "spare0.sock")
        room.spare = msgspec.structs.replace(room.spare, socket=path)
        # It takes a while until it listens.
        asyncio.get_running_loop().call_soon(room.talk.follow, room.spare)
        await asyncio.sleep(0.01)
        try:
            async with unix_serve(self.serve, path):
                await room.until(lambda: room.talk.vouched == os.getpid())
                yield
        finally:
            shutil.rmtree(place)


def test_on_a_socket_its_connection_becomes_the_servers(play: Play) -> None:
    spare = OnSocket()

    async def act(room: Room) -> None:
        async with spare.listening(room):
            await room.until(lambda: len(spare.asked) > 1)
            assert spare.asked[:2] == ["initialize", "initialized"]
            os.write(room.held.stdout, b"said early\n")
            assert room.talk.promote(os.getpid())["stdout"] == b"said early\n"
            # What it writes is no talk.
            assert room.talk.feed_of(os.getpid()) is None
            greeted = room.talk.take(os.getpid())
            assert greeted is not None
            assert json.loads(greeted.result) == ANSWER
            await greeted.ask()
            greeted.link.listen()
            await spare.connections[0].send(NOTICE.decode())
            await room.until(lambda: room.heard == [NOTICE])
            assert len(spare.connections) == 1
            greeted.link.close()

    assert play(act).server.asked == []


@pytest.mark.parametrize("is_lost", [True, False])
def test_on_a_socket_only_one_that_hangs_is_told(
    play: Play, monkeypatch: pytest.MonkeyPatch, *, is_lost: bool
) -> None:
    monkeypatch.setattr(module, "_FIRST_WORD_S", 0.05)
    spare = OnSocket()

    async def act(room: Room) -> None:
        async with spare.listening(room):
            spare.is_mute = True
            room.talk.promote(os.getpid())
            greeted = room.talk.take(os.getpid())
            assert greeted is not None
            if is_lost:
                # It may live, and is connected to anew.
                spare.connections[0].transport.abort()
                await greeted.lost
            with pytest.raises(LinkError):
                await greeted.ask()
            greeted.link.close()
            assert bool(room.mute) is not is_lost

    play(act)


def test_a_spare_of_a_server_that_nobody_uses_is_introduced_on_another_connection(
    play: Play,
) -> None:
    spare = OnSocket()

    async def act(room: Room) -> None:
        room.is_caretaker = True
        async with spare.listening(room):
            # The first client comes: it is as good as it was.
            room.is_caretaker, room.name = False, "the first"
            room.talk.follow(room.spare)
            assert room.talk.vouched == os.getpid()
            room.talk.promote(os.getpid())
            assert room.talk.take(os.getpid()) is None
            await asyncio.wait_for(spare.connections[0].wait_closed(), 20)

    play(act)
