"""The trip of a message from the server: how often it enters the keeper's room."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from codexd import keeper as room
from codexd.child.pipes import ChildPipes, pipe_path
from codexd.keeper.assembly import assemble
from codexd.records.records import Records, open_records
from codexd.runtime import make_directories
from tests.support.hub import INITIALIZED
from tests.support.memory import config_at

ROOM = os.path.dirname(room.__file__ or "")


class Circusd:
    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        del command, timeout_s, properties
        return {}


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


async def _read_line(descriptor: int) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        try:
            data += os.read(descriptor, 1)
        except BlockingIOError:
            await asyncio.sleep(0.001)
    message: dict[str, Any] = json.loads(data)
    return message


def _completed(records: Records) -> bool:
    return any(event.type == "turn.completed" for event in records.events.recent())


def test_the_end_of_a_turn_enters_the_keepers_room_twice(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)

    async def main() -> None:
        with open_records(config, timeout_s=0) as records:
            records.recorder.daemon_started(os.getpid(), config.server)
            keeper = assemble(config, records, Circusd())
            pipes = ChildPipes.create(config.runtime.runtime_dir, 1)
            stdin = os.open(
                pipe_path(config.runtime.runtime_dir, 1, "stdin"), os.O_RDONLY | os.O_NONBLOCK
            )

            def say(message: dict[str, Any]) -> None:
                os.write(pipes.stdout, json.dumps(message).encode() + b"\n")

            keeper._outputs.add(1)
            keeper._connector.child_started(1, None)
            asked = await _read_line(stdin)
            while asked["method"] != "initialize":
                error = {"code": -32600, "message": "Not initialized"}
                say({"id": asked["id"], "error": error})
                asked = await _read_line(stdin)
            say({"id": asked["id"], "result": INITIALIZED})
            assert (await _read_line(stdin))["method"] == "initialized"
            asked = await _read_line(stdin)
            say({"id": asked["id"], "result": {"data": [], "nextCursor": None}})
            thread, turn = {"id": "t"}, {"id": "u", "items": [], "status": "inProgress"}
            say({"method": "thread/started", "params": {"thread": thread}})
            say({"method": "turn/started", "params": {"threadId": "t", "turn": turn}})
            while not any(event.type == "turn.started" for event in records.events.recent()):
                await asyncio.sleep(0.001)
            entries = Entries()
            sys.setprofile(entries)
            try:
                ended = {**turn, "status": "completed"}
                say({"method": "turn/completed", "params": {"threadId": "t", "turn": ended}})
                while not _completed(records):
                    await asyncio.sleep(0.001)
            finally:
                sys.setprofile(None)
            # Nothing more of it comes later.
            assert entries.seen == ["outputs", "hub_driver"]
            await keeper.stop()
            os.close(stdin)
            pipes.close()

    asyncio.run(asyncio.wait_for(main(), 20))
