"""The server on codexd.sock, on real sockets, with a hub that echoes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from codexd.api import connection, service
from codexd.api.server import ServerLimits
from codexd.api.stale import SocketInUse
from tests.support.codex import short_directory
from tests.support.echo import EchoServer, echo_server, round_trip

Act = Callable[[EchoServer], Awaitable[None]]
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + KEY + b"\r\n"


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def serve(place: Path, act: Act, limits: ServerLimits | None = None) -> None:
    async def main() -> None:
        async with echo_server(place / "hub.sock", limits) as echo, asyncio.timeout(30):
            await act(echo)

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def close_code(answer: bytes) -> int:
    """The code of the close frame right behind the upgrade's head."""
    frame = answer.partition(b"\r\n\r\n")[2]
    assert frame[:1] == b"\x88"
    return int(struct.unpack("!H", frame[2:4])[0])


# -- being a server of codex ----------------------------------------------------------------------


def test_messages_of_each_client_come_and_go_in_order(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        async with echo.client() as one, echo.client() as two:
            for client, name in ((one, "one"), (two, "two")):
                for number in range(200):
                    await client.send(f'{{"{name}":{number}}}')
            for client, name in ((one, "one"), (two, "two")):
                for number in range(200):
                    assert await client.recv() == f'{{"{name}":{number}}}'
        await until(lambda: sorted(echo.hub.closed_clients) == [1, 2])

    serve(place, act)


@pytest.mark.parametrize(
    "request_head",
    [
        # As the vendor's terminal UI sends it (codex 0.163, `--remote unix://…`).
        b"GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        b"GET /any?path=x HTTP/1.1\r\nconnection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n",
        b"GET / HTTP/1.1\r\nHost: elsewhere\r\nOrigin: http://x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\n",
    ],
)
def test_it_upgrades_what_codex_upgrades(place: Path, request_head: bytes) -> None:
    async def act(echo: EchoServer) -> None:
        reader, writer = await asyncio.open_unix_connection(echo.path)
        # In pieces, and with the first message on its heels.
        writer.write(request_head[:11])
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(request_head[11:] + KEY + b"\r\n" + b"\x81\x82\0\0\0\0{}")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
        assert b"x-codex-websocket-max-unfragmented-message-bytes: 16777216" in head
        assert await reader.readexactly(4) == b"\x81\x02{}"
        writer.close()

    serve(place, act)


def test_pings_are_answered_and_binary_messages_ignored(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        async with echo.client() as client:
            await client.send(b'{"binary":1}')
            await (await client.ping())
            assert await round_trip(client, '{"text":1}') == '{"text":1}'
        assert echo.hub.messages == [(1, b'{"text":1}')]

    serve(place, act)


def test_a_message_of_a_hundred_megabytes_passes_both_ways(place: Path) -> None:
    text = '{"x":"' + "y" * ((100 << 20) - 8) + '"}'

    async def act(echo: EchoServer) -> None:
        async with echo.client() as client:
            # Longer than the backlog, and yet nobody is slow; a short one right behind it.
            await client.send(text)
            await client.send("{}")
            assert await client.recv() == text
            assert await client.recv() == "{}"
        assert echo.hub.cut == []

    serve(place, act)


def test_a_longer_message_ends_its_sender_with_1009_and_nobody_else(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        async with echo.client() as bad, echo.client() as good:
            await bad.send("x" * 1000)
            assert await bad.recv() == "x" * 1000
            await bad.send("x" * 1001)
            with pytest.raises(ConnectionClosed) as caught:
                await bad.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
            assert await round_trip(good, "{}") == "{}"
        assert [data for _, data in echo.hub.messages] == [b"x" * 1000, b"{}"]

    serve(place, act, ServerLimits(max_message_bytes=1000))


def test_a_sender_of_far_too_much_is_heard_out_and_told_why(place: Path) -> None:
    size = 32 << 20
    frame = b"\x81\xff" + struct.pack("!Q", size) + bytes(4) + bytes(size)

    async def act(echo: EchoServer) -> None:
        answer = await echo.exchange(UPGRADE + frame)
        assert close_code(answer) == 1009

    serve(place, act, ServerLimits(max_message_bytes=1000))


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
        (b"\x81\x02{}", 1002),
        (b"\xff\x80\0\0\0\0", 1002),
        (b"\x80\x80\0\0\0\0", 1002),
    ],
    ids=["not UTF-8", "not masked", "reserved bits", "continues nothing"],
)
def test_a_bad_frame_ends_its_sender_with_the_protocols_own_code(
    place: Path, frame: bytes, code: int
) -> None:
    async def act(echo: EchoServer) -> None:
        async with echo.client() as good:
            answer = await echo.exchange(UPGRADE + frame)
            assert close_code(answer) == code
            assert await round_trip(good, "{}") == "{}"
        await until(lambda: len(echo.hub.closed_clients) == 2)

    serve(place, act)


# -- clients that come and go ---------------------------------------------------------------------


def test_what_a_client_sent_before_it_left_is_heard(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        frames = b"".join(b"\x81\x82\0\0\0\0{}" for _ in range(500))
        _, writer = await asyncio.open_unix_connection(echo.path)
        writer.write(UPGRADE + frames)
        await writer.drain()
        writer.close()
        await until(lambda: echo.hub.closed_clients)
        assert len(echo.hub.messages) == 500
        assert echo.hub.closed_clients == [1]

    serve(place, act)


def test_closing_a_client_tells_it_why_and_hears_no_more_of_it(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        async with echo.client() as client:
            await round_trip(client, "{}")
            echo.close_client(1, 4000, "because é" * 40)
            echo.send(1, b"{}")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4000
            assert caught.value.rcvd.reason.startswith("because é")
        await until(lambda: echo.hub.closed_clients == [1])
        echo.send(1, b"{}")
        echo.close_client(1, 4000, "again")

    serve(place, act)


def test_a_client_that_ignores_the_farewell_is_ended_anyway(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_CLOSE_S", 0.05)

    async def act(echo: EchoServer) -> None:
        _, writer = await asyncio.open_unix_connection(echo.path)
        writer.write(UPGRADE)
        await until(lambda: echo.hub.opened_clients)
        echo.close_client(1, 1000, "")
        await until(lambda: echo.hub.closed_clients == [1])
        writer.close()

    serve(place, act)


def test_a_client_that_does_not_read_is_cut_off_and_slows_nobody(place: Path) -> None:
    limit = 1 << 20

    async def act(echo: EchoServer) -> None:
        _, writer = await asyncio.open_unix_connection(echo.path)
        writer.write(UPGRADE)
        await until(lambda: echo.hub.opened_clients)
        async with echo.client() as good:
            data = b'{"x":"' + b"y" * 60_000 + b'"}'
            sent = 0
            while not echo.hub.cut:
                echo.send(1, data)
                sent += len(data)
                assert sent < 4 * limit
                assert await round_trip(good, "{}") == "{}"
        await until(lambda: 1 in echo.hub.closed_clients)
        client, unread = echo.hub.cut[0]
        assert client == 1
        assert limit < unread < 2 * limit
        assert len(echo.hub.cut) == 1
        writer.close()

    serve(place, act, ServerLimits(backlog_bytes=limit))


def test_a_client_that_pings_and_does_not_read_is_cut_off_as_well(place: Path) -> None:
    limit = 1 << 20
    ping = b"\x89\xfd\0\0\0\0" + b"x" * 125

    async def act(echo: EchoServer) -> None:
        _, writer = await asyncio.open_unix_connection(echo.path)
        writer.write(UPGRADE)
        sent = 0
        while not echo.hub.cut:
            with contextlib.suppress(OSError):
                writer.write(ping * 500)
                await writer.drain()
            sent += 500 * len(ping)
            assert sent < 8 * limit
        _, unread = echo.hub.cut[0]
        assert limit < unread < 2 * limit
        await until(lambda: echo.hub.closed_clients == [1])
        writer.close()

    serve(place, act, ServerLimits(backlog_bytes=limit))


def test_a_client_that_floods_leaves_the_others_their_turn(place: Path) -> None:
    frames = b"\x81\x82\0\0\0\0{}" * 100_000

    async def act(echo: EchoServer) -> None:
        echo.hub.echo = False
        async with echo.client() as good:
            _, writer = await asyncio.open_unix_connection(echo.path)
            writer.write(UPGRADE + frames)
            await until(lambda: len(echo.hub.messages) > 100)
            echo.hub.echo = True
            heard = len(echo.hub.messages)
            await round_trip(good, '{"good":1}')
            # Some turns of the loop, a little work of the flood in each.
            assert len(echo.hub.messages) - heard < 10_000
            echo.hub.echo = False
            await until(lambda: len(echo.hub.messages) == 100_001)
            writer.close()

    serve(place, act)


def test_a_thousand_idle_clients_cost_little(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        before = _resident_bytes()
        writers = []
        for _ in range(1000):
            _, writer = await asyncio.open_unix_connection(echo.path)
            writer.write(UPGRADE)
            writers.append(writer)
        await until(lambda: len(echo.hub.opened_clients) == 1000)
        # Both ends are in this process.
        assert _resident_bytes() - before < 100 << 20
        for writer in writers:
            writer.close()
        await until(lambda: len(echo.hub.closed_clients) == 1000)

    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2200:
        if hard != resource.RLIM_INFINITY and hard < 2200:
            pytest.skip("this machine lets nobody open as many files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (2200, hard))
    serve(place, act)


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def test_who_connects_and_says_nothing_is_ended(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        assert await echo.exchange(b"") == b""
        assert await echo.exchange(b"GET /") == b""
        assert echo.hub.opened_clients == []

    serve(place, act, ServerLimits(head_timeout_s=0.05))


def test_only_the_same_user_gets_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "peer_uid", lambda _socket: os.getuid() + 1)

    async def act(echo: EchoServer) -> None:
        answer = b""
        # Reset or closed, as the timing has it.
        with contextlib.suppress(OSError):
            answer = await echo.exchange(UPGRADE)
        assert answer == b""
        assert echo.hub.opened_clients == []

    serve(place, act)


# -- HTTP -----------------------------------------------------------------------------------------


def test_http_on_the_same_socket(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        assert (await echo.get("/healthz"))[0] == 200
        assert (await echo.get("/readyz"))[0] == 200
        echo.is_ready = False
        assert (await echo.get("/readyz"))[0] == 503
        assert await echo.get("/v1/status") == (200, b'{"clients":0}\n')
        status, body = await echo.get("/v1/status?x=1")
        assert (status, json.loads(body)["field"]) == (400, "x")
        assert (await echo.get("/nothing"))[0] == 404
        assert (await echo.get("/healthz", method="DELETE"))[0] == 405

    serve(place, act)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + KEY + b"\r\n",
            b"405",
        ),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
    ],
    ids=["no HTTP", "upgrade by POST", "no key", "endless head", "long head"],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    place: Path, data: bytes, status: bytes
) -> None:
    async def act(echo: EchoServer) -> None:
        answer = await echo.exchange(data)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == status
        assert (b"\r\nAllow: GET" in head) == (status == b"405")
        assert json.loads(body)["status"] == int(status)
        assert body.count(b"\n") == 1
        assert echo.hub.opened_clients == []

    serve(place, act)


# -- the socket -----------------------------------------------------------------------------------


def test_the_socket_is_for_its_owner_alone(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        await echo.server.listen(str(place / "made" / "here.sock"))
        assert stat.S_IMODE(os.stat(echo.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(place / "made").st_mode) == 0o700
        assert stat.S_IMODE(os.stat(place / "made" / "here.sock").st_mode) == 0o600

    serve(place, act)
    assert not (place / "hub.sock").exists()
    assert not (place / "made" / "here.sock").exists()


def test_a_second_path_leads_to_the_same_hub(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        first, echo.path = echo.path, str(place / "second.sock")
        await echo.server.listen(echo.path)
        async with echo.client() as two:
            echo.path = first
            async with echo.client() as one:
                await round_trip(one, '{"one":1}')
                await round_trip(two, '{"two":2}')
        assert echo.hub.messages == [(2, b'{"one":1}'), (1, b'{"two":2}')]

    serve(place, act)


def test_a_stale_socket_is_replaced(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(place / "hub.sock"))
        left_over.listen()

    async def act(echo: EchoServer) -> None:
        assert (await echo.get("/healthz"))[0] == 200

    serve(place, act)


@pytest.mark.parametrize("kind", ["served", "file"])
def test_what_somebody_else_has_there_is_left_alone(place: Path, kind: str) -> None:
    path = place / "hub.sock"
    if kind == "file":
        path.write_text("precious")

    async def act() -> None:
        with pytest.raises(SocketInUse, match=r"hub\.sock"):
            async with echo_server(path):
                pass

    with socket.socket(socket.AF_UNIX) as other:
        if kind == "served":
            other.bind(str(path))
            other.listen()
        asyncio.run(act())
        assert path.exists()


def test_a_socket_that_was_taken_away_is_made_again(place: Path) -> None:
    async def act(echo: EchoServer) -> None:
        async with echo.client() as client:
            os.unlink(echo.path)
            await echo.server.heal()
            assert (await echo.get("/healthz"))[0] == 200
            assert await round_trip(client, "{}") == "{}"
            identity = os.stat(echo.path).st_ino
            await echo.server.heal()
            assert os.stat(echo.path).st_ino == identity

    serve(place, act)


def test_another_servers_socket_is_not_removed_at_the_end(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:

        async def act(echo: EchoServer) -> None:
            os.unlink(echo.path)
            other.bind(echo.path)

        serve(place, act)
        assert (place / "hub.sock").exists()


def test_at_the_end_clients_are_told(place: Path) -> None:
    async def act() -> None:
        async with asyncio.timeout(20):
            stack = echo_server(place / "hub.sock")
            echo = await stack.__aenter__()
            async with echo.client() as client:
                await round_trip(client, "{}")
                await stack.__aexit__(None, None, None)
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1001
            assert echo.hub.closed_clients == [1]

    asyncio.run(act())


@pytest.mark.parametrize("in_fragments", [False, True])
def test_half_sent_messages_of_all_clients_are_bounded_together(
    place: Path, in_fragments: bool
) -> None:
    def begun(opcode: int, length: int) -> bytes:
        """So many bytes of a message: a frame that is not its last, or the beginning of one."""
        first, declared = (opcode, length) if in_fragments else (0x81, 900_000)
        return struct.pack("!BBQ", first, 0xFF, declared) + b"\0\0\0\0" + b"x" * length

    async def act(echo: EchoServer) -> None:
        streams = [await asyncio.open_unix_connection(echo.path) for _ in range(3)]
        for (reader, writer), length in zip(streams, (300_000, 500_000, 100_000), strict=True):
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(begun(1, length))
            await writer.drain()
        async with echo.client() as other:
            assert await round_trip(other, "{}") == "{}"
            # Now it is too much: who holds most has to go, whoever came last.
            streams[2][1].write(begun(0, 150_000) if in_fragments else b"x" * 150_000)
            close = await streams[1][0].readexactly(4)
            assert (close[:1], struct.unpack("!H", close[2:4])[0]) == (b"\x88", 1013)
            # What it still sends costs nothing, and its place is free again.
            streams[1][1].write(b"x" * 10_000)
            assert await round_trip(other, '{"a":1}') == '{"a":1}'
        assert not streams[0][0].at_eof()
        for _, writer in streams:
            writer.close()

    serve(place, act, ServerLimits(unfinished_bytes=1_000_000))
