"""circusd's end of the channel: orders, drains, and what else circus does meanwhile."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from circus.arbiter import Arbiter as CircusArbiter
from circus.commands import get_commands
from circus.controller import Controller
from circus.exc import ConflictError, MessageError
from tornado.ioloop import IOLoop

from codexd.child.told import Patience, Report
from codexd.circus_ext import arbiter as arbiter_module
from codexd.circus_ext import channel as channel_module
from codexd.circus_ext import rounds as rounds_module
from codexd.circus_ext.arbiter import handle_message, turns_told
from codexd.circus_ext.channel import Channel
from codexd.circus_ext.commands import Ready, Replace, Stop
from codexd.circus_ext.spawning import CannotSpawn, told_apart
from codexd.circus_ext.watcher import AppServerWatcher
from codexd.config import resolve
from codexd.contracts import RUNNING_TURN

CHILD = os.getpid()
PATIENCE = Patience(silence_s=15.0, start_s=60.0)


class Process:
    def send_signal(self, signum: int) -> None:
        assert signum == signal.SIGCONT


class Watcher:
    drains = True

    def __init__(self, pid: int) -> None:
        self.processes: dict[int, Any] = {pid: Process()}
        self.graceful_timeout = 30.0
        self.published: list[dict[str, Any]] = []

    def notify_event(self, topic: str, message: dict[str, Any]) -> None:
        assert topic == "draining"
        self.published.append(message)


class Arbiter:
    """As much of circus's as the channel touches."""

    def __init__(self) -> None:
        self.child, self.plugin = Watcher(CHILD), Watcher(CHILD)
        self._watchers_names = {"codex-app-server": self.child, "plugin:codexd": self.plugin}
        self._stopping = self._restarting = False
        self._exclusive_running_command: str | None = None
        self.stops = 0
        self.codexd: Channel | None = None

    @property
    def loop(self) -> IOLoop:
        return IOLoop.current()

    def iter_watchers(self) -> list[Watcher]:
        return [self.child, self.plugin]

    def stop(self) -> Any:
        if self._restarting or self._exclusive_running_command is not None:
            raise ConflictError("arbiter is restarting...")
        self.stops += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Rig:
    def __init__(self) -> None:
        self.arbiter = Arbiter()
        self.channel = Channel(self.arbiter, PATIENCE, {})
        self.published = self.arbiter.child.published
        self.channel.told.became_ready(CHILD)

    def tell(self, **facts: Any) -> None:
        report = {"plugin": CHILD, "child": CHILD, "server": "up", "turns": 0, **facts}
        self.channel.take(Report(**report))

    async def ordered(self) -> int:
        """The number of the order that was published last, once there is one."""
        while not self.published or not self.published[-1]["holds"]:
            await asyncio.sleep(0.001)
        return int(self.published[-1]["order"])

    async def drain(self, grace_s: float) -> float:
        """How long it waits for the child's turns."""
        begun = time.monotonic()
        with self.channel.ending(grace_s):
            await self.channel.no_turns([CHILD])
        return time.monotonic() - begun


def test_a_drain_ends_with_the_first_word_under_its_order_that_no_turn_runs() -> None:
    async def play() -> None:
        rig = Rig()
        rig.tell()
        drain = asyncio.ensure_future(rig.drain(30))
        order = await rig.ordered()
        # Said before the plugin heard of it, it does not count.
        rig.tell(drain=order - 1)
        await asyncio.sleep(0.1)
        rig.tell(drain=order, holds=True, turns=1)
        await asyncio.sleep(0.1)
        assert not drain.done()
        rig.tell(drain=order, holds=True)
        assert await drain < 10
        # What was held back is let go.
        assert rig.published[-1] == {"order": order + 1, "holds": False}

    asyncio.run(play())


def test_silence_is_waited_out_and_no_longer() -> None:
    async def play() -> None:
        assert 0.3 <= await Rig().drain(0.3) < 5

    asyncio.run(play())


def test_the_last_word_on_the_time_counts_for_all_who_wait() -> None:
    async def play() -> None:
        rig = Rig()
        first = asyncio.ensure_future(rig.drain(1000))
        await rig.ordered()
        assert await rig.drain(0.1) < 5
        assert await first < 5

    asyncio.run(play())


def test_hurry_cuts_it() -> None:
    async def play() -> None:
        rig = Rig()
        drain = asyncio.ensure_future(rig.drain(1000))
        await rig.ordered()
        rig.channel.hurry()
        assert await drain < 5

    asyncio.run(play())


def test_an_order_is_told_again_to_a_plugin_that_came_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "PERIOD_S", 0.05)

    async def play() -> None:
        rig = Rig()
        drain = asyncio.ensure_future(rig.drain(1000))
        order = await rig.ordered()
        while len(rig.published) < 3:
            await asyncio.sleep(0.01)
        assert rig.published[-1] == {"order": order, "holds": True}
        rig.channel.hurry()
        await drain

    asyncio.run(play())


