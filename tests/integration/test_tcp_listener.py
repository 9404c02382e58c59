"""The TCP listener on real sockets, plain and with TLS, with a hub that echoes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codexd.api import door as door_module
from codexd.api import listener as listener_module
from codexd.api import penalties
from codexd.api import places as places_module
from codexd.api import server as server_module
from codexd.api.http import EVENT_STREAM, Access, Call, Stream
from codexd.api.server import ServerLimits
from codexd.api.table import Nothing, route
from codexd.store import token_file
from codexd.tls import BadTls
from tests.support.codex import short_directory
from tests.support.echo import round_trip
from tests.support.tcp import NAME, Certificates, TcpServer, tcp_server

Act = Callable[[TcpServer], Awaitable[None]]


class Ticks:
    """A stream that never ends by itself, and a body that is sent back."""

    def __init__(self) -> None:
        self.open = 0

    @route("GET", "/ticks", Access.READ, streams=(EVENT_STREAM,))
    async def ticks(self, call: Call[Nothing, None]) -> Stream:
        """Tick."""
        del call

        async def pieces() -> AsyncIterator[bytes]:
            self.open += 1
            try:
                while True:
                    yield b": tick\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self.open -= 1

        return Stream(pieces(), EVENT_STREAM)  # type: ignore[arg-type]

    @route("POST", "/act", Access.ADMIN)
    async def act(self, call: Call[Nothing, None]) -> str:
        """Do something."""
        del call
        return "done"


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificates: Certificates) -> Certificates | None:
    return certificates if request.param == "tls" else None


KEPT = "Host: localhost\r\nConnection: keep-alive\r\n"


def serve(
    place: Path,
    act: Act,
    tls: Certificates | None = None,
    limits: ServerLimits | None = None,
    noun: Ticks | None = None,
) -> None:
    async def main() -> None:
        nouns = [noun or Ticks()]
        async with tcp_server(place, tls, limits, nouns) as made, asyncio.timeout(30):
            await act(made)

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def kind(body: bytes) -> str:
    return str(json.loads(body)["type"]).removeprefix("urn:codexd:")


# -- who may what ---------------------------------------------------------------------------------


def test_each_token_opens_what_it_is_for(place: Path, tls: Certificates | None) -> None:
    async def act(made: TcpServer) -> None:
        assert await made.ask("/healthz") == (200, b'{"alive":true}\n')
        assert (await made.ask("/readyz"))[0] == 200
        for path in ("/v1/status", "/nothing", "/ticks", "/"):
            assert (await made.ask(path))[0] == 401, path
        assert (await made.ask("/v1/status", token=made.token))[0] == 200
        assert (await made.ask("/v1/status", token=made.read_token))[0] == 200
        assert (await made.ask("/nothing", token=made.read_token))[0] == 404
        assert (await made.ask("/act", method="POST", token=made.token)) == (200, b'"done"\n')
        status, body = await made.ask("/act", method="POST", token=made.read_token)
        assert (status, kind(body)) == (403, "forbidden")
        assert (await made.ask("/v1/status", token=made.token, Host="evil.example"))[0] == 403
        # A target that names a host counts, and `Host` does not.
        assert (await made.ask("http://evil.example/v1/status", token=made.token))[0] == 403
        assert (await made.ask("http://localhost/v1/status?", token=made.token, Host="x"))[0] == 200
        status, body = await made.ask("/v1/status", token=made.token, Origin="http://evil.example")
        assert (status, kind(body)) == (403, "foreign-origin")

    serve(place, act, tls)


def test_the_hub_is_for_the_token_for_everything(place: Path, tls: Certificates | None) -> None:
    async def act(made: TcpServer) -> None:
        text = '{"x":"' + "y" * 300_000 + '"}'
        async with made.websocket(made.token) as client:
            for _ in range(20):
                assert await round_trip(client, text) == text
        for token, status in ((None, 401), (made.read_token, 403), ("wrong" * 5, 401)):
            with pytest.raises(InvalidStatus) as caught:
                async with made.websocket(token):
                    pass
            assert caught.value.response.status_code == status
        for header in ("Origin", "Host"):
            with pytest.raises(InvalidStatus) as caught:
                async with made.websocket(made.token, **{header: "http://evil.example"}):
                    pass
            assert caught.value.response.status_code in (400, 403)
        assert made.hub.opened_clients == [1]

    serve(place, act, tls)


def test_a_stream_comes_piece_by_piece(place: Path, tls: Certificates | None) -> None:
    ticks = Ticks()

    async def act(made: TcpServer) -> None:
        reader, writer = await made.open()
        head = f"GET /ticks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.read_token}"
        writer.write(f"{head}\r\nAccept: text/event-stream\r\n\r\n".encode())
        await reader.readuntil(b": tick\n\n")
        await reader.readuntil(b": tick\n\n")
        assert ticks.open == 1
        writer.close()
        await until(lambda: ticks.open == 0)

    serve(place, act, tls, noun=ticks)


def test_a_connection_is_kept_for_the_next_request(place: Path, tls: Certificates | None) -> None:
    async def act(made: TcpServer) -> None:
        reader, writer = await made.open()
        for token, status in ((None, 401), (made.token, 200), (made.read_token, 200), (None, 401)):
            sent = "" if token is None else f"Authorization: Bearer {token}\r\n"
            writer.write(f"GET /v1/status HTTP/1.1\r\n{KEPT}{sent}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split(b" ")[1]) == status
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    serve(place, act, tls)


# -- tokens that change ---------------------------------------------------------------------------


def test_a_new_token_cuts_those_who_have_the_old_one(place: Path, tls: Certificates | None) -> None:
    ticks = Ticks()

    async def act(made: TcpServer) -> None:
        old = made.token
        reader, writer = await made.open()
        request = "GET /ticks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        writer.write(f"{request}{old}\r\n\r\n".encode())
        await reader.readuntil(b": tick\n\n")
        stays, other = await made.open()
        other.write(f"{request}{made.read_token}\r\n\r\n".encode())
        await stays.readuntil(b": tick\n\n")
        async with made.websocket(old) as client:
            assert await round_trip(client, "{}") == "{}"
            made.door.look()
            assert await round_trip(client, "{}") == "{}"
            token_file.rotate(made.token_path)
            # In force for the very next request, which also shows out who is not to be there.
            assert (await made.ask("/v1/status", token=made.token))[0] == 200
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
        await reader.read()
        assert (await made.ask("/v1/status", token=old))[0] == 401
        await stays.readuntil(b": tick\n\n")
        assert ticks.open == 1
        assert made.changes == [made.token_path]
        assert (await made.ask("/v1/status", token=made.read_token))[0] == 200
        other.close()
        writer.close()

    serve(place, act, tls, noun=ticks)


def test_a_token_file_in_trouble_lets_nobody_new_in_and_heals(place: Path) -> None:
    async def act(made: TcpServer) -> None:
        token, path = made.token, Path(made.token_path)
        async with made.websocket(token) as client:
            path.unlink()
            status, body = await made.ask("/v1/status", token=token)
            assert (status, kind(body)) == (503, "no-token")
            path.write_text(f"{token}\n")
            path.chmod(0o644)
            assert (await made.ask("/v1/status", token=token))[0] == 503
            assert (await made.ask("/v1/status", token=made.read_token))[0] == 200
            assert (await made.ask("/healthz"))[0] == 200
            path.chmod(0o600)
            assert (await made.ask("/v1/status", token=token))[0] == 200
            # Who was there has stayed.
            assert await round_trip(client, "{}") == "{}"
        assert len(made.faults) == 2
        assert all("codexd token --rotate" in fault for fault in made.faults)
        assert made.changes == []

    serve(place, act)


# -- strangers ------------------------------------------------------------------------------------


def test_wrong_tokens_wait_and_hold_up_nobody(
    place: Path, tls: Certificates | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(penalties, "_FIRST_S", 0.1)

    async def act(made: TcpServer) -> None:
        begun = time.monotonic()
        wrong = [asyncio.ensure_future(made.ask("/v1/status", token="guess" * 5)) for _ in range(4)]
        body = asyncio.ensure_future(
            made.ask("/act", method="POST", token="guess" * 5, body="x" * 100)
        )
        await until(lambda: len(made.wrong) == 5)
        # From the same address, and the loop is free.
        assert (await made.ask("/v1/status", token=made.token))[0] == 200
        assert not body.done()
        assert [status for status, _ in await asyncio.gather(*wrong, body)] == [401] * 5
        assert time.monotonic() - begun >= 0.1 * 2**4
        assert made.wrong == ["127.0.0.1"] * 5

    serve(place, act, tls)


def test_who_waits_for_the_answer_to_a_wrong_token_may_leave(place: Path) -> None:
    async def act(made: TcpServer) -> None:
        for head in ("GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n"):
            _, writer = await made.open()
            writer.write(f"{head}Host: localhost\r\nAuthorization: Basic eDp5\r\n\r\n".encode())
            await until(lambda: made.wrong)
            made.wrong.clear()
            writer.transport.abort()
        async with made.websocket(made.token) as client:
            assert await round_trip(client, "{}") == "{}"

    serve(place, act)


def test_strangers_of_one_address_make_room_for_each_other(
    place: Path, tls: Certificates | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_STRANGERS_OF_ONE", 3)

    async def act(made: TcpServer) -> None:
        async with made.websocket(made.token) as client, made.client() as local:
            # Mute, also before TLS has begun.
            mute = [await asyncio.open_connection("127.0.0.1", made.port) for _ in range(5)]
            async with asyncio.timeout(10):
                for reader, _ in mute[:2]:
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
            assert (await made.ask("/v1/status", token=made.token))[0] == 200
            assert await round_trip(client, "{}") == "{}"
            assert await round_trip(local, "{}") == "{}"
            for _, writer in mute:
                writer.close()

    serve(place, act, tls)


def test_strangers_of_all_addresses_together_are_few(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_STRANGERS", 2)

    async def act(made: TcpServer) -> None:
        readers = [(await made.open())[0] for _ in range(4)]
        assert [await reader.read() for reader in readers[:2]] == [b"", b""]
        assert (await made.ask("/v1/status", token=made.token))[0] == 200

    serve(place, act)


def test_who_says_nothing_is_sent_away(
    place: Path, tls: Certificates | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "_HANDSHAKE_S", 0.05)

    async def act(made: TcpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        # No TLS at all, where there is some.
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"\0" * 50)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        async with made.websocket(made.token) as client:
            assert await round_trip(client, "{}") == "{}"

    serve(place, act, tls, ServerLimits(head_timeout_s=0.05))


def test_a_stranger_makes_room_for_whoever_is_on_this_machine(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(made: TcpServer) -> None:
        stranger, _oldest = await made.open()
        _newer = await made.open()
        await until(lambda: len(made.door._strangers) == 2)
        room = iter([False])
        monkeypatch.setattr(places_module, "_are_free", lambda *_: next(room, True))
        monkeypatch.setattr(server_module, "is_lasting", lambda _: True)
        async with made.client() as local:
            assert await round_trip(local, "{}") == "{}"
        assert await stranger.read() == b""
        assert len(made.door._strangers) == 1

    serve(place, act)


def test_a_vanished_client_is_noticed_and_small_messages_go_at_once(
    place: Path, tls: Certificates | None
) -> None:
    async def act(made: TcpServer) -> None:
        async with made.websocket(made.token):
            (connection,) = made.server._connections
            assert connection.transport is not None
            end: socket.socket = connection.transport.get_extra_info("socket")
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not made.server.is_guest(connection)

    serve(place, act, tls)


# -- TLS ------------------------------------------------------------------------------------------


def test_a_renewed_certificate_is_taken(place: Path) -> None:
    certificates = Certificates(place)

    async def act(made: TcpServer) -> None:
        assert made.tls is not None
        assert made.tls.names == {NAME, "localhost", "127.0.0.1"}
        old = certificates.client
        async with made.websocket(made.token) as client:
            certificates.renew(NAME, "*.others.example", "localhost")
            made.tls.refresh()
            assert made.tls.names == {NAME, "*.others.example", "localhost"}
            assert (await made.ask("/v1/status", token=made.token))[0] == 200
            assert await round_trip(client, "{}") == "{}"
            certificates.client, new = old, certificates.client
            with pytest.raises(ssl.SSLError):
                await made.open()
            certificates.client = new
            certificates.key.write_bytes(b"")
            with pytest.raises(BadTls):
                made.tls.refresh()
            # Told once, and the one before goes on.
            made.tls.refresh()
            assert (await made.ask("/v1/status", token=made.token))[0] == 200

    serve(place, act, certificates)


def test_the_end_of_the_server_is_told(place: Path, tls: Certificates | None) -> None:
    seen: list[Any] = []

    async def act(made: TcpServer) -> None:
        async with made.websocket(made.token) as client:
            mute = await asyncio.open_connection("127.0.0.1", made.port)
            await until(lambda: len(made.door._strangers) == 1)
            await made.server.close()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            seen.append(caught.value.rcvd)
            with contextlib.suppress(ConnectionError):
                assert await mute[0].read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", made.port)

    serve(place, act, tls)
    assert seen[0].code == 1001


def test_who_does_not_read_is_cut_off(place: Path, tls: Certificates | None) -> None:
    async def act(made: TcpServer) -> None:
        _, writer = await made.open()
        head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(f"{head}{key}Authorization: Bearer {made.token}\r\n\r\n".encode())
        await until(lambda: made.hub.opened_clients)
        async with made.websocket(made.token) as client:
            sent = 0
            while not made.hub.cut:
                made.send(1, b"x" * 65_536)
                sent += 65_536
                await asyncio.sleep(0)
                assert sent < 64 << 20
            assert made.hub.cut[0][0] == 1
            assert await round_trip(client, "{}") == "{}"
        await until(lambda: made.hub.closed_clients[:1] == [1])

    serve(place, act, tls, ServerLimits(backlog_bytes=1 << 20))
