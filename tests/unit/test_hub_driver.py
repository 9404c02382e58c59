"""What the hub decides is carried out: a server that refuses, is late, lost, or another one."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from codexd.child.told import Report
from codexd.config import Config
from codexd.contracts import ChildState, DaemonState, SessionRecord
from codexd.hub.profile import NOTHING
from codexd.keeper import hub_driver
from codexd.keeper.hub_driver import HubDriver
from codexd.keeper.kept_threads import KeptThreads
from codexd.link.errors import LinkLost, MessageTooLong, NotReading
from tests.support.hub import INITIALIZED
from tests.support.memory import config_at


class End:
    """One client's end: keeps what the client would get."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed: list[int] = []

    def send(self, data: bytes) -> None:
        self.sent.append(json.loads(data))

    def close(self, code: int, reason: str) -> None:
        assert reason
        self.closed.append(code)


class Records:
    """Keeps what was recorded."""

    def __init__(self) -> None:
        self.state = self
        self.recorder = self
        self.sessions: dict[str, SessionRecord] = {}
        child = ChildState(strategy="spawn", mode="app-server", endpoint="stdio://x")
        self.daemon = DaemonState(updated_at="", child=child)
        self.events: list[tuple[str, dict[str, Any]]] = []

    @property
    def child(self) -> ChildState:
        return self.daemon.child

    def event(self, level: str, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level
        assert "\n" not in message
        self.events.append((type_, detail))

    def session(self, record: SessionRecord) -> None:
        self.sessions[record.session_id] = record


class Room:
    """A hub driver, with a server and clients that are this test."""

    def __init__(self, config: Config) -> None:
        self.records = Records()
        self.changes = 0
        self.heard: list[bytes] = []
        self.to_child: list[dict[str, Any]] = []
        self.refuse: Exception | None = None
        self.approvals: list[str] = []
        self.pokes = 0
        self.driver = HubDriver(
            config.server.endpoint,
            config.policy,
            cast("Any", self.records),
            self.change,
            self.heard.append,
            lambda _info, _capabilities: None,
            self.approvals.append,
            KeptThreads(config.runtime.runtime_dir),
            self.soon,
            quiet_period_s=7.5,
        )
        self.ends: dict[int, End] = {}

    def soon(self) -> None:
        self.pokes += 1

    def change(self) -> None:
        self.changes += 1

    def send(self, data: bytes) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.to_child.append(json.loads(data))

    def ready(self, pid: int = 71, *, same_child: bool = False) -> None:
        """The handshake is done, and no thread is loaded."""
        result = json.dumps(INITIALIZED).encode()
        self.driver.child_ready(self.send, result, same_child=same_child, pid=pid)
        for asked in [m for m in self.to_child if m["method"] == "thread/loaded/list"]:
            self.to_child.remove(asked)
            self.says({"id": asked["id"], "result": {"data": [], "nextCursor": None}})

    def says(self, message: dict[str, Any]) -> None:
        self.driver.child_message(json.dumps(message).encode())

    def client(self) -> int:
        """One that is initialized."""
        end = End()
        client = self.driver.opened(NOTHING, end)
        self.ends[client] = end
        info = {"clientInfo": {"name": "test", "version": "1"}}
        self.asks(client, "initialize", info, id="hello")
        self.driver.message(client, b'{"method":"initialized"}')
        return client

    def asks(self, client: int, method: str, params: Any, *, id: object = 1) -> None:
        message = {"id": id, "method": method, "params": params}
        self.driver.message(client, json.dumps(message).encode())

    def answers(self, client: int) -> list[dict[str, Any]]:
        return [m for m in self.ends[client].sent if m.get("id") != "hello"]


Play = Callable[[Callable[[Room], Awaitable[None]]], Room]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_at(tmp_path, hub_wait_ms="5000")


@pytest.fixture
def play(config: Config) -> Play:
    def play(act: Callable[[Room], Awaitable[None]]) -> Room:
        async def main() -> Room:
            room = Room(config)
            room.driver.start()
            await act(room)
            return room

        return asyncio.run(asyncio.wait_for(main(), 20))

    return play


def test_a_request_goes_to_the_child_and_its_answer_back(play: Play) -> None:
    async def act(room: Room) -> None:
        room.ready()
        first, second = room.client(), room.client()
        room.asks(second, "model/list", {}, id="mine")
        (asked,) = room.to_child
        room.says({"id": asked["id"], "result": {"data": []}})
        assert room.answers(second) == [{"id": "mine", "result": {"data": []}}]
        # An answer that comes twice is nobody's.
        room.says({"id": asked["id"], "result": {"data": []}})
        assert len(room.answers(second)) == 1
        assert room.answers(first) == []
        counts = room.driver.counts
        # Each client said hello, initialized and one asked; the server was asked for its threads.
        assert (counts.from_clients, counts.to_clients) == (5, 3)
        assert (counts.from_server, counts.to_server) == (3, 2)

    play(act)


@pytest.mark.parametrize(
    ("refusal", "code"), [(MessageTooLong("too long"), -32600), (NotReading("unread"), -32001)]
)
def test_what_cannot_be_sent_is_refused(play: Play, refusal: Exception, code: int) -> None:
    async def act(room: Room) -> None:
        room.ready()
        client = room.client()
        room.refuse = refusal
        room.asks(client, "model/list", {})
        (answer,) = room.answers(client)
        assert answer["error"]["code"] == code
        # The next one may be shorter, or come later.
        room.refuse = None
        room.asks(client, "model/list", {}, id=2)
        assert len(room.to_child) == 1

    play(act)


def test_a_link_that_breaks_while_something_is_sent_is_answered_by_its_loss(play: Play) -> None:
    async def act(room: Room) -> None:
        room.ready()
        client = room.client()
        room.refuse = LinkLost("gone")
        room.asks(client, "turn/start", {"threadId": "t", "input": []})
        assert room.answers(client) == []
        room.driver.child_lost("the connection broke", [])
        room.refuse = None
        room.ready(72)
        (answer,) = room.answers(client)
        assert "error" in answer

    play(act)


def test_a_message_that_cannot_be_handled_takes_nothing_with_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        room.ready()
        client = room.client()

        def fail(*_: Any) -> None:
            raise KeyError("turn")

        with monkeypatch.context() as patched:
            patched.setattr(room.driver._hub, "child_message", fail)
            room.says({"method": "odd"})
            patched.setattr(room.driver._hub, "client_message", fail)
            room.asks(client, "model/list", {})
        # The client would wait for an answer for ever.
        assert room.ends[client].closed == [1011]
        other = room.client()
        room.asks(other, "model/list", {})
        assert len(room.to_child) == 1

    play(act)


def test_a_loss_that_cannot_be_handled_takes_nothing_with_it(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(room: Room) -> None:
        room.ready()
        first, second = room.client(), room.client()

        def fail(*_: Any) -> None:
            raise KeyError("turn")

        with monkeypatch.context() as patched:
            patched.setattr(room.driver._hub, "client_closed", fail)
            room.driver.closed(first)
            patched.setattr(room.driver._hub, "child_lost", fail)
            room.driver.child_lost("it was killed", [])
            patched.setattr(room.driver._hub, "child_ended", fail)
            room.driver.child_ended()
        told = [record.message for record in caplog.records]
        assert [text.endswith("could not be handled") for text in told] == [True] * 3
        room.ready(72)
        room.asks(second, "model/list", {})
        assert room.to_child[-1]["method"] == "model/list"

    play(act)


def test_what_cannot_be_done_for_one_is_done_for_the_others(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        room.ready()
        first, second = room.client(), room.client()

        def fail(_data: bytes) -> None:
            raise OSError("no")

        monkeypatch.setattr(room.ends[first], "send", fail)
        room.says({"method": "skills/changed", "params": {}})
        assert room.ends[second].sent[-1] == {"method": "skills/changed", "params": {}}

    play(act)


def test_what_the_next_plugin_must_know_is_written_down_before_the_client_hears_of_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        room.ready()
        client = room.client()
        room.asks(client, "skills/extraRoots/set", {"extraRoots": ["/x"]})
        done: list[Any] = []
        monkeypatch.setattr(room.driver._kept, "save", lambda kept: done.append(kept.settings[0]))
        monkeypatch.setattr(room.ends[client], "send", done.append)
        room.says({"id": room.to_child[-1]["id"], "result": {}})
        kept, answer = done
        assert kept.params == {"extraRoots": ["/x"]}
        assert json.loads(answer) == {"id": 1, "result": {}}

    play(act)


def test_whoever_tells_circusd_hears_of_every_change(play: Play) -> None:
    async def act(room: Room) -> None:
        # Nobody knows yet what the server does.
        assert room.driver.report(None) == Report(plugin=os.getpid(), server="away", turns=None)
        before = room.changes
        room.ready()
        assert room.changes > before
        assert room.driver.report(71).server == "up"
        assert room.driver.report(71).child == 71
        before = room.changes
        room.driver.drain(9, holds=True)
        assert (room.driver.report(71).drain, room.driver.report(71).holds) == (9, True)
        room.driver.drain(10, holds=False)
        assert (room.driver.report(71).drain, room.driver.report(71).holds) == (10, False)
        assert room.changes == before + 2
        before = room.changes
        room.driver.child_lost("killed", [])
        assert room.driver.report(None).server == "away"
        assert room.changes > before

    play(act)


def test_idle_is_only_what_is_known_to_be(play: Play) -> None:
    async def act(room: Room) -> None:
        assert not room.driver.is_idle
        room.ready()
        assert room.driver.is_idle
        room.asks(room.client(), "model/list", {})
        assert not room.driver.is_idle

    play(act)


def test_usable_is_a_server_that_was_heard_of_late(
    play: Play, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        now = time.monotonic()
        monkeypatch.setattr(hub_driver, "monotonic", lambda: now)
        assert not room.driver.is_usable
        room.ready()
        assert not room.driver.is_usable
        room.records.daemon.child.ready = True
        assert room.driver.is_usable
        policy = config.policy
        fresh_s = (policy.health_interval_ms + policy.health_timeout_ms) / 1000 + 1
        # Ticks go on all the time.
        while now < now + fresh_s and room.driver.is_usable:
            now += 0.5
            room.driver.tick()
            assert room.driver.is_usable == (now - room.driver._answered_at <= fresh_s)
        room.driver.answered()
        assert room.driver.is_usable
        # This process was held up: nobody was asked, so nobody could answer.
        now += 3600
        assert not room.driver.is_usable
        room.driver.held_up(3600)
        assert room.driver.is_usable
        monkeypatch.undo()

    play(act)


def test_the_sessions_there_are_are_taken_over(config: Config, play: Play) -> None:
    del play

    async def main() -> None:
        room = Room(config)
        room.records.sessions["session-1"] = SessionRecord(
            session_id="session-1",
            purpose="duplex",
            thread_id="t",
            endpoint="stdio://x",
            created_at="2026-01-01T00:00:00.000Z",
            updated_at="2026-01-01T00:00:00.000Z",
        )
        room.driver.start()
        assert room.driver.snapshot()["activeSessions"] == 1

    asyncio.run(main())


def test_a_hub_in_which_nothing_goes_on_is_told_of_seldom(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        now = time.monotonic()
        monkeypatch.setattr(hub_driver, "monotonic", lambda: now)
        room.ready()
        client = room.client()
        assert room.driver.report(1).again_s == 1.0
        now += 3.0
        assert room.driver.report(1).again_s == 7.5
        # What goes through is told at once, and from then on every second.
        changes, pokes = room.changes, room.pokes
        room.asks(client, "model/list", {})
        room.asks(client, "model/list", {})
        assert room.changes == changes + 1
        assert room.pokes > pokes
        assert room.driver.report(1).again_s == 1.0
        now += 3.0
        room.driver.drain(1, holds=True)
        assert room.driver.report(1).again_s == 1.0
        room.driver.drain(2, holds=False)
        room.driver.child_lost("killed", [])
        now += 3.0
        assert room.driver.report(None).again_s == 1.0
        monkeypatch.undo()

    play(act)


def test_it_asks_for_another_tick_only_where_somebody_waits(play: Play) -> None:
    async def act(room: Room) -> None:
        room.ready()
        assert room.driver.tick() is None
        pokes = room.pokes
        assert room.driver.tick() is None
        # A tick that finds nothing asks for no other.
        assert room.pokes == pokes
        room.driver.opened(NOTHING, End())
        wait_s = room.driver.tick()
        assert wait_s is not None
        assert 29 < wait_s <= 30

    play(act)
