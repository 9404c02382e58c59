"""`GET /v1/events`: pages and streams that lose nothing and repeat nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.api import event_feed, events
from codexd.api.event_feed import EventFeed
from codexd.api.events import EventRoutes
from codexd.api.http import Access, Answer, Head, Problem, Stream
from codexd.api.table import Table
from codexd.eventlog.log import EventLog
from codexd.eventlog.pages import Wanted
from tests.support.memory import open_log, record_many

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class World:
    """A log, its feed, and the routes in front of it."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.feed = EventFeed(log)
        self.table = Table([EventRoutes(self.feed)])

    async def ask(self, query: str = "", accept: str = "", last: str = "") -> Answer | Stream:
        """What is answered."""
        headers = {"accept": accept, "last-event-id": last}
        head = Head("GET", f"/v1/events?{query}", headers)
        return await self.table.find(head, Access.READ)[1](b"")

    async def page(self, query: str = "") -> tuple[list[int], int | None]:
        """The numbers of a page, and where it goes on."""
        answer = await self.ask(query)
        assert isinstance(answer, Answer)
        document = json.loads(answer.encoded())
        return [event["seq"] for event in document["events"]], document["next"]

    async def stream(
        self, query: str = "", accept: str = SSE, last: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """The pieces of a stream."""
        answer = await self.ask(query, accept, last)
        assert isinstance(answer, Stream)
        assert answer.media_type == accept
        return answer.pieces


def play(log: EventLog, act: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await act(World(log))

    asyncio.run(main())


def told(data: bytes) -> list[int]:
    """The numbers in a piece of a stream, in whichever form; each must agree with its event."""
    numbers = []
    for frame in data.split(b"\n\n" if b"data: " in data else b"\n"):
        fields = dict(line.split(b": ", 1) for line in frame.splitlines() if b": " in line)
        body = fields.get(b"data", frame if frame.startswith(b"{") else b"")
        if body:
            numbers.append(json.loads(body)["seq"])
            assert b"id" not in fields or int(fields[b"id"]) == numbers[-1]
    return numbers


async def read(pieces: AsyncGenerator[bytes, None], until: int | None = None) -> list[int]:
    """The numbers of a stream, to its end or to the number ``until``."""
    numbers: list[int] = []
    async for piece in pieces:
        numbers += told(piece)
        if until is not None and numbers and numbers[-1] >= until:
            break
    await pieces.aclose()
    return numbers


def test_pages_follow_each_other_to_the_end(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=2000, backups=99)
    record_many(log, 95)

    async def act(world: World) -> None:
        assert await world.page() == (list(range(1, 96)), None)
        found: list[int] = []
        position: int | None = 0
        while position is not None:
            page, position = await world.page(f"since={position}&limit=10")
            found += page
        assert found == list(range(1, 96))
        assert await world.page("since=85&limit=10") == (list(range(86, 96)), None)
        record_many(log, 5)
        assert await world.page("since=93") == (list(range(94, 101)), None)
        assert await world.page("since=100") == ([], None)
        assert await world.page("since=1000000") == ([], None)

    play(log, act)


def test_a_page_is_no_larger_than_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_ANSWER_BYTES", 1000)
    monkeypatch.setattr(event_feed, "_PIECE_BYTES", 500)
    log = open_log(tmp_path)
    record_many(log, 100)

    async def act(world: World) -> None:
        found, following = await world.page()
        assert found == list(range(1, len(found) + 1))
        assert following == found[-1] < 20

    play(log, act)


def test_types_and_levels_are_sorted_out(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(3):
        log.record("info", "turn.started", "…")
        log.record("warn", "client.cut", "…")
        log.record("error", "child.exited", "…")
        log.record("info", "odd.old", "…")

    async def act(world: World) -> None:
        assert await world.page("type=turn.started") == ([1, 5, 9], None)
        assert await world.page("level=error&level=warn&limit=2") == ([2, 3], 3)
        assert await world.page("level=error&type=client.cut") == ([], None)
        both = "type=odd.old&type=client.cut&since=5&limit=3"
        assert await world.page(both) == ([6, 8, 10], 10)
        assert await read(await world.stream("type=child.exited&follow=false")) == [3, 7, 11]
        # And from memory.
        log.record("error", "child.exited", "…")
        log.record("info", "turn.started", "…")
        assert await world.page("type=turn.started&since=9") == ([14], None)
        assert await world.page("level=error&since=12") == ([13], None)

    play(log, act)


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_a_stream_that_does_not_follow_ends_at_the_newest(tmp_path: Path, accept: str) -> None:
    log = open_log(tmp_path)
    record_many(log, 20)

    async def act(world: World) -> None:
        record_many(log, 20)
        assert await read(await world.stream("follow=false", accept)) == list(range(1, 41))
        assert await read(await world.stream("follow=false&since=30", accept)) == list(
            range(31, 41)
        )
        assert await read(await world.stream("follow=false&limit=3", accept)) == [1, 2, 3]
        assert await read(await world.stream("follow=false", accept, "39")) == [40]
        assert await read(await world.stream("follow=false&since=7", accept, "39")) == [40]
        assert await read(await world.stream("follow=false&since=77", accept)) == []

    play(log, act)


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_a_stream_goes_on_with_what_comes(tmp_path: Path, accept: str) -> None:
    log = open_log(tmp_path, max_bytes=3000, backups=99)
    record_many(log, 10)

    async def act(world: World) -> None:
        following = asyncio.create_task(read(await world.stream("follow=true", accept), 60))
        some = asyncio.create_task(read(await world.stream("follow=true&limit=15", accept)))
        late = asyncio.create_task(read(await world.stream("follow=true&since=55", accept), 60))
        for _ in range(50):
            await asyncio.sleep(0)
            record_many(log, 1)
        assert await following == list(range(1, 61))
        assert await some == list(range(1, 16))
        assert await late == [56, 57, 58, 59, 60]

    play(log, act)


def test_an_sse_stream_follows_unless_it_shall_not(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    record_many(log, 1)

    async def act(world: World) -> None:
        pieces = await world.stream()
        assert await anext(pieces) == b"retry: 1000\n\n"
        assert (await anext(pieces)).startswith(b'id: 1\ndata: {"seq":1,')
        coming = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0.01)
        assert not coming.done()
        record_many(log, 1)
        assert told(await coming) == [2]
        await pieces.aclose()
        assert await read(await world.stream("", NDJSON)) == [1, 2]

    play(log, act)


class Reader:
    """One who reads now and then."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self.pieces = pieces
        self.numbers: list[int] = []

    @property
    def last(self) -> int:
        return self.numbers[-1] if self.numbers else 0

    async def go_on(self, newest: int) -> None:
        if self.last < newest:
            self.numbers += told(await anext(self.pieces))


BURSTS = {"one": 1, "some": 13}


@settings(max_examples=25)
@given(st.lists(st.sampled_from([*BURSTS, "read", "turn", "join"]), max_size=40))
def test_whoever_falls_behind_misses_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_feed, "_KEPT_COUNT", 8)
        patch.setattr(event_feed, "_PIECE_BYTES", 600)
        patch.setattr(event_feed, "_PAUSE_S", 0.0)
        patch.setattr(event_feed, "_WOKEN_AT_ONCE", 1)
        log = open_log(tmp_path_factory.mktemp("feed"), max_bytes=2000, backups=999)
        record_many(log, 3)

        async def act(world: World) -> None:
            readers = [Reader(await world.stream())]
            for step in steps:
                if step in BURSTS:
                    record_many(log, BURSTS[step])
                elif step == "join":
                    readers.append(Reader(await world.stream()))
                elif step == "read":
                    for reader in readers:
                        await reader.go_on(log.newest)
                else:
                    await asyncio.sleep(0)
            for reader in readers:
                while reader.last < log.newest:
                    await reader.go_on(log.newest)
                assert reader.numbers == list(range(1, log.newest + 1))
                await reader.pieces.aclose()

        play(log, act)


def test_what_is_rotated_away_is_told(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=1000, backups=1)
    record_many(log, 50)

    async def act(world: World) -> None:
        answer = await world.ask("since=3")
        assert isinstance(answer, Answer)
        first = json.loads(answer.encoded())["events"][0]["seq"]
        assert first > 30
        assert answer.headers["Codexd-Oldest-Event"] == str(first)
        assert answer.headers["Codexd-Newest-Event"] == "50"
        assert await read(await world.stream("since=3&follow=false")) == list(range(first, 51))

    play(log, act)


def test_a_log_that_is_taken_away_ends_no_stream(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    log = open_log(place)
    record_many(log, 5)

    async def act(world: World) -> None:
        shutil.rmtree(place)
        answer = await world.ask()
        assert isinstance(answer, Answer)
        assert json.loads(answer.encoded()) == {"events": [], "next": None}
        assert answer.headers["Codexd-Oldest-Event"] == "6"
        pieces = await world.stream()
        following = asyncio.create_task(read(pieces, 7))
        await asyncio.sleep(0.15)
        record_many(log, 2)
        assert await following == [6, 7]

    play(log, act)


def test_who_waits_for_numbers_that_are_to_come_waits(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    record_many(log, 3)

    async def act(world: World) -> None:
        following = asyncio.create_task(read(await world.stream("since=5"), 7))
        for _ in range(4):
            await asyncio.sleep(0.01)
            record_many(log, 1)
        assert await following == [6, 7]

    play(log, act)


def test_a_quiet_stream_shows_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_feed.BEAT_S + events._QUIET_S + event_feed._MAX_PAUSE_S < 15
    monkeypatch.setattr(event_feed, "BEAT_S", 0.01)
    monkeypatch.setattr(events, "_QUIET_S", 0.005)
    log = open_log(tmp_path)

    async def act(world: World) -> None:
        pieces = await world.stream()
        assert await anext(pieces) == b"retry: 1000\n\n"
        assert [await anext(pieces) for _ in range(3)] == [b":\n\n"] * 3
        # Also one that is told of events, and wants none of them.
        others = await world.stream("level=error")
        await anext(others)
        record_many(log, 3)
        assert await anext(others) == b":\n\n"
        await pieces.aclose()
        await others.aclose()

    play(log, act)


def test_nobody_who_follows_is_no_work(tmp_path: Path) -> None:
    log = open_log(tmp_path)

    async def act(world: World) -> None:
        pieces = await world.stream()
        await anext(pieces)
        waiting = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        assert world.feed._beat is not None
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        world.feed._on_beat()
        world.feed._on_beat()
        assert world.feed._beat is None
        assert world.feed._timer is None
        assert world.feed._waiting == world.feed._waking == []

    play(log, act)


def test_all_who_want_the_same_share_the_bytes(tmp_path: Path) -> None:
    log = open_log(tmp_path)

    async def act(world: World) -> None:
        streams = [await world.stream() for _ in range(100)]
        for pieces in streams:
            await anext(pieces)
        coming = [asyncio.create_task(anext(pieces)) for pieces in streams]
        await asyncio.sleep(0)
        record_many(log, 5)
        found = await asyncio.gather(*coming)
        assert len({id(piece) for piece in found}) == 1
        for pieces in streams:
            await pieces.aclose()

    play(log, act)


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path) -> None:
    log = open_log(tmp_path)

    async def act(world: World) -> None:
        for _ in range(400):
            log.record("info", "test", "x" * 8000)
        record_many(log, 6000)
        feed = world.feed
        assert len(feed._kept) <= event_feed._KEPT_COUNT
        assert feed._kept_bytes == sum(len(kept.line) for kept in feed._kept)
        assert feed._kept_bytes <= event_feed._KEPT_BYTES
        assert feed._kept[0].seq == feed._floor + 1
        for count in range(event_feed._MADE * 3):
            wanted = Wanted(frozenset([str(count)]))
            await feed.piece(wanted, lambda _, line: line, log.newest, log.newest, None)
        assert len(feed._made) <= event_feed._MADE

    play(log, act)


@pytest.mark.parametrize(
    ("query", "accept", "last", "field"),
    [
        ("since=-1", "", "", "since"),
        ("since=9999999999999999999999", "", "", "since"),
        ("since=x", "", "", "since"),
        ("limit=0", "", "", "limit"),
        ("level=bad", "", "", "level[0]"),
        ("type=nothing.such", "", "", "type"),
        ("type=", "", "", "type"),
        ("follow=perhaps", "", "", "follow"),
        ("follow=true", "application/json", "", "follow"),
        ("after=3", "", "", "after"),
        ("", SSE, "x", "Last-Event-ID"),
        ("", SSE, "-1", "Last-Event-ID"),
        ("", SSE, "9" * 5000, "Last-Event-ID"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, query: str, accept: str, last: str, field: str
) -> None:
    async def act(world: World) -> None:
        with pytest.raises(Problem) as caught:
            await world.ask(query, accept, last)
        assert (caught.value.status, caught.value.more["field"]) == (400, field)

    play(open_log(tmp_path), act)


def test_whoever_only_says_follow_gets_lines(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        for accept in ("", "*/*"):
            answer = await world.ask("follow=1", accept)
            assert isinstance(answer, Stream)
            assert answer.media_type == NDJSON
            await answer.pieces.aclose()

    play(open_log(tmp_path), act)
