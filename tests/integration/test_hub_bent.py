"""Bent messages, some thousand of them; more by hand: `python -m tests.faults.fuzz_hub`."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from codexd.hub.actions import Action, ToClient
from codexd.hub.hub import Hub
from codexd.hub.requests import Requests
from codexd.link.link import Link
from tests.faults.fuzz_hub import Fuzz, Talk, run
from tests.support import bent
from tests.support.codex import short_directory
from tests.support.echo import EchoServer, echo_server
from tests.support.schema import Schemas
from tests.unit.test_link_handshake import PlayedTransport, greet

pytestmark = pytest.mark.real
SEED = 20261125
HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_the_hub_bears_bent_messages_from_both_sides(schemas: Schemas) -> None:
    run(schemas, 8_000, SEED)


def _answers_twice(hub: Hub, data: bytes, now: float, was: Any = Hub.child_message) -> list[Action]:
    actions: list[Action] = was(hub, data, now)
    return [*actions, *(entry for entry in actions if isinstance(entry, ToClient))]


def _forgets_nothing(requests: Requests, client: int) -> None:
    del requests, client


@pytest.mark.parametrize(
    ("owner", "name", "fault", "told"),
    [
        (Hub, "child_message", _answers_twice, r'"(result|error)":'),
        (Requests, "client_gone", _forgets_nothing, "what waited of who left still waits"),
        (Hub, "not_sent", None, "requests without end"),
    ],
)
def test_the_fuzz_finds_a_planted_fault(
    schemas: Schemas,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    fault: Any,
    told: str,
) -> None:
    if fault is None:
        # Requests that the server would pass over are sent to it.
        monkeypatch.setattr("codexd.hub.jsonrpc.why_unheard", lambda _request: None)
    else:
        monkeypatch.setattr(owner, name, fault)
    # It ends with the first that is found: within 5,000 of them now.
    with pytest.raises(AssertionError, match=told):
        run(schemas, 200_000, SEED)


def _bent_connection(rng: random.Random) -> bytes:
    """What a client may send that means no good, or cannot do better."""
    frame = b"\x81" + bytes([0x80 | 2]) + b"\0\0\0\0{}"
    whole = HEAD + rng.choice((b"", frame)) + rng.randbytes(rng.randrange(60))
    return rng.choice((whole, bent.spoil(rng, HEAD) + frame, rng.randbytes(200), HEAD * 3))


def test_a_server_bears_bent_connections(schemas: Schemas) -> None:
    del schemas
    trouble: list[Any] = []
    rng = random.Random(SEED)

    async def send_bent(echo: EchoServer) -> None:
        _, writer = await asyncio.open_unix_connection(echo.path)
        writer.write(_bent_connection(rng))
        if rng.random() < 0.5:
            writer.write_eof()
        writer.close()

    async def main(place: Path) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: trouble.append(what))
        async with echo_server(place / "hub.sock") as echo, asyncio.timeout(60):
            for _ in range(400):
                await send_bent(echo)
            async with echo.client() as client:
                await client.send('{"a":1}')
                assert await client.recv() == '{"a":1}'

    with short_directory() as place:
        asyncio.run(main(place))
    assert trouble == []


def test_the_link_bears_bent_answers(schemas: Schemas) -> None:
    rng = random.Random(SEED)
    talk = Talk(schemas, SEED)
    fuzz = Fuzz(talk, SEED)

    async def main() -> None:
        transport = PlayedTransport(greet)
        heard: list[bytes] = []
        link = Link(transport, on_message=heard.append, on_lost=lambda _reason: None)
        await link.open(5, {"clientInfo": {"name": "codexd", "version": "1"}})
        link.listen()
        waiting = asyncio.ensure_future(link.probe(20))
        await asyncio.sleep(0)
        own = transport.sent[-1]["id"]
        for _ in range(2_000):
            message: dict[str, Any] = {"id": own + "0", "result": bent.junk(rng)}
            transport.on_message(fuzz.shaped(message))
        deep = b'{"id":"%s","x":%s}' % (own.encode(), b"[" * 100_000 + b"]" * 100_000)
        transport.on_message(deep)
        assert not waiting.done()
        transport.on_message(bent.text({"id": own, "result": {}}))
        await waiting

    asyncio.run(main())
