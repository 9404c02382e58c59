"""The link with the real codex, over each transport."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd.link.endpoint import parse_endpoint
from codexd.link.errors import LinkError, LinkLost, MessageTooLong
from codexd.link.link import Link
from codexd.link.transport import Transport
from codexd.link.transport_stdio import StdioTransport
from codexd.link.transport_websocket import WebSocketTransport
from codexd.wire.frames import CODEX_FRAME_BYTES, CODEX_MESSAGE_BYTES
from tests.support.codex import CodexServer, codex_path, free_port, short_directory
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

PARAMS = {
    "clientInfo": {"name": "codexd", "version": "1"},
    "capabilities": {"experimentalApi": True},
}


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


class Heard:
    """A link over ``transport``, and what it said."""

    def __init__(self, transport: Transport) -> None:
        self.messages: list[bytes] = []
        self.lost: list[str] = []
        self.link = Link(transport, on_message=self.messages.append, on_lost=self.lost.append)

    async def answer(self, identifier: str) -> bytes:
        """The answer to a request that was sent as a hub would."""
        marks = (f'"id":"{identifier}"'.encode(),)
        async with asyncio.timeout(20):
            while True:
                for message in self.messages:
                    if any(mark in message[:100] or mark in message[-100:] for mark in marks):
                        return message
                await asyncio.sleep(0.002)


def websocket(server: CodexServer) -> WebSocketTransport:
    return WebSocketTransport(parse_endpoint(server.endpoint, {}, cwd="/"))


def padded_request(size: int, identifier: str) -> bytes:
    """A request of exactly ``size`` bytes that codex answers."""
    head = b'{"id":"%s","method":"thread/loaded/list","params":{"x":"' % identifier.encode()
    return head + b"y" * (size - len(head) - 3) + b'"}}'


@contextlib.contextmanager
def running(server: CodexServer) -> Iterator[CodexServer]:
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("kind", ["unix", "ws"])
def test_it_waits_for_a_child_that_starts_and_hears_when_it_dies(place: Path, kind: str) -> None:
    endpoint = f"ws://127.0.0.1:{free_port()}" if kind == "ws" else None

    async def act(server: CodexServer) -> None:
        # The second start finds the socket that the killed one left behind.
        for _ in range(2):
            heard = Heard(websocket(server))
            opening = asyncio.ensure_future(heard.link.open(20, PARAMS))
            await asyncio.sleep(0)
            server.start()
            result = await opening
            assert result is not None
            assert json.loads(result)["userAgent"].startswith("codexd/")
            heard.link.listen()
            await heard.link.probe(10)
            assert heard.link.last_heard > 0
            server.kill()
            async with asyncio.timeout(10):
                while not heard.lost:
                    await asyncio.sleep(0.002)
            assert len(heard.lost) == 1
            with pytest.raises(LinkError):
                heard.link.send(b"{}")

    with running(CodexServer(place, endpoint)) as server:
        asyncio.run(act(server))


def test_it_sends_as_much_as_codex_takes_and_no_more(place: Path) -> None:
    async def act(server: CodexServer) -> None:
        heard = Heard(websocket(server))
        await heard.link.open(20, PARAMS)
        heard.link.listen()
        # The first does not fit one frame, the second is the longest message there is.
        for size, name in ((CODEX_FRAME_BYTES + 1, "frame"), (CODEX_MESSAGE_BYTES, "message")):
            heard.link.send(padded_request(size, name))
            assert b'"result"' in await heard.answer(name)
        with pytest.raises(MessageTooLong, match=str(CODEX_MESSAGE_BYTES + 1)):
            heard.link.send(padded_request(CODEX_MESSAGE_BYTES + 1, "long"))
        await heard.link.probe(10)
        heard.link.close()
        assert heard.lost == []

    with running(CodexServer(place)) as server:
        server.start_ready()
        asyncio.run(act(server))


def test_it_hears_what_codex_sends_in_one_large_frame(place: Path) -> None:
    (place / "large").write_bytes(b"z" * (20 << 20))

    async def act(server: CodexServer) -> None:
        heard = Heard(websocket(server))
        await heard.link.open(20, PARAMS)
        result = await heard.link.request("fs/readFile", {"path": str(place / "large")}, 20)
        assert len(result) > 26 << 20
        heard.link.close()

    with running(CodexServer(place)) as server:
        server.start_ready()
        asyncio.run(act(server))


class StdioChild:
    """codex on pipes as the supervisor makes them: stdin is a named pipe held open."""

    def __init__(self, place: Path) -> None:
        home = place / "home"
        home.mkdir()
        self.stdin_path = str(place / "stdin")
        os.mkfifo(self.stdin_path, 0o600)
        stdin = os.open(self.stdin_path, os.O_RDWR)
        self.stdout, child_stdout = os.pipe()
        self.process = subprocess.Popen(
            [codex_path(), "app-server"],
            env={**os.environ, "CODEX_HOME": str(home)},
            stdin=stdin,
            stdout=child_stdout,
            stderr=subprocess.DEVNULL,
        )
        self.was_spoken_to = False
        os.close(stdin)
        os.close(child_stdout)
        os.set_blocking(self.stdout, False)

    def connect(self) -> tuple[Heard, StdioTransport]:
        """A new link, as a new plugin makes it."""
        transport = StdioTransport(self.stdin_path, is_first=not self.was_spoken_to)
        self.was_spoken_to = True
        loop = asyncio.get_running_loop()
        loop.add_reader(self.stdout, lambda: transport.feed(os.read(self.stdout, 1 << 16)))
        return Heard(transport), transport

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self.stdout)


def test_on_stdio_a_second_plugin_takes_over_where_the_first_broke_off(place: Path) -> None:
    async def act(child: StdioChild) -> None:
        first, _ = child.connect()
        assert await first.link.open(20, PARAMS) is not None
        first.link.listen()
        first.link.send(b'{"id":"x",\n"method":"thread/loaded/list","params":{}}')
        assert b'"result"' in await first.answer("x")
        first.link.close()
        # Killed in the middle of a line:
        descriptor = os.open(child.stdin_path, os.O_WRONLY)
        os.write(descriptor, b'{"id":"half","method":"thread/loa')
        os.close(descriptor)
        second, _ = child.connect()
        assert await second.link.open(20, PARAMS) is None
        await second.link.probe(10)
        second.link.close()
        asyncio.get_running_loop().remove_reader(child.stdout)

    child = StdioChild(place)
    try:
        asyncio.run(act(child))
    finally:
        child.end()


def test_on_stdio_a_message_of_a_hundred_megabytes_is_taken(place: Path) -> None:
    async def act(child: StdioChild) -> None:
        heard, transport = child.connect()
        await heard.link.open(20, PARAMS)
        heard.link.listen()
        heard.link.send(padded_request(100 << 20, "long"))
        assert transport.buffered > 0
        assert b'"result"' in await heard.answer("long")
        assert transport.buffered == 0
        heard.link.close()
        asyncio.get_running_loop().remove_reader(child.stdout)

    child = StdioChild(place)
    try:
        asyncio.run(act(child))
    finally:
        child.end()


def test_a_stopped_child_does_not_answer_and_nothing_is_lost(place: Path) -> None:
    async def act(server: CodexServer) -> None:
        assert server.process is not None
        heard = Heard(websocket(server))
        await heard.link.open(20, PARAMS)
        heard.link.listen()
        process = psutil.Process(server.process.pid)
        process.suspend()
        # A signal is not there at once, and an answer takes a tenth of a millisecond.
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, what="a stopped codex")
        with pytest.raises(TimeoutError):
            await heard.link.probe(0.1)
        heard.link.send(b'{"id":"later","method":"thread/loaded/list","params":{}}')
        process.resume()
        assert b'"result"' in await heard.answer("later")
        heard.link.close()
        with pytest.raises(LinkLost):
            await heard.link.probe(1)

    with running(CodexServer(place)) as server:
        server.start_ready()
        asyncio.run(act(server))
