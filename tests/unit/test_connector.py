"""The talk with the child goes on, whatever one connection or one message brings."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from codexd.config import resolve
from codexd.hub.introduction import Capabilities, ClientInfo
from codexd.keeper import connector
from codexd.keeper.connector import Connector
from codexd.keeper.introduction import Introduction
from codexd.link.errors import (
    LinkLost,
    LinkRefused,
    LinkTimeout,
    LinkUnauthorized,
    RequestFailed,
)


class FakeLink:
    """Opens at once; is lost when the test says so."""

    made: ClassVar[list[FakeLink]] = []

    def __init__(self, _transport: object, *, on_message: Any, on_lost: Any) -> None:
        self.on_message, self.on_lost = on_message, on_lost
        self.is_closed = False
        self.awaits_introduction = False
        self.last_heard = 1.0
        self.introductions: list[Any] = []
        FakeLink.made.append(self)

    async def open(self, timeout_s: float, introduction: Any) -> bytes:
        del timeout_s, introduction
        await asyncio.sleep(0)
        return b'{"userAgent":"x"}'

    async def introduce(self, params: Any, timeout_s: float) -> bytes:
        raise AssertionError(params, timeout_s)

    async def request(self, method: str, params: Any, timeout_s: float) -> bytes:
        del params, timeout_s
        raise RequestFailed(method, -32601, "unknown")

    async def probe(self, timeout_s: float) -> None:
        if timeout_s == 0:
            raise TimeoutError

    def listen(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        pass

    def unread(self) -> list[bytes]:
        return [b'{"id":"hub-1","method":"turn/start"}']

    def close(self) -> None:
        self.is_closed = True


class FakeDriver:
    """Fails at the first ``failures`` children."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.readies = 0
        self.lost: list[list[bytes]] = []
        self.ended = 0
        self.is_unused = False
        self.present: list[Capabilities] = []
        self.heard_threads: frozenset[str] = frozenset()
        self.answers = 0

    def answered(self) -> None:
        self.answers += 1

    def child_ready(self, *_arguments: Any, **_options: Any) -> None:
        self.readies += 1
        if self.readies <= self.failures:
            raise TypeError("userAgent is null")

    def introduced(self, send: Callable[[bytes], None], initialize_result: bytes) -> None:
        raise AssertionError(send, initialize_result)

    def child_message(self, data: bytes) -> None:
        pass

    def child_ended(self) -> None:
        self.ended += 1

    def child_lost(self, reason: str, unread: list[bytes]) -> None:
        del reason
        self.lost.append(unread)
        if len(self.lost) <= self.failures:
            raise KeyError("turn")


def _run(
    tmp_path: Path,
    driver: FakeDriver,
    act: Callable[[Connector], Any],
    *,
    pid: int | None = 4242,
    handed: list[int] | None = None,
    flags: dict[str, str] | None = None,
    refusals: list[str] | None = None,
) -> list[int]:
    readies: list[int] = []

    async def main() -> None:
        FakeLink.made.clear()
        config = resolve({"repo_root": str(tmp_path), **(flags or {})}, {}, cwd=str(tmp_path))
        os.makedirs(config.runtime.runtime_dir, exist_ok=True)
        connector = Connector(
            config.server,
            config.runtime.runtime_dir,
            driver,
            lambda generation, _feed: None if handed is None else handed.append(generation),
            lambda pid, _detail: readies.append(pid or 0),
            lambda _reason: None,
            lambda: None,
            refusals.append if refusals is not None else lambda _reason: None,
            Introduction(str(tmp_path), None),
            lambda feed, data: feed(data),
        )
        connector.child_started(1, pid)
        async with asyncio.timeout(20):
            await act(connector)
        await connector.close()

    asyncio.run(main())
    return readies


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "Link", FakeLink)
    monkeypatch.setattr(connector, "_RETRY_MIN_S", 0.001)


