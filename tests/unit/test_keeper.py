"""What happens to a child, played to the keeper: told late, twice, with gaps, or not at all."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from codexd.child import pipes
from codexd.child import steps as supervision
from codexd.child.steps import Step, Supervision
from codexd.child.told import Report
from codexd.config import Config
from codexd.keeper import keeper as keeper_module
from codexd.keeper import keeper as module
from codexd.keeper.circusd import WATCHER, CircusError
from codexd.keeper.keeper import Keeper
from codexd.keeper.pace import SOON_S, Pace
from codexd.keeper.restarts import Restarts
from codexd.link.endpoint import Endpoint
from codexd.platform.process import ProcessId, identify
from codexd.records.records import Records, open_records
from codexd.runtime import make_directories
from tests.support.memory import config_at

DAEMON = os.getppid()

Play = Callable[..., None]


class Circusd:
    """Answers as told, keeps what it was told to do."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"codexd-steps": {"record": None}}
        self.is_mute = False

    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        assert timeout_s <= 5
        assert properties.pop("name") == WATCHER
        self.told.append((command, properties))
        await asyncio.sleep(0)
        if self.is_mute:
            raise CircusError(f"circusd did not answer {command}")
        return cast("dict[str, Any]", self.answers.get(command, {}))


class Colleague:
    """Any of those that the keeper works with: notes what it is told, in one list for all."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said
        self.misses = 2
        self.is_ready = True
        self.is_idle = True
        self.is_holding = self.has_network = False
        self.is_complete = True
        self.directories: list[str] = []
        self.last_heard = 0.0
        self.waiting_since: float | None = None
        self.endpoint: Endpoint | None = None
        self.lost: set[int] = set()
        self.words: dict[int, str] = {}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *given, **named: self.said.append(
            " ".join([f"{self.name}.{method}", *map(str, given), *map(str, named.values())])
        )

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def start(self) -> None:
        self.said.append(f"{self.name}.start")

    async def stop(self) -> None:
        self.said.append(f"{self.name}.stop")

    leave = stop

    def tick(self) -> None:
        self.said.append(f"{self.name}.tick")

    def is_lost(self, generation: int) -> bool:
        return generation in self.lost

    def take_last_words(self, generation: int) -> str | None:
        return self.words.pop(generation, None)

    def report(self, child: int | None) -> Report:
        return Report(plugin=1, child=child, server="up")

    def status(self) -> dict[str, Any]:
        return {"loggedIn": True}


class Driver(Colleague):
    def start(self) -> None:  # type: ignore[override]
        self.said.append("driver.start")


class Connector(Colleague):
    async def close(self) -> None:
        self.said.append("connector.close")


QUIET = ("look", "tick", "scan", "changed", "add")


class Room:
    """A keeper among people who note everything."""

    def __init__(self, config: Config, records: Records) -> None:
        self.config, self.records = config, records
        self.circus = Circusd()
        self.all_said: list[str] = []
        self.orphans_ended = 0
        names = (
            "driver",
            "sockets",
            "hook",
            "outputs",
            "health",
            "account",
            "appetite",
            "reporter",
        )
        self.people = {name: Colleague(name, self.all_said) for name in names}
        self.people["driver"] = Driver("driver", self.all_said)
        self.connector = Connector("connector", self.all_said)
        self.restarts = Restarts(clock=lambda: 10.0)
        self.pace = Pace(asyncio.get_event_loop(), lambda late_s: self.keeper.tick(late_s))
        self.keeper = Keeper(
            config.server,
            config.paths,
            records,
            self.circus,
            connector=cast("Any", self.connector),
            restarts=self.restarts,
            pace=self.pace,
            replace_grace_s=1.5,
            end_leftover=self.end_leftover,
            **cast("dict[str, Any]", self.people),
        )
        self.record = Supervision(daemon=identify(DAEMON))

    def end_leftover(self) -> None:
        self.orphans_ended += 1

    def write(self, *steps: Step) -> None:
        """circusd writes down what it did."""
        self.record.steps += steps
        supervision.save(self.records.steps_path, self.record)

    def tell(self, step: Step) -> None:
        """circusd tells what it did."""
        message = json.dumps(msgspec.to_builtins(step)).encode()
        self.keeper.circus_event(WATCHER, "step", message)

    def said(self) -> list[str]:
        """What was said since the last time, but for what goes on all the time."""
        said = [line for line in self.all_said if line.split()[0].split(".")[1] not in QUIET]
        self.all_said.clear()
        return said

    def events(self) -> list[str]:
        return [event.type for event in self.records.events.recent()]

    async def told(self, command: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not (found := [given for name, given in self.circus.told if name == command]):
                await asyncio.sleep(0.001)
        return found[-1]


def spawned(number: int, generation: int, pid: int, attempt: int = 1) -> Step:
    return Step(
        number=number, kind="spawned", at=5.0, generation=generation, pid=pid, attempt=attempt
    )


def ended(number: int, generation: int, pid: int, code: int = -9) -> Step:
    return Step(number=number, kind="ended", at=6.0, generation=generation, pid=pid, code=code)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)
    return config


@pytest.fixture
def play(config: Config) -> Play:
    def play(act: Callable[[Room], Awaitable[None]], *, config: Config = config) -> None:
        async def main() -> None:
            with open_records(config, timeout_s=0) as records:
                room = Room(config, records)
                await act(room)
                await room.keeper.stop()

        asyncio.run(asyncio.wait_for(main(), 20))

    return play


def test_one_child_after_the_other_is_spoken_with(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.said()
        room.people["outputs"].words[1] = "Error: no room"
        room.tell(spawned(1, 1, 71))
        assert room.said() == ["outputs.ended 0", "connector.child_started 1 71"]
        assert room.keeper.report().child == 71
        room.tell(ended(2, 1, 71, code=3))
        # What it still wrote comes before its end.
        assert room.said() == [
            "outputs.ended 1",
            "connector.child_ended the server ended with code 3",
        ]
        assert room.keeper.report().child is None
        assert room.records.recorder.child.last_error == "Child exited with code 3: Error: no room"
        room.tell(spawned(3, 2, 72, attempt=2))
        room.tell(ended(4, 2, 72))
        assert room.said() == [
            "outputs.ended 1",
            "connector.child_started 2 72",
            "outputs.ended 2",
            "connector.child_ended the server ended by signal 9",
        ]
        assert room.events()[-4:] == [
            "child.started",
            "child.exited",
            "child.started",
            "child.exited",
        ]
        assert room.restarts.by_reason == {"died": 1}

    play(act)


def test_a_step_that_is_told_twice_or_late_happened_once(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        for step in (spawned(1, 1, 71), spawned(1, 1, 71), ended(2, 1, 71), spawned(1, 1, 71)):
            room.write(step)
            room.tell(step)
        room.keeper.reconcile()
        assert room.events()[-2:] == ["child.started", "child.exited"]
        assert room.records.recorder.child.pid is None

    play(act)


def test_what_was_not_told_is_found_in_the_file(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.said()
        room.write(spawned(1, 1, 71), ended(2, 1, 71), spawned(3, 2, 72))
        room.tell(spawned(3, 2, 72))
        # Of the first nobody needs to hear: it is over.
        assert room.said() == [
            "outputs.ended 0",
            "outputs.ended 1",
            "outputs.ended 1",
            "connector.child_started 2 72",
        ]
        assert room.events()[-3:] == ["child.started", "child.exited", "child.started"]

    play(act)


def test_what_is_not_in_the_file_either_is_asked_for(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.circus.told.clear()
        lacking = Supervision(steps=[spawned(1, 1, 71), ended(2, 1, 71), spawned(3, 2, 72)])
        room.circus.answers["codexd-steps"] = {"record": msgspec.to_builtins(lacking)}
        room.tell(spawned(3, 2, 72))
        assert room.keeper.report().child is None
        await room.told("codexd-steps")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        room.keeper.reconcile()
        assert room.keeper.report().child == 72
        # An older answer does not win over a newer file.
        room.write(*lacking.steps, ended(4, 2, 72))
        room.keeper.reconcile()
        assert room.keeper.report().child is None

    play(act)


def test_a_circusd_that_does_not_answer_stops_nothing(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(room: Room) -> None:
        room.circus.is_mute = True
        room.write(spawned(1, 1, 71))
        await room.keeper.start(DAEMON)
        room.keeper.became_ready(71, {"pid": 71})
        assert (await room.told("codexd-ready")) == {"pid": 71}
        assert room.records.recorder.child.ready

    with caplog.at_level(logging.WARNING):
        play(act)
    assert "did not answer codexd-steps" in caplog.text


def test_other_watchers_are_none_of_its_business(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.said()
        room.keeper.circus_event("plugin:codexd", "step", b"{}")
        room.keeper.circus_event("plugin:codexd", "draining", b"{}")
        assert room.said() == []
        # Whatever else circus tells of the child may mean that something happened.
        room.write(spawned(1, 1, 71))
        room.keeper.circus_event(WATCHER, "reap", b"no JSON")
        assert room.keeper.report().child == 71

    play(act)


def test_orders_are_passed_on_also_those_of_an_older_circusd(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.said()
        for order in ({"order": 4, "holds": True}, {"order": 5, "holds": False}, {}):
            room.keeper.circus_event(WATCHER, "draining", json.dumps(order).encode())
        assert room.said() == ["driver.drain 4 True", "driver.drain 5 False", "driver.drain 0 True"]

    play(act)


def test_a_session_that_is_ordered_again_and_again_is_opened_once(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        order = {"session_id": "session-1", "purpose": "smoke", "metadata": {}}
        for _ in range(3):
            room.keeper.circus_event(WATCHER, "session", json.dumps(order).encode())
        assert room.events().count("session.registered") == 1

    play(act)


def test_a_child_that_answers_again_before_it_is_replaced_is_ready(play: Play) -> None:
    async def act(room: Room) -> None:
        room.write(spawned(1, 1, 71))
        await room.keeper.start(DAEMON)
        room.said()
        room.keeper.became_ready(71, {"pid": 71})
        assert room.said() == ["health.child_ready"]
        room.keeper.unhealthy("It hangs.")
        assert (await room.told("codexd-replace")) == {"pid": 71, "graceful_timeout": 1.5}
        assert not room.records.recorder.child.ready
        room.said()
        room.keeper.healthy()
        # When it answered is dated by who heard it: this may tell of an older answer.
        assert "driver.answered" not in " ".join(room.said())
        assert room.records.recorder.child.ready
        room.keeper.became_lost("The connection broke.")
        assert not room.records.recorder.child.ready
        assert room.records.recorder.child.last_error == "The connection broke."
        assert room.events()[-3:] == ["child.unhealthy", "child.ready", "link.lost"]
        # What it dies of later is something else.
        room.tell(ended(2, 1, 71))
        room.tell(spawned(3, 2, 72, attempt=2))
        assert room.restarts.by_reason == {"died": 1}

    play(act)


def test_a_child_that_is_replaced_or_recycled_has_not_died(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.tell(spawned(1, 1, 71))
        room.keeper.unhealthy("It hangs.")
        room.tell(ended(2, 1, 71))
        room.tell(spawned(3, 2, 72, attempt=2))
        room.keeper.recycle()
        room.tell(msgspec.structs.replace(ended(4, 2, 72, code=0), asked=True))
        room.tell(spawned(5, 3, 73, attempt=3))
        assert room.restarts.by_reason == {"unhealthy": 1, "memory": 1}

    play(act)


def test_without_a_child_of_its_own_circusd_is_told_nothing(tmp_path: Path, play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        assert "connector.child_started 0 None" in room.said()
        room.keeper.became_ready(None, {"pid": None})
        room.keeper.unhealthy("It hangs.")
        await asyncio.sleep(0)
        assert room.circus.told == []
        assert room.events()[-3:] == ["child.external", "child.ready", "child.unhealthy"]

    play(act, config=config_at(tmp_path, server_strategy="external"))


def test_a_child_whose_pipes_are_gone_is_replaced_once_circusd_had_its_time(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        room.write(spawned(1, 1, 71))
        await room.keeper.start(DAEMON)
        room.people["outputs"].lost.add(1)
        room.keeper.reconcile()
        assert "child.unhealthy" not in room.events()
        # They come back, and go again: it counts from then on.
        room.people["outputs"].lost.clear()
        room.keeper.reconcile()
        monkeypatch.setattr(pipes, "NAMED_AGAIN_S", 0.0)
        room.people["outputs"].lost.add(1)
        room.keeper.reconcile()
        room.keeper.reconcile()
        await room.told("codexd-replace")
        assert room.events().count("child.unhealthy") == 1

    play(act)


def test_a_wait_for_the_child_is_told_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOON_S", 0.001)

    async def act(room: Room) -> None:
        now = asyncio.get_running_loop().time()
        room.write(spawned(1, 1, 71))
        room.connector.waiting_since = now
        room.connector.endpoint = Endpoint("unix", "unix://x.sock", path="/run/x.sock")
        await room.keeper.start(DAEMON)
        await asyncio.sleep(0.02)
        assert "child.waiting" not in room.events()
        room.connector.waiting_since = now - 1.1
        async with asyncio.timeout(10):
            while "child.waiting" not in room.events():
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        (told,) = [e for e in room.records.events.recent() if e.type == "child.waiting"]
        assert told.detail == {"pid": 71, "endpoint": "unix:///run/x.sock"}

    play(act)


# -- beginning and ending --------------------------------------------------------------------


def test_a_plugin_that_comes_later_records_what_happened_before(config: Config) -> None:
    async def first() -> None:
        with open_records(config, timeout_s=0) as records:
            room = Room(config, records)
            records.recorder.daemon_started(DAEMON, config.server)
            room.write(spawned(1, 1, 71))
            await room.keeper.start(DAEMON)
            await room.keeper.stop()

    async def second() -> None:
        with open_records(config, timeout_s=0) as records:
            room = Room(config, records)
            room.write(spawned(1, 1, 71), ended(2, 1, 71), spawned(3, 2, 72, attempt=2))
            await room.keeper.start(DAEMON)
            expected = "daemon.started child.started child.exited child.started"
            assert " ".join(room.events()) == expected
            assert "connector.child_started 2 72" in room.said()
            # The end was at 6, and it is 10 now.
            room.keeper.became_ready(72, {"pid": 72})
            assert room.restarts.by_reason == {"died": 1}
            assert room.restarts.recovery.sum == 4.0
            await room.keeper.stop()

    async def third() -> None:
        with open_records(config, timeout_s=0) as records:
            room = Room(config, records)
            room.write(spawned(1, 1, 71), ended(2, 1, 71), spawned(3, 2, 72, attempt=2))
            await room.keeper.start(DAEMON)
            room.keeper.became_ready(72, {"pid": 72})
            # What the plugin before has counted is not counted again.
            assert room.restarts.by_reason == {}
            assert sum(room.restarts.recovery.counts) == 0
            await room.keeper.stop()

    asyncio.run(first())
    asyncio.run(second())
    asyncio.run(third())


@pytest.mark.parametrize("action", ["step", "reaped"])
def test_what_is_told_in_the_middle_of_its_start_is_recorded_once_and_in_order(
    config: Config, action: str
) -> None:
    async def first() -> None:
        with open_records(config, timeout_s=0) as records:
            room = Room(config, records)
            records.recorder.daemon_started(DAEMON, config.server)
            room.write(spawned(1, 1, 71), ended(2, 1, 71), spawned(3, 2, 72))
            await room.keeper.start(DAEMON)
            await room.keeper.stop()

    async def second() -> None:
        with open_records(config, timeout_s=0) as records:
            room = Room(config, records)
            steps = [spawned(1, 1, 71), ended(2, 1, 71), spawned(3, 2, 72)]
            room.write(*steps)
            starting = asyncio.ensure_future(room.keeper.start(DAEMON))
            while not room.circus.told:
                await asyncio.sleep(0)
            # It waits for circusd's answer, and hears on; a strange word ends nothing.
            room.keeper.circus_event(WATCHER, "step", b"{")
            for step in [*steps, ended(4, 2, 72), spawned(5, 3, 73)]:
                if step.number > 3:
                    room.write(step)
                message = json.dumps(msgspec.to_builtins(step)).encode()
                room.keeper.circus_event(WATCHER, action, message)
            assert room.events()[-1] == "child.started"
            assert "outputs.ended 0" not in room.said()
            await starting
            kinds = ["started", "exited", "started", "exited", "started"]
            assert room.events() == ["daemon.started", *(f"child.{kind}" for kind in kinds)]
            assert room.keeper.report().child == 73
            await room.keeper.stop()

    asyncio.run(first())
    asyncio.run(second())


def test_under_a_stock_circusd_the_plugin_records_the_start(config: Config) -> None:
    async def main() -> None:
        with open_records(config, timeout_s=0) as records:
            room = Room(config, records)
            # Another daemon's child, and its end, which nobody recorded.
            room.record.begin = 2
            room.write(spawned(1, 1, 61), ended(2, 1, 61), spawned(3, 2, 72))
            await room.keeper.start(DAEMON)
            expected = "child.started child.exited daemon.started child.started"
            assert " ".join(room.events()) == expected
            await room.keeper.stop()

    asyncio.run(main())


def test_a_plugin_that_ends_with_its_daemon_sees_the_child_end(play: Play) -> None:
    async def act(room: Room) -> None:
        room.write(spawned(1, 1, 71))
        await room.keeper.start(DAEMON)
        room.circus.answers["status"] = {"status": "stopping"}
        waiting = asyncio.ensure_future(room.keeper.see_the_child_end(DAEMON))
        await room.told("status")
        await asyncio.sleep(0.05)
        assert not waiting.done()
        room.write(ended(2, 1, 71, code=0))
        await waiting
        assert room.events()[-1] == "child.exited"
        assert room.orphans_ended == 0

    play(act)


def test_a_plugin_that_is_only_restarted_does_not_wait(play: Play) -> None:
    async def act(room: Room) -> None:
        room.write(spawned(1, 1, 71))
        await room.keeper.start(DAEMON)
        room.circus.answers["status"] = {"status": "active"}
        await room.keeper.see_the_child_end(DAEMON)
        assert room.records.recorder.child.pid == 71

    play(act)


DEAD_DAEMON = 4_000_001


async def _outlive_the_daemon(room: Room) -> None:
    room.record.daemon = ProcessId(pid=DEAD_DAEMON, token="x")
    room.write(spawned(1, 1, 71))
    await room.keeper.start(DEAD_DAEMON)
    room.said()


def test_the_child_of_a_dead_daemon_is_ended_and_recorded(play: Play) -> None:
    async def act(room: Room) -> None:
        await _outlive_the_daemon(room)
        await room.keeper.see_the_child_end(DEAD_DAEMON)
        assert room.orphans_ended == 1
        # First what it still wrote, then its end.
        assert room.said() == ["outputs.ended 1", "connector.child_ended its daemon was killed"]
        child = room.records.recorder.child
        assert (child.pid, child.status) == (None, "failed")
        assert room.events()[-1] == "child.exited"

    play(act)


def test_the_child_of_the_daemon_that_came_after_is_left_alone(play: Play) -> None:
    async def act(room: Room) -> None:
        await _outlive_the_daemon(room)
        room.record.daemon = identify(DAEMON)
        room.write()
        await room.keeper.see_the_child_end(DEAD_DAEMON)
        assert room.orphans_ended == 0

    play(act)


def test_at_the_end_clients_leave_before_circusd_hears_the_last_word(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.said()
        await room.keeper.stop()
        assert room.said() == [
            "connector.close",
            "sockets.stop",
            "hook.stop",
            "reporter.stop",
            "outputs.close",
        ]

    play(act)


# -- what time brings ------------------------------------------------------------------------


def test_an_idle_plugin_is_looked_after_seldom_and_soon_after_a_change(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The next beat is half a second sooner.
    monkeypatch.setattr(keeper_module, "until_beat", lambda _now, wait_s: wait_s - 0.5)

    async def act(room: Room) -> None:
        keeper, outputs = room.keeper, room.people["outputs"]
        room.write(spawned(1, 1, 71))
        await keeper.start(DAEMON)
        assert [keeper.tick(0.0) for _ in range(2)] == pytest.approx([1.0, 1.0], abs=0.2)
        keeper._look_at = 0.0
        assert keeper.tick(0.0) == pytest.approx(4.5, abs=0.2)
        # Somebody takes something away: it is made again when that may be done, and looked once
        # more a second later.
        os.unlink(room.records.steps_path)
        async with asyncio.timeout(10):
            while keeper._look_at > asyncio.get_running_loop().time() + 1.1:
                await asyncio.sleep(0.001)
        assert keeper._calm_looks == 0
        keeper._look_at = 0.0
        assert keeper.tick(0.0) == pytest.approx(1.0, abs=0.2)
        # What waits for the disk is tried again all the time.
        outputs.is_holding = True
        assert keeper.tick(0.0) == SOON_S
        assert "outputs.tick" in room.all_said
        outputs.is_holding = False
        # Where somebody else serves a socket, every second.
        room.people["sockets"].is_complete = False
        for _ in range(3):
            keeper._look_at = 0.0
            assert keeper.tick(0.0) == pytest.approx(1.0, abs=0.2)

    play(act)


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells of changes elsewhere")
def test_what_nobody_has_touched_is_not_looked_at_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        keeper, places = room.keeper, room.records.places
        looked: list[bool] = []
        look = places.look

        def noted() -> list[str]:
            looked.append(True)
            return look()

        monkeypatch.setattr(places, "look", noted)

        def looks(times: int) -> int:
            looked.clear()
            for _ in range(times):
                keeper._look_at = 0.0
                keeper.tick(0.0)
            return len(looked)

        room.write(spawned(1, 1, 71))
        await keeper.start(DAEMON)
        looks(4)
        # The system tells not of everything: one in six looks at all there is.
        assert (looks(6), looks(6)) == (1, 1)
        os.unlink(room.records.steps_path)
        async with asyncio.timeout(10):
            while keeper._calm_looks:
                await asyncio.sleep(0.001)
        assert looks(2) == 2
        # What could not be made again is tried at every look.
        looks(6)
        monkeypatch.setattr(type(places), "is_well", False)
        looks(6)
        assert looks(6) == 6

    play(act)


def test_a_time_in_which_the_plugin_stood_still_is_held_against_nobody(play: Play) -> None:
    async def act(room: Room) -> None:
        await room.keeper.start(DAEMON)
        room.keeper.tick(0.0)
        assert not any("held_up" in line for line in room.said())
        room.keeper.tick(60.0)
        assert "driver.held_up 60.0" in room.said()

    play(act)
