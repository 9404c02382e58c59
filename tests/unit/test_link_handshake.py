"""The link, over a transport that a test plays the child on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from codexd.link import link
from codexd.link.errors import LinkLost, LinkRefused, LinkTimeout, RequestFailed
from codexd.link.link import Link
from codexd.link.transport import OnLost, OnMessage, ignore_loss, ignore_message

Answer = Callable[[dict[str, Any]], object]
PARAMS = {"clientInfo": {"name": "codexd", "version": "1"}}
RESULT = {"userAgent": "codexd/1"}


class PlayedTransport:
    """Hands what is sent to ``play``, and its answer (if any) back a little later."""

    def __init__(self, play: Answer, *, absences: list[OSError] | None = None) -> None:
        self.play = play
        self.absences = absences or []
        self.connects = 0
        self.sent: list[dict[str, Any]] = []
        self.closed = False
        self.on_message: OnMessage = ignore_message
        self.on_lost: OnLost = ignore_loss

    def bind(self, on_message: OnMessage, on_lost: OnLost) -> None:
        self.on_message, self.on_lost = on_message, on_lost

    async def connect(self) -> None:
        self.connects += 1
        if self.absences:
            raise self.absences.pop(0)

    def send(self, data: bytes) -> None:
        message = json.loads(data)
        self.sent.append(message)
        answer = self.play(message)
        if answer is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: self.on_message(json.dumps(answer).encode()))

    def unread(self) -> list[bytes]:
        return []

    def close(self) -> None:
        self.closed = True


def greet(message: dict[str, Any]) -> object:
    if message["method"] == "initialize":
        return {"id": message["id"], "result": RESULT}
    return None


class Talk:
    """A link and what its owner heard."""

    def __init__(self, transport: PlayedTransport) -> None:
        self.heard: list[bytes] = []
        self.lost: list[str] = []
        self.link = Link(transport, on_message=self.heard.append, on_lost=self.lost.append)


def with_link(transport: PlayedTransport, act: Callable[[Talk], Awaitable[None]]) -> None:
    async def run() -> None:
        await act(Talk(transport))

    asyncio.run(run())


def test_the_handshake_is_the_introduction_and_ends_with_initialized() -> None:
    transport = PlayedTransport(greet)

    async def act(talk: Talk) -> None:
        result = await talk.link.open(5, PARAMS)
        assert result is not None
        assert json.loads(result) == RESULT

    with_link(transport, act)
    first, second = transport.sent
    assert first["method"] == "initialize"
    assert first["params"] == PARAMS
    assert second == {"method": "initialized"}


def test_a_child_can_be_found_before_it_is_told_who_speaks() -> None:
    def play(message: dict[str, Any]) -> object:
        if message["method"] == "initialize":
            return {"id": message["id"], "result": RESULT}
        refusal = {"code": -32600, "message": "Not initialized"}
        return {"id": message["id"], "error": refusal} if "id" in message else None

    transport = PlayedTransport(play)

    async def act(talk: Talk) -> None:
        await talk.link.open(5, None)
        assert talk.link.awaits_introduction
        await talk.link.probe(5)
        result = await talk.link.introduce(PARAMS, 5)
        assert json.loads(result or b"") == RESULT
        assert not talk.link.awaits_introduction

    with_link(transport, act)
    methods = [message["method"] for message in transport.sent]
    assert methods == ["thread/loaded/list", "thread/loaded/list", "initialize", "initialized"]


def test_a_child_that_says_nothing_or_anything_else_first_is_introduced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "_REFUSAL_S", 0.01)

    def other(message: dict[str, Any]) -> object:
        return {"id": message["id"], "result": {}}

    for play in (greet, other):

        async def act(talk: Talk) -> None:
            await talk.link.open(5, None)
            assert not talk.link.awaits_introduction

        with_link(PlayedTransport(play), act)


def test_a_child_that_is_not_there_yet_is_waited_for() -> None:
    absences: list[OSError] = [FileNotFoundError(2, "gone"), ConnectionRefusedError(111, "no")]
    transport = PlayedTransport(greet, absences=absences)

    async def act(talk: Talk) -> None:
        await talk.link.open(5, PARAMS)

    with_link(transport, act)
    assert transport.connects == 3


def test_an_absent_child_is_given_up_in_time_and_the_reason_told() -> None:
    absences: list[OSError] = [FileNotFoundError(2, "No such file") for _ in range(10_000)]
    transport = PlayedTransport(greet, absences=absences)

    async def act(talk: Talk) -> None:
        with pytest.raises(LinkTimeout, match=r"not there after 0\.05 s: No such file"):
            await talk.link.open(0.05, PARAMS)

    with_link(transport, act)
    assert transport.closed


def test_a_refusal_is_not_tried_again() -> None:
    transport = PlayedTransport(greet, absences=[LinkRefused("HTTP 401")])

    async def act(talk: Talk) -> None:
        with pytest.raises(LinkRefused, match="401"):
            await talk.link.open(5, PARAMS)

    with_link(transport, act)
    assert transport.connects == 1


def test_a_child_that_does_not_answer_the_handshake_is_given_up() -> None:
    async def act(talk: Talk) -> None:
        with pytest.raises(LinkTimeout, match="handshake"):
            await talk.link.open(0.02, PARAMS)
        with pytest.raises(LinkLost):
            await talk.link.request("x", {}, 5)

    with_link(PlayedTransport(lambda _message: None), act)


def test_a_pipe_that_was_initialized_before_is_as_good() -> None:
    def play(message: dict[str, Any]) -> object:
        if message["method"] == "initialize":
            error = {"code": -32600, "message": "Already initialized"}
            return {"id": message["id"], "error": error}
        return None

    async def act(talk: Talk) -> None:
        assert await talk.link.open(5, PARAMS) is None

    transport = PlayedTransport(play)
    with_link(transport, act)
    assert len(transport.sent) == 1


def test_another_error_of_the_handshake_is_one() -> None:
    def play(message: dict[str, Any]) -> object:
        return {"id": message["id"], "error": {"code": -32600, "message": "Too old"}}

    async def act(talk: Talk) -> None:
        with pytest.raises(RequestFailed, match="Too old"):
            await talk.link.open(5, PARAMS)

    with_link(PlayedTransport(play), act)


def test_what_comes_early_is_kept_until_somebody_listens_and_order_stays() -> None:
    transport = PlayedTransport(greet)

    async def act(talk: Talk) -> None:
        await talk.link.open(5, PARAMS)
        transport.on_message(b'{"n":1}')
        transport.on_message(b'{"n":2}')
        assert talk.heard == []
        talk.link.listen()
        transport.on_message(b'{"n":3}')
        assert talk.heard == [b'{"n":1}', b'{"n":2}', b'{"n":3}']

    with_link(transport, act)


def test_only_its_own_answers_are_taken_out() -> None:
    def play(message: dict[str, Any]) -> object:
        if message["method"] == "thread/loaded/list":
            return {"id": message["id"], "result": {"data": []}}
        return greet(message)

    async def act(talk: Talk) -> None:
        transport.play = play
        await talk.link.open(5, PARAMS)
        talk.link.listen()
        others = [
            b'{"id":"codexd-ffffffff-1","result":{}}',
            b'{"id":"codexd-x","method":"item/tool/call","params":{}}',
            b'{"method":"warning","params":{"message":"\\"codexd-1\\""}}',
            b'not "codexd-" json',
        ]
        asking = asyncio.ensure_future(talk.link.request("thread/loaded/list", {}, 5))
        await asyncio.sleep(0)
        for data in others:
            transport.on_message(data)
        assert json.loads(await asking) == {"data": []}
        assert talk.heard == others

    transport = PlayedTransport(greet)
    with_link(transport, act)


def test_a_late_answer_is_nobodys() -> None:
    transport = PlayedTransport(greet)

    async def act(talk: Talk) -> None:
        await talk.link.open(5, PARAMS)
        talk.link.listen()
        with pytest.raises(LinkTimeout, match="thread/loaded/list"):
            await talk.link.probe(0.01)
        late = transport.sent[-1]["id"]
        transport.on_message(json.dumps({"id": late, "result": {}}).encode())
        assert talk.heard == []
        assert talk.link.last_heard > 0

    with_link(transport, act)


def test_an_error_is_a_sign_of_life() -> None:
    def play(message: dict[str, Any]) -> object:
        if message["method"] == "thread/loaded/list":
            return {"id": message["id"], "error": {"code": -32001, "message": "Overloaded"}}
        return greet(message)

    async def act(talk: Talk) -> None:
        await talk.link.open(5, PARAMS)
        await talk.link.probe(5)

    with_link(PlayedTransport(play), act)


def test_a_loss_ends_every_wait_and_is_told_once() -> None:
    transport = PlayedTransport(greet)

    async def act(talk: Talk) -> None:
        await talk.link.open(5, PARAMS)
        asking = asyncio.ensure_future(talk.link.request("x", {}, 5))
        await asyncio.sleep(0)
        transport.on_lost("The server closed the connection.")
        with pytest.raises(LinkLost, match="closed"):
            await asking
        with pytest.raises(LinkLost):
            await talk.link.request("x", {}, 5)
        assert talk.lost == ["The server closed the connection."]

    with_link(transport, act)


def test_a_loss_during_the_handshake_is_the_openers_alone() -> None:
    def play(_message: dict[str, Any]) -> object:
        asyncio.get_running_loop().call_soon(transport.on_lost, "gone")
        return None

    async def act(talk: Talk) -> None:
        with pytest.raises(LinkLost, match="gone"):
            await talk.link.open(5, PARAMS)
        assert talk.lost == []

    transport = PlayedTransport(play)
    with_link(transport, act)


def test_closing_ends_every_wait_and_tells_nobody() -> None:
    async def act(talk: Talk) -> None:
        await talk.link.open(5, PARAMS)
        asking = asyncio.ensure_future(talk.link.probe(5))
        await asyncio.sleep(0)
        talk.link.close()
        with pytest.raises(LinkLost):
            await asking
        assert talk.lost == []

    with_link(PlayedTransport(greet), act)