def test_an_answer_that_cannot_be_handled_does_not_end_the_talk(tmp_path: Path) -> None:
    driver = FakeDriver(failures=3)

    async def act(connector: Connector) -> None:
        while not (connector.is_ready and driver.readies == 4):
            await asyncio.sleep(0.001)

    # Ready is told once, of the connection that a client can use.
    assert _run(tmp_path, driver, act) == [4242]
    assert [link.is_closed for link in FakeLink.made] == [True] * 4
    assert driver.lost == [[], [], []]


def test_only_a_dead_child_leaves_messages_that_nobody_will_read(tmp_path: Path) -> None:
    driver = FakeDriver()

    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        # The child lives, and may read what is in the pipe.
        FakeLink.made[0].on_lost("broken")
        while driver.readies < 2:
            await asyncio.sleep(0.001)
        connector.child_ended("the server ended by signal 9")

    assert _run(tmp_path, driver, act) == [4242, 4242]
    assert driver.lost == [[], [b'{"id":"hub-1","method":"turn/start"}']]
    assert driver.ended == 1


def test_a_server_that_hangs_up_at_once_is_not_asked_in_a_busy_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "_RETRY_MIN_S", 0.05)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def act(_connector: Connector) -> None:
        monkeypatch.setattr(asyncio, "sleep", noted)
        for number in range(5):
            while len(FakeLink.made) <= number or driver.readies <= number:
                await sleep(0)
            FakeLink.made[number].on_lost("hung up")
            await sleep(0)
        monkeypatch.undo()

    driver = FakeDriver()
    _run(tmp_path, driver, act)
    waited = [pause for pause in pauses if pause]
    assert min(waited) == 0.05


@pytest.mark.parametrize("boot_s", [0.02, 0.08, 0.5, 3.0, 16.0])
def test_a_server_is_found_soon_after_it_listens(boot_s: float) -> None:
    waited, tries = 0.0, 1
    while waited < boot_s:
        waited += connector.pause_s(waited)
        tries += 1
    assert waited - boot_s <= max(boot_s / 8, 0.011)
    assert tries < 80
    assert connector.pause_s(3600) == 2


# -- the handshake, over a restart of the plugin -------------------------------------------------


