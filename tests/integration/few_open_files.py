"""Few open files, played to both listeners in this process: nobody stays without an answer.

It counts every number of this process. In one that runs other tests, what these left open may be
closed at any moment, and may have used up the numbers below those of the clients: so
test_open_files.py has a process for it.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexd.api import listener as listener_module
from codexd.api import places as places_module
from codexd.api.http import EVENT_STREAM, Access, Call
from codexd.api.server import ServerLimits
from codexd.api.table import route
from tests.support.codex import short_directory
from tests.support.tcp import NAME, Certificates, TcpServer, tcp_server

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]

RESERVE = 8
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
READY = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n"
# Of the numbers that the listeners have; the clients of this process take others.
FIRST, FAR = 64, 128
# A client that nobody knows any more is closed.
KNOWN: list[Client] = []


class Query(msgspec.Struct):
    wait: float = 0.0


class Work:
    """Counts what was begun."""

    begun = 0

    @route("POST", "/work", Access.ADMIN, query=Query, streams=(EVENT_STREAM,))
    async def work(self, call: Call[Query, None]) -> str:
        """Begin something."""
        del call
        self.begun += 1
        return "begun"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(listener_module, "_PAUSE_S", 0.01)
    monkeypatch.setattr(places_module, "_RESERVE", RESERVE)
    with short_directory() as directory:
        yield directory
    KNOWN.clear()


def play(
    place: Path,
    act: Callable[[TcpServer], Awaitable[None]],
    tls: Certificates | None = None,
    work: Work | None = None,
) -> None:
    async def main() -> None:
        limits = ServerLimits(head_timeout_s=1000.0)
        async with tcp_server(place, tls, limits, [work or Work()]) as made, asyncio.timeout(30):
            await act(made)
            for _, writer in KNOWN:
                writer.close()

    asyncio.run(main())


@pytest.fixture
def leave_places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[int]]]:
    """Plays a limit that has so many files left for those that stay; gives their numbers."""
    held: list[int] = []

    def leave(count: int) -> list[int]:
        # What an earlier play left is closed now, or not at all.
        gc.collect()
        # No number below the first is free: all that come have one after the other.
        while not held or held[-1] < FIRST:
            held.append(os.dup(0))
        free = [held.pop(), *(os.dup(0) for _ in range(count + RESERVE))]
        for number in free:
            os.close(number)
        most = free[count] + RESERVE
        assert most <= FAR, "the clients would take of what is the listeners'"
        monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
        return free[:count]

    yield leave
    for number in held:
        os.close(number)


def connect(address: str | tuple[str, int]) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as near:
        far = socket.socket(fileno=fcntl.fcntl(near.fileno(), fcntl.F_DUPFD_CLOEXEC, FAR))
    far.connect(address)
    far.setblocking(False)
    return far


async def client(made: TcpServer, address: str | tuple[str, int] | None = None) -> Client:
    far = connect(address or made.path)
    context = made.certificates.client if made.certificates and address else None
    name = NAME if context else None
    KNOWN.append(await asyncio.open_connection(sock=far, ssl=context, server_hostname=name))
    return KNOWN[-1]


async def answer(asking: Client) -> tuple[int, Any]:
    """The status, and the body where there is one; the connection stays open.

    Who is let in as a WebSocket says something: who has not makes room for others.
    """
    head = await asking[0].readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
    body = await asking[0].readexactly(length)
    status = int(head.split(b" ")[1])
    if status == 101:
        # A text message, masked with zeros, and its echo.
        asking[1].write(b"\x81\x82\0\0\0\0{}")
        assert await asking[0].readexactly(4) == b"\x81\x02{}"
    return status, json.loads(body) if body else None


async def ask(
    made: TcpServer, head: str, address: tuple[str, int] | None = None
) -> tuple[int, Any, Client]:
    asking = await client(made, address)
    asking[1].write(f"{head}\r\n".encode())
    return *await answer(asking), asking


async def fill(made: TcpServer) -> list[Client]:
    """Clients that stay, until one is refused."""
    clients: list[Client] = []
    while True:
        status, _, asking = await ask(made, UPGRADE)
        if status != 101:
            asking[1].close()
            return clients
        clients.append(asking)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def test_who_came_while_all_was_taken_for_a_moment_may_stay(
    place: Path, leave_places: Callable[[int], list[int]]
) -> None:
    async def act(made: TcpServer) -> None:
        numbers = leave_places(3)
        passing = [os.dup(0) for _ in numbers]
        assert passing == numbers
        came = await client(made)
        await until(lambda: made.server._connections)
        for number in passing:
            os.close(number)
        came[1].write(f"{UPGRADE}\r\n".encode())
        assert (await answer(came))[0] == 101
        # Its place is not given away a second time, though a lower number is free: who says
        # nothing has to go.
        assert (await ask(made, UPGRADE))[0] == 101
        mute = await client(made)
        await until(lambda: len(made.server._connections) == 3)
        assert (await ask(made, UPGRADE))[0] == 101
        assert await mute[0].read() == b""
        for _ in range(3):
            status, body, refused = await ask(made, UPGRADE)
            assert (status, body["type"]) == (503, "urn:codexd:full")
            refused[1].close()
        came[1].close()
        await until(lambda: made.hub.closed_clients)
        assert (await ask(made, UPGRADE))[0] == 101
        assert (await ask(made, UPGRADE))[0] == 503

    play(place, act)


def test_whoever_has_asked_is_heard_however_many_come_at_once(
    place: Path, leave_places: Callable[[int], list[int]]
) -> None:
    async def act(made: TcpServer) -> None:
        leave_places(1)
        (stays,) = await fill(made)
        crowd = [connect(made.path) for _ in range(5 * RESERVE)]
        for one in crowd:
            one.send(f"{READY}\r\n".encode())
        clients = [await asyncio.open_connection(sock=one) for one in crowd]
        answers = await asyncio.gather(*map(answer, clients))
        assert {status for status, _ in answers} == {200}
        assert not stays[0].at_eof()

    play(place, act)


def test_a_newcomer_ends_one_guest_that_says_nothing_and_no_more(
    place: Path, leave_places: Callable[[int], list[int]]
) -> None:
    async def act(made: TcpServer) -> None:
        leave_places(1)
        await fill(made)
        await until(lambda: len(made.server._connections) == 1)
        guests = [await client(made) for _ in range(RESERVE // 2)]
        await until(lambda: len(made.server._connections) == 1 + len(guests))
        assert (await ask(made, READY))[0] == 200
        assert await guests[0][0].read() == b""
        assert [guest[0].at_eof() for guest in guests[1:]] == [False] * 3

    play(place, act)


def test_a_guest_is_told_before_anything_is_begun_that_it_cannot_wait_for_it(
    place: Path, leave_places: Callable[[int], list[int]]
) -> None:
    work = Work()

    async def act(made: TcpServer) -> None:
        leave_places(1)
        clients = await fill(made)
        waits = "POST /work?wait=5 HTTP/1.1\r\nHost: localhost\r\n"
        streams = "POST /work HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        for head in (waits, streams):
            status, body, refused = await ask(made, head)
            assert (status, body["type"], work.begun) == (503, "urn:codexd:full", 0)
            refused[1].close()
        assert (await ask(made, "POST /work HTTP/1.1\r\nHost: localhost\r\n"))[:2] == (200, "begun")
        clients[0][1].close()
        await until(lambda: made.hub.closed_clients)
        assert (await ask(made, waits))[:2] == (200, "begun")

    play(place, act, work=work)


@pytest.mark.parametrize("has_tls", [False, True])
def test_who_comes_over_tcp_is_answered_where_all_have_spoken(
    place: Path, leave_places: Callable[[int], list[int]], has_tls: bool
) -> None:
    certificates = Certificates(place) if has_tls else None

    async def act(made: TcpServer) -> None:
        leave_places(2)
        clients = await fill(made)
        address, token = ("127.0.0.1", made.port), f"Authorization: Bearer {made.token}\r\n"
        # Strangers that say nothing use up their part of what is kept back, and no more.
        mute = [connect(address) for _ in range(RESERVE)]
        await until(lambda: made.door._strangers)
        status, _, asked = await ask(made, f"{READY}{token}", address)
        assert status == 200
        asked[1].close()
        status, body, refused = await ask(made, f"{UPGRADE}{token}", address)
        assert (status, body["type"]) == (503, "urn:codexd:full")
        refused[1].close()
        # Nor do they hold up who is on this machine.
        assert (await ask(made, READY))[0] == 200
        assert len(made.door._strangers) <= RESERVE // 4
        assert not any(one[0].at_eof() for one in clients)
        for one in mute:
            one.close()
        clients[0][1].close()
        await until(lambda: made.hub.closed_clients)
        assert (await ask(made, f"{UPGRADE}{token}", address))[0] == 101

    play(place, act, certificates)