def test_a_plugin_that_missed_the_end_of_a_drain_is_told_when_it_says_so() -> None:
    async def play() -> None:
        rig = Rig()
        rig.tell(holds=True)
        assert rig.published == [{"order": 1, "holds": False}]
        with rig.channel.ending(10):
            rig.tell(holds=True, drain=1)
            assert len(rig.published) == 1

    asyncio.run(play())


def test_what_was_idle_a_moment_ago_is_not_asked_about_again() -> None:
    async def play() -> None:
        rig = Rig()
        with rig.channel.ending(30):
            waiting = asyncio.ensure_future(_awaited(rig.channel.no_turns([CHILD])))
            rig.tell(drain=await rig.ordered(), holds=True)
            await waiting
            # The plugin may end beside the child now.
            async with asyncio.timeout(20):
                await rig.channel.no_turns([CHILD])
            assert len(rig.published) == 1

    asyncio.run(play())


async def _awaited(future: Any) -> None:
    await future


def test_a_command_of_circus_waits_for_another() -> None:
    async def play() -> None:
        rig = Rig()
        refused = 0

        def command() -> Any:
            nonlocal refused
            if refused < 3:
                refused += 1
                raise ConflictError("arbiter is already running x command")
            done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            done.set_result("done")
            return done

        assert await rig.channel.exclusively(command) == "done"
        assert refused == 3

    asyncio.run(play())


def test_the_periodic_look_leaves_it_where_another_command_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Any) -> None:
        raise ConflictError("arbiter is already running x command")

    monkeypatch.setattr(arbiter_module, "manage", refuse)
    monkeypatch.setattr(arbiter_module, "is_complete", lambda _: False)
    assert arbiter_module.manage_or_leave_it(None) is None