class Driver(FakeDriver):
    """Notes what it is told of each child."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[bytes, bool, int | None]] = []

    def child_ready(self, *arguments: Any, **options: Any) -> None:
        super().child_ready(*arguments, **options)
        self.told.append((arguments[1], options["same_child"], options["pid"]))


class Initialized(FakeLink):
    """A connection on which somebody has shaken hands before."""

    async def open(self, timeout_s: float, introduction: Any) -> bytes | None:  # type: ignore[override]
        del timeout_s, introduction
        return None


def _speak(tmp_path: Path, driver: FakeDriver, pid: int | None = None) -> None:
    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0.001)

    _run(tmp_path, driver, act, pid=os.getpid() if pid is None else pid)


def test_the_next_plugin_knows_what_the_child_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Driver()
    _speak(tmp_path, first)
    assert first.told == [(b'{"userAgent":"x"}', False, os.getpid())]
    monkeypatch.setattr(connector, "Link", Initialized)
    second = Driver()
    _speak(tmp_path, second)
    assert second.told == [(b'{"userAgent":"x"}', True, os.getpid())]


def test_what_another_child_answered_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _speak(tmp_path, Driver())
    monkeypatch.setattr(connector, "Link", Initialized)
    other = Driver()
    _speak(tmp_path, other, pid=os.getppid())
    assert other.told == [(b"{}", False, os.getppid())]


@pytest.mark.parametrize("content", [b"", b"{", b'{"child":5,"result":{}}', b"\xff"])
def test_a_broken_record_of_it_is_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    _speak(tmp_path, Driver())
    (path,) = tmp_path.rglob("handshake.json")
    path.write_bytes(content)
    monkeypatch.setattr(connector, "Link", Initialized)
    driver = Driver()
    _speak(tmp_path, driver)
    assert driver.told == [(b"{}", False, os.getpid())]


# -- a server that refuses, is late, or is another -----------------------------------------------


class Refusing(FakeLink):
    """Refuses, or is not there, twice; then it opens."""

    trouble: ClassVar[list[Exception]] = []

    async def open(self, timeout_s: float, introduction: Any) -> bytes:
        if self.trouble:
            raise self.trouble.pop(0)
        return await super().open(timeout_s, introduction)


def test_a_server_that_is_late_is_asked_until_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "Link", Refusing)
    monkeypatch.setattr(
        Refusing, "trouble", [LinkTimeout("late"), LinkRefused("401"), LinkLost("gone")]
    )
    driver = FakeDriver()

    async def act(connector: Connector) -> None:
        assert connector.waiting_since is not None
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        assert connector.waiting_since is None

    assert _run(tmp_path, driver, act) == [4242]
    # What was never there is not lost.
    assert (driver.readies, driver.lost) == (1, [])
    assert [link.is_closed for link in FakeLink.made] == [True] * 4


def test_another_child_is_spoken_with_in_place_of_the_one_before(tmp_path: Path) -> None:
    driver = FakeDriver()

    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        connector.child_ended("the server ended by signal 9")
        assert not connector.is_ready
        assert connector.waiting_since is None
        connector.child_started(2, 4343)
        assert connector.waiting_since is not None
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)

    assert _run(tmp_path, driver, act) == [4242, 4343]
    assert (driver.readies, len(driver.lost)) == (2, 1)
    assert [link.is_closed for link in FakeLink.made] == [True, True]


def test_a_child_that_ends_before_it_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "Link", Refusing)
    monkeypatch.setattr(Refusing, "trouble", [LinkTimeout("late")] * 1000)
    driver = FakeDriver()

    async def act(connector: Connector) -> None:
        while not FakeLink.made:
            await asyncio.sleep(0)
        connector.child_ended("the server ended with code 1")
        made = len(FakeLink.made)
        await asyncio.sleep(0.02)
        assert len(FakeLink.made) == made
        assert connector.waiting_since is None
        with pytest.raises(ConnectionError):
            await connector.probe(1)
        with pytest.raises(LinkLost):
            await connector.ask("account/read", {}, 1)

    assert _run(tmp_path, driver, act) == []
    assert driver.lost == []


def test_an_answer_to_a_probe_and_nothing_less_is_a_sign_of_life(tmp_path: Path) -> None:
    driver = FakeDriver()

    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await connector.probe(0)
        assert driver.answers == 0
        await connector.probe(1)
        assert driver.answers == 1

    _run(tmp_path, driver, act)


def test_when_it_was_heard_last_is_known_after_it_is_gone(tmp_path: Path) -> None:
    async def act(connector: Connector) -> None:
        assert connector.last_heard == 0.0
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        FakeLink.made[0].last_heard = 17.0
        assert connector.last_heard == 17.0
        connector.child_ended("gone")
        assert connector.last_heard == 17.0

    _run(tmp_path, FakeDriver(), act)


@pytest.mark.parametrize(
    ("flags", "speaks", "has_endpoint"),
    [
        ({}, True, True),
        ({"mode": "exec", "server_args": "exec"}, False, False),
        ({"server_args": "something"}, False, True),
        # Nobody but its parent can speak with a server on stdio.
        ({"server_strategy": "external"}, False, False),
        ({"server_strategy": "external", "server_endpoint": "unix:///run/x"}, True, True),
    ],
)
def test_with_whom_it_speaks(
    tmp_path: Path, flags: dict[str, str], speaks: bool, has_endpoint: bool
) -> None:
    async def act(connector: Connector) -> None:
        assert (connector.endpoint is not None) == has_endpoint
        assert connector.speaks == speaks
        while has_endpoint and not connector.is_ready:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert connector.speaks == has_endpoint

    _run(tmp_path, FakeDriver(), act, flags=flags)


def test_the_output_of_each_child_goes_to_its_own_connection(tmp_path: Path) -> None:
    handed: list[int] = []

    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        connector.child_ended("gone")
        connector.child_started(2, 4343)
        while not connector.is_ready:
            await asyncio.sleep(0.001)

    _run(tmp_path, FakeDriver(), act, handed=handed)
    assert handed == [1, 2]


def test_a_server_that_wants_a_token_is_told_of_once_and_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "Link", Refusing)
    monkeypatch.setattr(Refusing, "trouble", [LinkUnauthorized("It asks for a token.")] * 1000)
    refusals: list[str] = []

    async def act(connector: Connector) -> None:
        while len(FakeLink.made) < 3:
            await asyncio.sleep(0.001)
        # It is not overdue: nobody replaces it.
        assert connector.waiting_since is None

    _run(tmp_path, FakeDriver(), act, refusals=refusals)
    assert refusals == ["It asks for a token."]


# -- a server that nobody has used yet, and its first client --------------------------------------

FIRST = ClientInfo("first", "1")


class Waiting(FakeLink):
    """Waits to be told with whom it speaks."""

    async def open(self, timeout_s: float, introduction: Any) -> bytes | None:  # type: ignore[override]
        self.introductions = [] if introduction is None else [introduction]
        self.awaits_introduction = introduction is None
        await super().open(timeout_s, introduction)
        return None if introduction is None else b"{}"

    async def introduce(self, params: Any, timeout_s: float) -> bytes:
        del timeout_s
        self.introductions.append(params)
        self.awaits_introduction = False
        await asyncio.sleep(0)
        return b'{"userAgent":"%s"}' % params["clientInfo"].name.encode()


class Unused(FakeDriver):
    """A hub that nobody has used."""

    def __init__(self) -> None:
        super().__init__()
        self.is_unused = True
        self.met: list[tuple[Any, bytes]] = []

    def introduced(self, send: Callable[[bytes], None], initialize_result: bytes) -> None:
        self.met.append((send, initialize_result))


@pytest.mark.parametrize(
    ("endpoint", "is_late", "names"),
    [
        ("stdio://x", False, [["first"]]),
        # A pipe is introduced once.
        ("stdio://x", True, [["codexd"]]),
        ("unix:///run/x", False, [["first"]]),
        # On a socket, codexd looks after the server first; then it has a connection anew.
        ("unix:///run/x", True, [["codex_app_server_daemon"], ["first"]]),
        ("ws://127.0.0.1:1", True, [["codex_app_server_daemon"], ["first"]]),
    ],
)
def test_the_first_client_is_the_one_with_whom_the_server_speaks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str,
    *,
    is_late: bool,
    names: list[list[str]],
) -> None:
    monkeypatch.setattr(connector, "Link", Waiting)
    for name in ("_ALONE_S", "_FIRST_EVER_S"):
        monkeypatch.setattr(connector, name, 0.02 if is_late else 60)
    driver = Unused()

    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        if is_late:
            while not FakeLink.made[0].introductions:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            greeting = connector.spare_introduction()
            assert greeting is not None
            assert [greeting["clientInfo"].name] == names[0]
            assert connector.is_caretaker == (len(names) > 1)
        connector.client_came(FIRST, Capabilities())
        while not driver.met:
            await asyncio.sleep(0.001)
        assert connector.is_ready
        link = FakeLink.made[-1]
        assert not link.is_closed
        assert driver.met == [(link.send, b'{"userAgent":"%s"}' % names[-1][0].encode())]
        assert not connector.is_caretaker

    assert _run(tmp_path, driver, act, flags={"server_endpoint": endpoint}) == [4242]
    asked = [[params["clientInfo"].name for params in link.introductions] for link in FakeLink.made]
    assert asked == names
    # To the hub it is one server, which was never away.
    assert (driver.readies, driver.lost) == (1, [])


def test_a_server_that_goes_while_nobody_has_come_is_lost_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "Link", Waiting)
    monkeypatch.setattr(connector, "_ALONE_S", 0.01)
    driver = Unused()

    async def act(_connector: Connector) -> None:
        for number in range(2):
            while len(FakeLink.made) <= number or not FakeLink.made[number].introductions:
                await asyncio.sleep(0.001)
            FakeLink.made[number].on_lost("hung up")
        while driver.readies < 3:
            await asyncio.sleep(0.001)

    _run(tmp_path, driver, act, flags={"server_endpoint": "unix:///run/x"})
    assert len(driver.lost) == 2
    assert driver.met == []


# -- another's server: the one before, or not -----------------------------------------------------


class Told(FakeLink):
    """Says who it is."""

    says: ClassVar[dict[str, bytes]] = {}

    async def request(self, method: str, params: Any, timeout_s: float) -> bytes:
        if method not in self.says:
            return await super().request(method, params, timeout_s)
        return self.says[method]


def _says(pid: int | None, *loaded: str) -> dict[str, bytes]:
    says = {"thread/loaded/list": json.dumps({"data": loaded}).encode()}
    if pid is not None:
        says["server/diagnostics"] = b'{"process":{"id":%d},"gauges":[]}' % pid
    return says


@pytest.mark.parametrize(
    ("before", "now", "heard", "is_same"),
    [
        (_says(7, "t"), _says(7, "t"), ["t"], True),
        (_says(7), _says(7), [], True),
        # A new process, whatever somebody else has loaded there already.
        (_says(7, "t"), _says(8, "t"), ["t"], False),
        # A container that was started again has the pid that it had.
        (_says(1, "t"), _says(1), ["t"], False),
        # A server that does not say who it is has the threads, or not.
        (_says(None, "t"), _says(None, "t", "u"), ["t"], True),
        (_says(None, "t"), _says(None, "u"), ["t"], False),
        (_says(None), _says(None), [], False),
        # What it says cannot be understood.
        ({}, {"server/diagnostics": b"[", "thread/loaded/list": b"7"}, ["t"], False),
    ],
)
def test_the_server_of_somebody_else_says_whether_it_is_the_one_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, bytes],
    now: dict[str, bytes],
    heard: list[str],
    *,
    is_same: bool,
) -> None:
    monkeypatch.setattr(connector, "Link", Told)
    monkeypatch.setattr(Told, "says", before)
    driver = Driver()

    async def act(connector: Connector) -> None:
        while not connector.is_ready:
            await asyncio.sleep(0.001)
        driver.heard_threads = frozenset(heard)
        Told.says = now
        FakeLink.made[0].on_lost("cut")
        while driver.readies < 2:
            await asyncio.sleep(0.001)

    flags = {"server_strategy": "external", "server_endpoint": "ws://127.0.0.1:1"}
    _run(tmp_path, driver, act, pid=None, flags=flags)
    assert [same for _, same, _ in driver.told] == [False, is_same]


@pytest.mark.parametrize("is_known", [True, False])
def test_on_a_pipe_the_first_client_ever_has_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    monkeypatch.setattr(connector, "Link", Waiting)
    monkeypatch.setattr(connector, "_ALONE_S", 0.01 if is_known else 60)
    monkeypatch.setattr(connector, "_FIRST_EVER_S", 60 if is_known else 0.01)
    if is_known:
        introduction = Introduction(str(tmp_path), None)
        data = introduction.came(FIRST, Capabilities())
        assert data is not None
        introduction.save(data)
    driver = Unused()

    async def act(_connector: Connector) -> None:
        while not driver.met:
            await asyncio.sleep(0.001)

    _run(tmp_path, driver, act, flags={"server_endpoint": "stdio://x"})
