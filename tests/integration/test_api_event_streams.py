"""Streams of events on real sockets: readers that read, and readers that do not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from codexd.api import event_feed
from codexd.api.event_feed import EventFeed
from codexd.api.events import EventRoutes
from codexd.eventlog.log import EventLog
from tests.support.codex import short_directory
from tests.support.echo import EchoServer, echo_server
from tests.support.memory import open_log, record_many

# What asyncio holds before it says that it is enough.
_HIGH_WATER = 64 << 10


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def play(place: Path, act: Callable[[EchoServer, EventLog], Awaitable[None]]) -> None:
    async def main() -> None:
        log = open_log(place, max_bytes=1 << 20, backups=99)
        serving = echo_server(place / "hub.sock", nouns=[EventRoutes(EventFeed(log))])
        async with serving as echo, asyncio.timeout(60):
            await act(echo, log)

    asyncio.run(main())


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def follow(echo: EchoServer, query: str = "") -> Ends:
    """A stream, of which nothing is read yet."""
    reader, writer = await asyncio.open_unix_connection(echo.path)
    head = f"GET /v1/events?{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(head.encode())
    return reader, writer


async def numbers(reader: asyncio.StreamReader, until: int) -> list[int]:
    """The numbers of a stream up to one."""
    data, found = b"", [0]
    while found[-1] < until:
        piece = await reader.read(1 << 16)
        assert piece
        # A chunk of HTTP begins with its size on a line, and so each id on a line of its own.
        data += piece
        found = [0, *(int(seq) for seq in re.findall(rb"(?m)^id: (\d+)$", data))]
    return found[1:]


def test_readers_that_do_not_read_cost_no_more_than_a_piece(place: Path) -> None:
    async def act(echo: EchoServer, log: EventLog) -> None:
        record_many(log, 10_000)
        ends = [await follow(echo) for _ in range(6)]
        try:
            held = [0]
            while min(held) == 0:
                record_many(log, 100)
                await asyncio.sleep(0.05)
                held = [connection.unread for connection in echo.server._connections]
            assert len(held) == 6
            assert max(held) <= _HIGH_WATER + event_feed._PIECE_BYTES + 4096
            # Whoever begins to read finds everything there, also what memory has long forgotten.
            assert await numbers(ends[0][0], log.newest) == list(range(1, log.newest + 1))
        finally:
            for _, writer in ends:
                writer.close()

    play(place, act)


def test_a_crowd_hears_everything_in_order(place: Path) -> None:
    async def act(echo: EchoServer, log: EventLog) -> None:
        record_many(log, 5)
        ends = [await follow(echo, "since=5") for _ in range(100)]
        listening = [asyncio.create_task(numbers(reader, 205)) for reader, _ in ends]
        for _ in range(40):
            record_many(log, 5)
            await asyncio.sleep(0.005)
        heard = await asyncio.gather(*listening)
        assert heard == [list(range(6, 206))] * 100
        for _, writer in ends:
            writer.close()

    play(place, act)
