"""The talk with the child goes on, whatever one connection or one message brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from codexd.config import resolve
from codexd.hub.introduction import Capabilities
from codexd.keeper import connector
from codexd.keeper.connector import Conversation
from codexd.link.errors import LinkUnauthorized


class FakeLink:
    """Opens at once; is lost when the test says so."""

    made: ClassVar[list[FakeLink]] = []

    def __init__(self, _transport: object, *, on_message: Any, on_lost: Any) -> None:
        self.on_message, self.on_lost = on_message, on_lost
        self.is_closed = False
        self.awaits_introduction = False
        FakeLink.made.append(self)

    async def open(self, timeout_s: float, introduction: Any) -> bytes:
        del timeout_s, introduction
        await asyncio.sleep(0)
        return b'{"userAgent":"x"}'

    def listen(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        pass

    def unread(self) -> list[bytes]:
        return [b'{"id":"hub-1","method":"turn/start"}']

    def close(self) -> None:
        self.is_closed = True


class FakeExchange:
    """Fails at the first ``failures`` children."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.readies = 0
        self.lost: list[list[bytes]] = []
        self.is_unused = False
        self.present: list[Capabilities] = []

    def child_ready(self, *_arguments: Any, **_options: Any) -> None:
        self.readies += 1
        if self.readies <= self.failures:
            raise TypeError("userAgent is null")

    def introduced(self, initialize_result: bytes) -> None:
        raise AssertionError(initialize_result)

    def child_message(self, data: bytes) -> None:
        pass

    def child_lost(self, reason: str, unread: list[bytes]) -> None:
        del reason
        self.lost.append(unread)
        if len(self.lost) <= self.failures:
            raise KeyError("turn")


def _run(tmp_path: Path, exchange: FakeExchange, act: Callable[[Conversation], Any]) -> list[int]:
    readies: list[int] = []

    async def main() -> None:
        FakeLink.made.clear()
        config = resolve({"repo_root": str(tmp_path)}, {}, cwd=str(tmp_path))
        talk = Conversation(
            config,
            exchange,
            lambda pid, _detail: readies.append(pid or 0),
            lambda _reason: None,
            lambda _data: None,
            lambda: None,
            lambda _reason: None,
        )
        talk.child_started(1, 4242)
        async with asyncio.timeout(20):
            await act(talk)
        await talk.close()

    asyncio.run(main())
    return readies


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "Link", FakeLink)
    monkeypatch.setattr(connector, "_RETRY_FIRST_S", 0.001)


def test_an_answer_that_cannot_be_handled_does_not_end_the_talk(tmp_path: Path) -> None:
    exchange = FakeExchange(failures=3)

    async def act(talk: Conversation) -> None:
        while not (talk.is_ready and exchange.readies == 4):
            await asyncio.sleep(0.001)

    # Ready is told once, of the connection that a client can use.
    assert _run(tmp_path, exchange, act) == [4242]
    assert [link.is_closed for link in FakeLink.made] == [True] * 4
    assert exchange.lost == [[], [], []]


def test_only_a_dead_child_leaves_messages_that_nobody_will_read(tmp_path: Path) -> None:
    exchange = FakeExchange()

    async def act(talk: Conversation) -> None:
        while not talk.is_ready:
            await asyncio.sleep(0.001)
        # The child lives, and may read what is in the pipe.
        FakeLink.made[0].on_lost("broken")
        while exchange.readies < 2:
            await asyncio.sleep(0.001)
        talk.child_ended("the server ended by signal 9")

    assert _run(tmp_path, exchange, act) == [4242, 4242]
    assert exchange.lost == [[], [b'{"id":"hub-1","method":"turn/start"}']]


def test_a_server_that_hangs_up_at_once_is_not_asked_in_a_busy_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "_RETRY_FIRST_S", 0.05)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def act(_talk: Conversation) -> None:
        monkeypatch.setattr(asyncio, "sleep", noted)
        for number in range(5):
            while len(FakeLink.made) <= number or exchange.readies <= number:
                await sleep(0)
            FakeLink.made[number].on_lost("hung up")
            await sleep(0)
        monkeypatch.undo()

    exchange = FakeExchange()
    _run(tmp_path, exchange, act)
    waited = [pause for pause in pauses if pause]
    assert waited[:4] == [0.05, 0.1, 0.2, 0.4]


def test_a_server_that_wants_a_token_is_told_of_once_and_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    told: list[str] = []

    async def refuse(_self: FakeLink, _timeout_s: float, _introduction: Any) -> bytes:
        nonlocal tries
        tries += 1
        raise LinkUnauthorized("It asks for a token.")

    async def main() -> None:
        config = resolve({"repo_root": str(tmp_path)}, {}, cwd=str(tmp_path))
        nothing = lambda *_arguments: None  # noqa: E731
        talk = Conversation(
            config, FakeExchange(), nothing, nothing, nothing, lambda: None, told.append
        )
        monkeypatch.setattr(FakeLink, "open", refuse)
        talk.child_started(1, 4242)
        async with asyncio.timeout(20):
            while tries < 3:
                await asyncio.sleep(0.001)
        # It is not overdue: nobody replaces it.
        assert talk.waiting_since is None
        await talk.close()

    asyncio.run(main())
    assert told == ["It asks for a token."]