def test_the_periodic_look_is_none_where_there_is_nothing_to_find(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(arbiter_module, "manage", looks.append)
    for is_complete in (True, False, True):
        monkeypatch.setattr(arbiter_module, "is_complete", lambda _, told=is_complete: told)
        arbiter_module.manage_or_leave_it(None)
    assert len(looks) == 1


def test_a_hung_plugin_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        rig = Rig()
        killed: list[int] = []
        monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
        monkeypatch.setattr(
            rig.channel.watch, "looked", lambda pid, _now, **given: f"{pid} {given}"
        )
        rig.channel._look_at_plugin()
        assert killed == [CHILD]

    asyncio.run(play())


class Looks:
    """The looks of a channel at the plugin, a hundred a second."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel_module, "PERIOD_S", 0.01)
        monkeypatch.setattr(rounds_module, "PERIOD_S", 0.01)
        self.at_plugin: list[float] = []
        monkeypatch.setattr(rig.channel, "_look_at_plugin", self.at_plugin.append)

    async def several(self) -> None:
        seen = len(self.at_plugin)
        async with asyncio.timeout(20):
            while len(self.at_plugin) < seen + 3:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_plugin_is_looked_at_whatever_is_wrong_with_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_first: bool
) -> None:
    def fail() -> bool:
        raise ValueError("unforeseen")

    async def play() -> None:
        rig = Rig()
        looks = Looks(rig, monkeypatch)
        others = (fail, lambda: True) if is_first else (lambda: True, fail)
        rig.channel.begin(*others, [str(tmp_path)])
        await looks.several()
        assert set(looks.at_plugin) == {0.01}
        rig.channel.close()

    asyncio.run(play())


def test_when_an_arbiter_has_ended_nothing_of_its_looks_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        rig = Rig()
        looks = Looks(rig, monkeypatch)
        closed: list[Any] = []
        watch = SimpleNamespace(look=lambda: True, close=lambda: closed.append("the watch"))
        monkeypatch.setattr(rounds_module, "watch_directories", lambda *_: watch)
        rig.channel.begin(lambda: True, lambda: True, [])
        await looks.several()
        monkeypatch.setattr(CircusArbiter, "stop_controller_and_close_sockets", closed.append)
        rig.arbiter.codexd = rig.channel
        arbiter_module.close(rig.arbiter)
        assert closed == ["the watch", rig.arbiter]
        looks.at_plugin.clear()
        # A late word of the plugin wakes nobody.
        rig.tell()
        await asyncio.sleep(0.1)
        assert looks.at_plugin == []

    asyncio.run(play())


def test_the_end_waits_for_another_command_of_circus_however_long_that_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "_CONFLICT_LIMIT_S", 0.0)

    async def play() -> None:
        rig = Rig()
        rig.arbiter._exclusive_running_command = "watcher_restart"
        end = asyncio.ensure_future(_awaited(rig.channel.end(0.0)))
        await asyncio.sleep(0.1)
        assert not end.done()
        rig.arbiter._exclusive_running_command = None
        await end
        assert rig.arbiter.stops == 1

    asyncio.run(play())


@pytest.mark.parametrize("restart_is_first", [True, False])
def test_a_restart_of_circus_as_a_whole_becomes_its_end(restart_is_first: bool) -> None:
    async def play() -> None:
        rig = Rig()
        circus = rig.arbiter

        def restart() -> None:
            circus._stopping = circus._restarting = True
            circus._exclusive_running_command = "arbiter_restart"

        if restart_is_first:
            restart()
        end = asyncio.ensure_future(_awaited(rig.channel.end(30)))
        await asyncio.sleep(0.1)
        if not restart_is_first:
            restart()
            rig.channel.hurry()
        while circus._restarting:
            await asyncio.sleep(0.001)
        # What the child gets is what was given last, until circus is through with it.
        assert not end.done()
        assert rig.channel.time_given is not None
        circus._exclusive_running_command = None
        await end
        assert circus.stops == 0

    asyncio.run(play())


def test_at_a_terminal_it_is_told_which_turns_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play() -> None:
        rig = Rig()
        rig.channel = Channel(rig.arbiter, PATIENCE, {}, lambda: ["  a turn runs on thread t1"])
        rig.channel.told.became_ready(CHILD)
        rig.tell(turns=1)
        rig.channel.is_ending = True
        await rig.drain(0.8)

    asyncio.run(play())
    assert "thread t1" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    asyncio.run(play())
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("codexd: waiting for 1 running turn to end, at most ")
    assert second == "codexd:   a turn runs on thread t1"


def test_the_turns_that_run_are_those_on_record(tmp_path: Path) -> None:
    paths = resolve({"repo_root": str(tmp_path)}, {}, cwd="/").paths
    assert turns_told(paths) == []
    sessions = [
        {
            "sessionId": f"session-{number}",
            "purpose": "duplex",
            "threadId": f"t{number}",
            "status": "closed" if number == 1 else "active",
            "endpoint": "stdio://x",
            "createdAt": "",
            "updatedAt": "",
            "metadata": {} if number == 2 else {RUNNING_TURN: "u"},
        }
        for number in range(15)
    ]
    os.makedirs(paths.state_dir)
    Path(paths.session_registry_path).write_text(json.dumps({"sessions": sessions}))
    first, *_, last = told = turns_told(paths)
    assert len(told) == 11
    assert (first, last) == ("  a turn runs on thread t0", "  and 3 more")
    assert not {"  a turn runs on thread t1", "  a turn runs on thread t2"} & set(told)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"1", b'{"command": 1}', b'{"id": 1}', b"\xff", b"[" * 100_000, b"{"],
)
def test_what_is_no_command_is_answered_in_one_line(text: bytes) -> None:
    frames: list[Any] = []
    controller = Controller.__new__(Controller)
    controller.commands = get_commands()
    controller.stream = SimpleNamespace(send=lambda frame, *_: frames.append(frame))
    handle_message(controller, [b"who", text])
    who, answer = frames
    assert who == b"who"
    error = json.loads(answer)
    assert error["status"] == "error"
    assert error["reason"]
    assert "\n" not in error["reason"]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        (Ready, {"pid": {}}),
        (Ready, {"pid": True}),
        (Replace, {"pid": "7"}),
        (Replace, {"graceful_timeout": "5"}),
        (Replace, {"graceful_timeout": -1}),
        (Stop, {"graceful_timeout": True}),
        (Stop, {"graceful_timeout": float("nan")}),
    ],
)
def test_a_command_with_a_wrong_value_does_nothing_and_names_it(
    command: Any, wrong: dict[str, Any]
) -> None:
    # Whatever the command would do to it fails: it has nothing.
    watcher = AppServerWatcher.__new__(AppServerWatcher)
    arbiter: Any = SimpleNamespace(get_watcher=lambda _: watcher, codexd=Rig().channel)
    properties = {"name": "codex-app-server", "pid": CHILD, "graceful_timeout": 5.0, **wrong}
    with pytest.raises(MessageError, match=f"{next(iter(wrong))} must be"):
        command().execute(arbiter, properties)


@pytest.mark.parametrize(
    ("number", "is_shortage"),
    [(errno.ENOSPC, True), (errno.EMFILE, True), (errno.EAGAIN, True), (errno.ENOENT, False)],
)
def test_what_the_system_is_short_of_is_told_from_what_is_wrong(
    number: int, is_shortage: bool
) -> None:
    with pytest.raises(CannotSpawn) as caught, told_apart():
        raise OSError(number, os.strerror(number))
    assert caught.value.is_shortage == is_shortage
