"""A connection that is sent anything, in any pieces, without a socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
from collections.abc import AsyncGenerator
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.api.connection import Connection
from codexd.api.health import HealthRoutes
from codexd.api.http import EVENT_STREAM, Access, Call, Stream
from codexd.api.service import Service
from codexd.api.status import StatusRoutes
from codexd.api.table import Table, route
from codexd.api.websocket import Cork
from tests.support.echo import EchoHub
from tests.support.http_words import HTTP_WORDS


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Things:
    """A route with a body, and a stream."""

    @route("POST", "/back/{name}", Access.ADMIN, body=Text)
    async def back(self, call: Call[Any, Text]) -> Text:
        """Send it back."""
        return call.body

    @route("GET", "/three", Access.READ)
    async def three(self, call: Call[Any, None]) -> Stream:
        """Three pieces."""
        del call

        async def pieces() -> AsyncGenerator[bytes, None]:
            for _ in range(3):
                yield b"x"

        return Stream(pieces(), EVENT_STREAM)


class Transport(asyncio.Transport):
    """Keeps what is written; takes no more once it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.is_over = False
        self.has_said_all = False

    def write(self, data: Any) -> None:
        assert not self.has_said_all
        if not self.is_over:
            self.data += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_said_all = True

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Held:
    """How much is held of what is not whole."""

    count = 0

    def note(self, holder: object, held: int) -> None:
        """So much, now."""
        del holder
        self.count = held


class Owner:
    """A server with one connection."""

    backlog_bytes = max_message_bytes = 1 << 20
    head_timeout_s = 1000.0

    def __init__(self) -> None:
        self.unfinished = Held()
        self.adapter = EchoHub()
        self.cork = Cork()

    def made(self, connection: Connection) -> bool:
        return connection.transport is not None

    def is_guest(self, connection: Connection) -> bool:
        return connection.transport is None

    def nothing(self, *_: object) -> None:
        pass

    require_room = spoke = rests = gone = cut = nothing


def give(connection: Connection, data: bytes) -> None:
    """As asyncio does with what can be read."""
    while data:
        buffer = connection.get_buffer(-1)
        count = min(len(data), len(buffer))
        buffer[:count], data = data[:count], data[count:]
        connection.buffer_updated(count)


async def talk(pieces: list[bytes], *, ends: bool) -> bytes:
    """What is answered to these pieces."""
    loop = asyncio.get_running_loop()
    troubles: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    owner, transport = Owner(), Transport()
    table = Table([HealthRoutes(lambda: True), StatusRoutes(dict), Things()])
    connection = Connection(cast("Any", owner), Service(table))
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.is_over:
            give(connection, piece)
        await asyncio.sleep(0)
    if ends and not transport.is_over:
        connection.eof_received()
    for _ in range(20):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert troubles == []
    assert len(asyncio.all_tasks()) == 1
    assert owner.unfinished.count == 0
    return transport.data


SENT = st.lists(st.one_of(st.sampled_from(HTTP_WORDS), st.binary(max_size=40)), max_size=12).map(
    b"".join
)


def statuses(answered: bytes) -> list[int]:
    """Of every answer; fails where the text of an answer is none."""
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered)]
    assert not answered or answered.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
    return found


@settings(max_examples=200)
@given(sent=SENT, cuts=st.lists(st.integers(0, 2000), max_size=6), ends=st.booleans())
def test_whatever_is_sent_is_answered_or_not_but_never_breaks_anything(
    sent: bytes, cuts: list[int], ends: bool
) -> None:
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        logged: list[object] = []
        patch.setattr(logging.getLogger("codexd"), "exception", lambda *_: logged.append(_))
        answered = asyncio.run(talk(pieces, ends=ends))
    assert logged == []
    assert [status for status in statuses(answered) if status >= 500] == []
    # It does not matter in which pieces it came.
    if not ends:
        assert statuses(asyncio.run(talk([sent], ends=ends))) == statuses(answered)


def test_the_words_reach_what_they_are_meant_for() -> None:
    sent = b"GET /three HTTP/1.1\r\nHost: x\r\n\r\n" * 2
    sent += b'POST /back/a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"text":"w"}'
    answered = asyncio.run(talk([sent], ends=False))
    assert statuses(answered) == [200, 200, 200]
    assert json.loads(answered.rsplit(b"\r\n\r\n", 1)[1]) == {"text": "w"}
