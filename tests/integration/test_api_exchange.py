"""HTTP on real sockets: requests that follow each other, bodies, streams, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexd.api import connection, exchange
from codexd.api.http import EVENT_STREAM, Access, Answer, Call, Stream, event_frame
from codexd.api.server import ServerLimits
from codexd.api.table import route
from tests.support.codex import short_directory
from tests.support.echo import EchoServer, echo_server

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Act = Callable[[EchoServer, "Things", Reader, Writer], Awaitable[None]]


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Things:
    """Routes that answer late, in pieces, for ever, or not at all."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ended = asyncio.Event()
        self.sent = 0

    @route("POST", "/back", Access.ADMIN, body=Text, status=HTTPStatus.CREATED)
    async def back(self, call: Call[Any, Text]) -> Text:
        """Send it back."""
        return call.body

    @route("GET", "/late", Access.READ)
    async def late(self, call: Call[Any, None]) -> dict[str, Any]:
        """Answer when told."""
        del call
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        return {"late": True}

    @route("GET", "/fails", Access.READ)
    async def fails(self, call: Call[Any, None]) -> None:
        """Fail."""
        raise KeyError(call.head.path)

    @route("GET", "/three", Access.READ)
    async def three(self, call: Call[Any, None]) -> Stream:
        """Three events."""
        del call

        async def pieces() -> AsyncGenerator[bytes, None]:
            for number in range(3):
                yield event_frame(b"{}", event="x", number=number)
                await asyncio.sleep(0)

        return Stream(pieces(), EVENT_STREAM)

    @route("GET", "/breaks", Access.READ)
    async def breaks(self, call: Call[Any, None]) -> Stream:
        """Fail in the middle."""

        async def pieces() -> AsyncGenerator[bytes, None]:
            yield b"half "
            raise KeyError(call.head.path)

        return Stream(pieces(), EVENT_STREAM)

    @route("GET", "/large", Access.READ)
    async def large(self, call: Call[Any, None]) -> Answer:
        """A large answer."""
        del call
        self.sent += 1
        return Answer(b"x" * (1 << 20))

    @route("GET", "/endless", Access.READ)
    async def endless(self, call: Call[Any, None]) -> Stream:
        """More than anyone reads."""
        del call

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    self.sent += 1
                    yield b"x" * 4096
            finally:
                self.ended.set()

        return Stream(pieces(), EVENT_STREAM)


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def play(place: Path, act: Act, limits: ServerLimits | None = None) -> None:
    async def main() -> None:
        things = Things()
        serving = echo_server(place / "hub.sock", limits, nouns=[things])
        async with serving as echo, asyncio.timeout(30):
            reader, writer = await asyncio.open_unix_connection(echo.path)
            try:
                await act(echo, things, reader, writer)
            finally:
                writer.close()

    asyncio.run(main())


