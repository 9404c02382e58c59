"""The route of the events: a page of them, or a stream that goes on with those to come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Annotated, Final

import msgspec

from codexd.api.event_feed import EventFeed, Frame
from codexd.api.http import (
    EVENT_STREAM,
    JSON,
    NDJSON,
    Access,
    Answer,
    Call,
    Head,
    Stream,
    event_frame,
)
from codexd.api.table import invalid, route
from codexd.contracts import EventLevel
from codexd.eventlog.pages import Wanted
from codexd.eventlog.types import TYPES
from codexd.shapes import EventsPage

# How many a page has where nobody says, and how large it gets.
_USUAL_LIMIT: Final = 1000
_ANSWER_BYTES: Final = 1 << 20
# A stream that had nothing to say for so long says that it lives. With the feed's beat it is
# never silent for 15 s.
_QUIET_S: Final = 4.0
# First of all: how soon a client that lost its stream should come back.
_GREETING: Final = b"retry: 1000\n\n"
_BEAT: Final = b":\n\n"

_RESUMES_AT: Final = "last-event-id"
_MAX_SEQ: Final = (1 << 63) - 1
_SEQ_DIGITS: Final = 19


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which events: those after ``since``, of these types and levels."""

    since: Annotated[int, msgspec.Meta(ge=0, le=_MAX_SEQ)] = 0
    type: list[str] = []
    level: list[EventLevel] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MAX_SEQ)] | None = None
    follow: bool | None = None


class _Asked(msgspec.Struct, frozen=True):
    wanted: Wanted
    since: int
    limit: int | None


class EventRoutes:
    """``feed`` has the events."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed

    @route(
        "GET",
        "/v1/events",
        Access.READ,
        query=EventsQuery,
        answer=EventsPage,
        streams=(NDJSON, EVENT_STREAM),
        problems=(HTTPStatus.BAD_REQUEST,),
    )
    async def events(self, call: Call[EventsQuery, None]) -> Answer | Stream:
        """Read what happened, and follow what happens."""
        query = call.query
        unknown = await self._feed.unknown_types(query.type) if query.type else []
        for name in unknown:
            text = f"Unknown event type `{name}`: there are {', '.join(TYPES)}."
            raise invalid(text, "type")
        wanted = Wanted(frozenset(query.type), frozenset(query.level))
        asked = _Asked(wanted, _since(call.head, query), query.limit)
        media_type, follows = _form(call.head, query.follow)
        headers = {
            "Codexd-Oldest-Event": str(await self._feed.oldest()),
            "Codexd-Newest-Event": str(self._feed.newest),
        }
        if media_type == JSON:
            return await self._page(asked, headers)
        frame = _sse if media_type == EVENT_STREAM else _line
        return Stream(self._pieces(asked, frame, follows), media_type, headers=headers)

    async def _page(self, asked: _Asked, headers: Mapping[str, str]) -> Answer:
        limit = asked.limit or _USUAL_LIMIT
        position, until, size = asked.since, self._feed.newest, 0
        lines: list[tuple[int, bytes]] = []
        # One more than is told, to know whether there is more.
        while position < until and len(lines) <= limit and size < _ANSWER_BYTES:
            page = await self._feed.page(asked.wanted, position, until, limit + 1 - len(lines))
            lines += page.lines
            position, size = page.reached, size + page.size
        following: int | None = None
        if len(lines) > limit:
            del lines[limit:]
            following = lines[-1][0]
        elif position < until:
            following = position
        told = b",".join(line for _, line in lines)
        after = b"null" if following is None else b"%d" % following
        return Answer(b'{"events":[' + told + b'],"next":' + after + b"}\n", headers=headers)

    async def _pieces(
        self, asked: _Asked, frame: Frame, follows: bool
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        position, left, until = asked.since, asked.limit, self._feed.newest
        beats = frame is _sse
        if beats:
            yield _GREETING
        said_at = loop.time()
        while follows or position < until:
            end = self._feed.edge if follows else until
            piece = await self._feed.piece(asked.wanted, frame, position, end, left)
            position = piece.reached
            if piece.data:
                yield piece.data
                said_at = loop.time()
                left = None if left is None else left - piece.count
                if left == 0:
                    return
            elif follows:
                await self._feed.more(position)
            if beats and loop.time() - said_at >= _QUIET_S:
                yield _BEAT
                said_at = loop.time()


def _since(head: Head, query: EventsQuery) -> int:
    """Where to go on: whoever comes back says what it had last."""
    last = head.headers.get(_RESUMES_AT, "").strip()
    if not last:
        return query.since
    if not (last.isascii() and last.isdigit() and len(last) < _SEQ_DIGITS):
        text = "`Last-Event-ID` must be the number of an event, as the stream gave it."
        raise invalid(text, "Last-Event-ID")
    return int(last)


def _form(head: Head, follow: bool | None) -> tuple[str, bool]:
    """The media type, and whether to go on with what comes."""
    if not follow:
        media_type = head.wants(JSON, NDJSON, EVENT_STREAM)
        return media_type, follow is None and media_type == EVENT_STREAM
    media_type = head.wants(NDJSON, EVENT_STREAM, JSON)
    if media_type == JSON:
        text = f"`follow` needs `Accept: {EVENT_STREAM}` or `{NDJSON}`: JSON has an end."
        raise invalid(text, "follow")
    return media_type, True


def _sse(seq: int, line: bytes) -> bytes:
    return event_frame(line, number=seq)


def _line(seq: int, line: bytes) -> bytes:
    del seq
    return line + b"\n"
