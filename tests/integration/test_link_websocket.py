"""The WebSocket transport against servers that do not do as codex does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from codexd.link import transport_websocket
from codexd.link.endpoint import Endpoint
from codexd.link.errors import LinkLost, LinkRefused, NotReading
from codexd.link.transport_websocket import WebSocketTransport
from tests.support.codex import short_directory
from tests.support.echo import EchoServer, echo_server

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "app.sock"


def transport_to(path: Path) -> WebSocketTransport:
    return WebSocketTransport(Endpoint("unix", f"unix://{path}", path=str(path)))


def answering(data: bytes) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        writer.close()

    return peer


def connect_to(path: Path, peer: Peer) -> None:
    async def main() -> None:
        server = await asyncio.start_unix_server(peer, path)
        transport = transport_to(path)
        lost: list[str] = []
        transport.bind(lambda _data: None, lost.append)
        try:
            async with asyncio.timeout(10):
                await transport.connect()
        finally:
            server.close()
            assert lost == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP 403"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no WebSocket"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "no WebSocket"),
    ],
)
def test_who_does_not_speak_websocket_has_refused(path: Path, answer: bytes, text: str) -> None:
    with pytest.raises(LinkRefused, match=text):
        connect_to(path, answering(answer))


def test_who_hangs_up_during_the_upgrade_may_be_tried_again(path: Path) -> None:
    with pytest.raises(ConnectionError) as caught:
        connect_to(path, answering(b""))
    assert not isinstance(caught.value, LinkRefused)


def test_nobody_there_is_an_os_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(transport_to(path).connect())


def with_echo(path: Path, act: Callable[[EchoServer, WebSocketTransport], Awaitable[None]]) -> None:
    async def main() -> None:
        async with echo_server(path) as echo, asyncio.timeout(20):
            await act(echo, transport_to(path))

    asyncio.run(main())


def test_messages_come_back_in_order_whatever_their_size(path: Path) -> None:
    sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * (n % 7) ** 6) for n in range(60)]
    heard: list[bytes] = []

    async def act(_echo: EchoServer, transport: WebSocketTransport) -> None:
        transport.bind(heard.append, lambda _reason: None)
        await transport.connect()
        for message in sent:
            transport.send(message)
        while len(heard) < len(sent):
            await asyncio.sleep(0.001)
        transport.close()

    with_echo(path, act)
    assert heard == sent


def test_a_farewell_of_the_server_is_a_loss(path: Path) -> None:
    lost: list[str] = []

    async def act(echo: EchoServer, transport: WebSocketTransport) -> None:
        transport.bind(lambda _data: None, lost.append)
        await transport.connect()
        echo.close_client(1, 1001, "")
        while not lost:
            await asyncio.sleep(0.001)
        with pytest.raises(LinkLost):
            transport.send(b"{}")
        # And may be connected anew.
        await transport.connect()
        transport.send(b"{}")
        transport.close()

    with_echo(path, act)
    assert len(lost) == 1


def test_a_server_that_says_farewell_and_stays_is_left(path: Path) -> None:
    lost: list[str] = []

    async def main() -> None:
        left = asyncio.Event()

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            protocol = ServerProtocol()
            protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
            request = protocol.events_received()[0]
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
            protocol.send_close(1001)
            writer.write(b"".join(protocol.data_to_send()))
            # Nothing more comes from here; the other end must go by itself.
            await reader.read()
            left.set()
            writer.close()

        server = await asyncio.start_unix_server(peer, path)
        transport = transport_to(path)
        transport.bind(lambda _data: None, lost.append)
        async with asyncio.timeout(10):
            await transport.connect()
            await left.wait()
            while not lost:
                await asyncio.sleep(0.001)
        server.close()

    asyncio.run(main())
    assert len(lost) == 1


def test_closing_is_no_loss_and_takes_leave(path: Path) -> None:
    lost: list[str] = []

    async def act(echo: EchoServer, transport: WebSocketTransport) -> None:
        transport.bind(lambda _data: None, lost.append)
        await transport.connect()
        transport.send(b'{"last":1}')
        transport.close()
        while not echo.hub.closed_clients:
            await asyncio.sleep(0.001)
        assert echo.hub.messages == [(1, b'{"last":1}')]

    with_echo(path, act)
    assert lost == []


def test_a_server_that_reads_nothing_fills_no_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_websocket, "UNREAD_LIMIT", 1 << 20)

    def flood(transport: WebSocketTransport) -> None:
        for _ in range(9):
            transport.send(b"y" * (1 << 20))

    async def act(echo: EchoServer, transport: WebSocketTransport) -> None:
        await transport.connect()
        # One loop: nobody reads before this function waits.
        with pytest.raises(NotReading, match="unread"):
            flood(transport)
        transport.close()
        del echo

    with_echo(path, act)