def get(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if not any(line.startswith("Connection:") for line in headers):
        lines.append("Connection: keep-alive")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer(reader: Reader, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """One answer: status, headers by lower-case name, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
    }
    status = int(head[0].split(" ")[1])
    if has_body and headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return status, headers, body
    size = int(headers.get("content-length", 0)) if has_body else 0
    return status, headers, await reader.readexactly(size)


def test_requests_follow_each_other_on_one_connection(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo
        things.go.set()
        # All at once: each is answered, in order.
        writer.write(get("/healthz") + get("/late") + get("/nothing") + get("/readyz"))
        assert [(await answer(reader))[0] for _ in range(4)] == [200, 200, 404, 200]
        writer.write(get("/healthz", method="HEAD"))
        status, headers, body = await answer(reader, has_body=False)
        assert (status, headers["content-length"], body) == (200, "15", b"")
        writer.write(get("/healthz", "Connection: close"))
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""

    play(place, act)


def test_a_client_that_does_not_ask_for_more_can_read_to_the_end(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del things
        plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        # More that was sent at once is answered first.
        writer.write(plain + plain)
        assert "connection" not in (await answer(reader))[1]
        assert (await answer(reader))[1]["connection"] == "close"
        assert await reader.read() == b""
        assert (await echo.exchange(plain)).endswith(b'{"alive":true}\n')

    play(place, act)


def test_a_client_that_asks_once_more_at_once_is_answered(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_LINGER_S", 20.0)

    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        for _ in range(20):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await answer(reader))[1]["connection"] == "close"
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""

    play(place, act)


def test_bodies_whole_chunked_and_awaited(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        body = b'{"text":"' + b"y" * 200_000 + b'"}'
        writer.write(get("/back", method="POST", body=body))
        status, headers, sent = await answer(reader)
        assert (status, headers["content-type"]) == (201, "application/json")
        assert json.loads(sent) == json.loads(body)
        chunked = b'9\r\n{"text":"\r\n3\r\nz"}\r\n0\r\n\r\n'
        writer.write(get("/back", "Transfer-Encoding: chunked", method="POST") + chunked)
        assert (await answer(reader))[::2] == (201, b'{"text":"z"}\n')
        writer.write(get("/back", "Expect: 100-continue", "Content-Length: 12", method="POST"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        writer.write(b'{"text":"w"}')
        assert (await answer(reader))[::2] == (201, b'{"text":"w"}\n')

    play(place, act)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET http://x/healthz HTTP/1.1\r\nHost: y\r\n\r\n",
        b"GET HTTPS://[::1]:80/healthz HTTP/1.1\r\nHost: y\r\n\r\n",
        # As whoever types it sends it.
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        get("/healthz", "Upgrade: h2c"),
    ],
)
def test_what_is_asked_for_in_another_way_is_answered(place: Path, sent: bytes) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        for byte in sent[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write(sent[-1:])
        assert (await answer(reader))[::2] == (200, b'{"alive":true}\n')

    play(place, act)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (get("/back", method="POST", body=b"y" * ((1 << 20) + 1)), 413),
        # Nobody waits for a body that is too long, or for more of what is no HTTP.
        (get("/back", "Expect: 100-continue", "Content-Length: 1048577", method="POST"), 413),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (get("/back", "Content-Length: 2", "Transfer-Encoding: chunked", method="POST"), 400),
        (get("/back", "Content-Encoding: gzip", method="POST", body=b"\x1f\x8b"), 415),
        (get("/back", "Content-Length: 7", "Content-Length: 8", method="POST"), 400),
        (get("/back", "Content-Length: -1", method="POST"), 400),
        (get("/back", "Transfer-Encoding: gzip", method="POST"), 400),
        (get("/back", "Transfer-Encoding: chunked", method="POST") + b"no size\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /heal\x00thz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (get("/healthz") + b"nonsense\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_told_so_and_is_the_last(
    place: Path, sent: bytes, status: int
) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del things
        writer.write(sent)
        told, headers, body = await answer(reader)
        if told == 200:
            told, headers, body = await answer(reader)
        assert told == status
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status
        assert "bytearray" not in problem["detail"]
        assert await reader.read() == b""
        # Nobody else notices.
        assert (await echo.get("/healthz"))[0] == 200

    play(place, act)


def test_a_route_that_fails_is_no_trouble_of_the_next(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        writer.write(get("/fails") + get("/healthz"))
        status, _, body = await answer(reader)
        assert (status, json.loads(body)["type"]) == (503, "urn:codexd:failed")
        assert b"KeyError" not in body
        assert (await answer(reader))[0] == 200

    play(place, act)


def test_a_request_that_does_not_come_whole_is_told_so(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        writer.write(get("/healthz"))
        assert (await answer(reader))[0] == 200
        writer.write(get("/back", "Content-Length: 9", method="POST"))
        assert (await answer(reader))[0] == 408
        assert await reader.read() == b""

    play(place, act, ServerLimits(head_timeout_s=0.2))


def test_a_connection_that_wants_nothing_more_is_ended_without_a_word(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        writer.write(get("/healthz"))
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""

    play(place, act, ServerLimits(head_timeout_s=0.2))


def test_a_stream_comes_piece_by_piece_and_another_request_may_follow(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        writer.write(get("/three") + get("/three", method="HEAD") + get("/healthz"))
        status, headers, body = await answer(reader)
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert body == b"".join(b"id: %d\nevent: x\ndata: {}\n\n" % n for n in range(3))
        assert (await answer(reader, has_body=False))[0] == 200
        assert (await answer(reader))[0] == 200

    play(place, act)


def test_whoever_leaves_is_not_answered_any_more(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        writer.write(get("/endless"))
        await reader.readexactly(100_000)
        writer.transport.abort()
        await things.ended.wait()
        assert (await echo.get("/healthz"))[0] == 200

    play(place, act)


def test_whoever_sends_no_more_is_answered_all_the_same(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo
        writer.write(get("/late"))
        writer.write_eof()
        things.go.set()
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""

    play(place, act)


@pytest.mark.parametrize("ends", ["at once", "before the answer", "after the answer"])
def test_a_connection_that_both_have_ended_is_gone(place: Path, ends: str) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        sent = b"" if ends == "at once" else get("/late")
        writer.write(sent)
        if ends != "after the answer":
            writer.write_eof()
            await asyncio.sleep(0.02)
        things.go.set()
        if sent:
            assert (await answer(reader))[0] == 200
        if ends == "after the answer":
            writer.write_eof()
        # Not only when there is no more patience with it.
        async with asyncio.timeout(connection._CLOSE_S / 2):
            while echo.server._connections:
                await asyncio.sleep(0.01)

    play(place, act)


def test_a_reader_that_does_not_read_is_cut_off(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(exchange.Exchange):
        def __init__(self, wire: Any, service: Any) -> None:
            super().__init__(wire, service, stall_s=0.2)

    monkeypatch.setattr(connection, "Exchange", Hasty)

    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del reader
        writer.write(get("/endless"))
        await things.ended.wait()
        assert things.sent < 2000
        assert [client for client, _ in echo.hub.cut] == [None]

    play(place, act)


def test_answers_that_are_not_read_hold_up_the_next(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        writer.write(get("/large") * 20)
        assert (await reader.readexactly(9)) == b"HTTP/1.1 "
        assert (await echo.get("/healthz"))[0] == 200
        assert things.sent < 3
        await reader.readexactly(20 << 20)
        assert things.sent == 20

    play(place, act)


def test_a_stream_that_fails_breaks_off(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del things
        writer.write(get("/breaks"))
        assert (await reader.read()).endswith(b"\r\n5\r\nhalf \r\n")
        assert (await echo.get("/healthz"))[0] == 200

    play(place, act)


def test_a_reader_that_reads_slowly_is_waited_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(exchange.Exchange):
        def __init__(self, wire: Any, service: Any) -> None:
            super().__init__(wire, service, stall_s=1.0)

    monkeypatch.setattr(connection, "Exchange", Hasty)

    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del things, reader, writer
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as slow:
            slow.setblocking(False)
            await loop.sock_connect(slow, echo.path)
            await loop.sock_sendall(slow, get("/large"))
            taken = 0
            while taken < 1 << 20:
                piece = await loop.sock_recv(slow, 60_000)
                assert piece
                taken += len(piece)
                await asyncio.sleep(0.08)
        assert echo.hub.cut == []

    play(place, act)


def test_who_asks_for_more_than_is_answered_is_read_no_further(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo
        writer.write(get("/late"))
        more = get("/healthz") * 2000
        for _ in range(200):
            writer.write(more)
        # What is not read stays with whoever sends it.
        while writer.transport.get_write_buffer_size() < len(more) * 150:
            await asyncio.sleep(0.01)
        things.go.set()
        assert (await answer(reader))[0] == 200
        assert (await answer(reader))[0] == 200

    play(place, act)


def test_a_websocket_cannot_begin_behind_another_request(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del things
        upgrade = get("/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        writer.write(get("/healthz") + upgrade)
        assert (await answer(reader))[0] == 200
        assert (await answer(reader))[0] == 400
        assert echo.hub.opened_clients == []

    play(place, act)


def test_who_asks_for_another_protocol_is_answered_in_this_one(place: Path) -> None:
    async def act(echo: EchoServer, things: Things, reader: Reader, writer: Writer) -> None:
        del echo, things
        h2c = get("/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
        writer.write(h2c + get("/healthz"))
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]

    play(place, act)
