"""The trip of a turn: through which modules, and how often it enters the keeper's room."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from websockets.asyncio.client import ClientConnection, unix_connect

import codexd
from codexd import keeper as room
from codexd.child.pipes import ChildPipes, pipe_path
from codexd.config import Config
from codexd.hub.actions import ToChild, ToClient
from codexd.hub.core import Core
from codexd.keeper.assembly import assemble
from codexd.keeper.keeper import Keeper
from codexd.records.records import Records, open_records
from codexd.runtime import make_directories
from tests.support.hub import INITIALIZED
from tests.support.memory import config_at

PACKAGE = os.path.dirname(codexd.__file__)
ROOM = os.path.dirname(room.__file__ or "")
PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/architecture.md"
THREAD = {"id": "t"}
TURN = {"id": "u", "items": [], "status": "inProgress"}
ENDED = {"threadId": "t", "turn": {**TURN, "status": "completed"}}


class Circusd:
    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        del command, timeout_s, properties
        return {}

    order = call


class Plugin:
    """The plugin's keeper, and the server that it talks to, played by the test."""

    def __init__(self, config: Config, records: Records) -> None:
        self.records = records
        self.keeper: Keeper = assemble(config, records, Circusd())
        self._pipes = ChildPipes.create(config.runtime.runtime_dir, 1)
        path = pipe_path(config.runtime.runtime_dir, 1, "stdin")
        self._stdin = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def say(self, message: dict[str, Any]) -> None:
        os.write(self._pipes.stdout, json.dumps(message).encode() + b"\n")

    async def heard(self, method: str) -> dict[str, Any]:
        """The next message of this method; what codexd asks meanwhile gets an empty answer."""
        while True:
            message = await self._read()
            if message.get("method") == method:
                return message
            if "id" in message:
                self.say({"id": message["id"], "result": {}})

    async def _read(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            try:
                data += os.read(self._stdin, 1)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        message: dict[str, Any] = json.loads(data)
        return message

    async def start(self) -> None:
        """Up to its readiness; somebody must say who asks, or it takes a while."""
        self.keeper._outputs.add(1)
        self.keeper._connector.child_started(1, None)
        asked = await self._read()
        while asked["method"] != "initialize":
            error = {"code": -32600, "message": "Not initialized"}
            self.say({"id": asked["id"], "error": error})
            asked = await self._read()
        self.say({"id": asked["id"], "result": INITIALIZED})
        await self.heard("initialized")

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """What codexd asks meanwhile gets an empty answer: its clients wait for some of it."""
        task = asyncio.ensure_future(self.heard("nothing of this name"))
        try:
            yield
        finally:
            task.cancel()

    async def recorded(self, type_: str) -> None:
        while not any(event.type == type_ for event in self.records.events.recent()):
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.keeper.stop()
        os.close(self._stdin)
        self._pipes.close()


@contextlib.asynccontextmanager
async def plugin_at(root: Path) -> AsyncIterator[tuple[Plugin, ClientConnection]]:
    """A plugin whose server is ready, and a client of it."""
    config = config_at(root)
    make_directories(config.paths, config.runtime)
    with open_records(config, timeout_s=0) as records:
        records.recorder.daemon_started(os.getpid(), config.server)
        plugin = Plugin(config, records)
        try:
            await plugin.keeper._sockets.start()
            path = config.runtime.hub_socket_path
            async with unix_connect(path, "ws://localhost/", compression=None) as client:
                await ask(client, 1, "initialize", clientInfo={"name": "a", "version": "1"})
                await plugin.start()
                async with plugin.answering():
                    await answer(client, 1)
                yield plugin, client
        finally:
            await plugin.close()


async def ask(client: ClientConnection, number: int, method: str, **params: Any) -> None:
    await client.send(json.dumps({"id": number, "method": method, "params": params}))


async def answer(client: ClientConnection, wanted: str | int) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await client.recv())
        if wanted in (message.get("id"), message.get("method")):
            return message


def run(main: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(main(), 20))


@contextlib.contextmanager
def watched(watch: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


# -- how often it enters the keeper's room -----------------------------------------------------


class Entries:
    """Every call into the keeper's room from outside of it, while it is watched."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        caller = frame.f_back
        if event != "call" or caller is None:
            return
        if self._is_inside(frame) and not self._is_inside(caller):
            self.seen.append(Path(frame.f_code.co_filename).stem)

    @staticmethod
    def _is_inside(frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(ROOM)


def test_the_end_of_a_turn_enters_the_keepers_room_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with plugin_at(tmp_path) as (plugin, _):
            plugin.say({"method": "thread/started", "params": {"thread": THREAD}})
            plugin.say({"method": "turn/started", "params": {"threadId": "t", "turn": TURN}})
            await plugin.recorded("turn.started")
            entries = Entries()
            with watched(entries):
                plugin.say({"method": "turn/completed", "params": ENDED})
                await plugin.recorded("turn.completed")
            # Nothing more of it comes later.
            assert entries.seen == ["outputs", "hub_driver"]

    run(main)


# -- through which modules ---------------------------------------------------------------------


class Hands:
    """The modules that have a message in hand when the hub decides, and when it is written.

    That is those on the stack, one calling the other; not the small tools that each of them uses.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and _decides(frame):
            self.modules.update(_stack(frame))
        elif event == "c_call" and argument.__name__ in ("write", "send"):
            modules = list(_stack(frame))
            # What is recorded of it goes another way.
            if modules and modules[0] in ("api/connection", "link/transport_stdio"):
                self.modules.update(modules)


def _decides(frame: FrameType) -> bool:
    if frame.f_code is Core.act.__code__:
        return isinstance(frame.f_locals["action"], ToChild | ToClient)
    return frame.f_code is Core.tell.__code__


def _stack(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            yield name.removeprefix(f"{PACKAGE}/").removesuffix(".py")
        frame = frame.f_back


async def _follow_a_turn(plugin: Plugin, client: ClientConnection) -> Hands:
    await ask(client, 2, "thread/start")
    asked = await plugin.heard("thread/start")
    plugin.say({"id": asked["id"], "result": {"thread": THREAD}})
    await answer(client, 2)
    hands = Hands()
    with watched(hands):
        await ask(client, 3, "turn/start", threadId="t", input=[])
        asked = await plugin.heard("turn/start")
        plugin.say({"id": asked["id"], "result": {"turn": TURN}})
        await answer(client, 3)
        plugin.say({"method": "turn/completed", "params": ENDED})
        await answer(client, "turn/completed")
    return hands


def named_on_the_page() -> set[str]:
    """The modules that the page's section on the trip speaks of."""
    text = PAGE.read_text()
    begin = text.index("## The trip of a turn")
    section = text[begin : text.index("\n## ", begin)]
    return set(re.findall(r"`(\w+/\w+)\.py`", section))


def test_a_turn_goes_through_twelve_modules_there_and_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with plugin_at(tmp_path) as (plugin, client):
            hands = await _follow_a_turn(plugin, client)
            assert {"api/connection", "hub/requests", "hub/notifications"} < hands.modules
            assert len(hands.modules) <= 12, sorted(hands.modules)
            assert hands.modules - named_on_the_page() == set()

    run(main)
