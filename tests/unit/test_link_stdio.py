"""The stdio transport on a real named pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from codexd.link import transport_stdio
from codexd.link.errors import LinkLost, NotReading
from codexd.link.transport_stdio import StdioTransport


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    path = str(tmp_path / "stdin")
    os.mkfifo(path, 0o600)
    return path


def run(coroutine: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await coroutine()

    asyncio.run(main())


def read_all(descriptor: int) -> bytes:
    pieces = []
    while True:
        try:
            pieces.append(os.read(descriptor, 65536))
        except BlockingIOError:
            return b"".join(pieces)


@pytest.mark.parametrize(("is_first", "begin"), [(True, b""), (False, b"\n")])
def test_messages_are_lines_whatever_white_space_is_in_them(
    pipe: str, is_first: bool, begin: bytes
) -> None:
    async def act() -> None:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        transport = StdioTransport(pipe, is_first=is_first)
        await transport.connect()
        transport.send(b'{\n "a": 1\n}')
        transport.send(b'{"b":2}')
        # An empty line ends what an earlier plugin may have left unfinished.
        assert read_all(reader) == begin + b'{  "a": 1 }\n{"b":2}\n'
        transport.close()
        os.close(reader)

    run(act)


def test_a_full_pipe_blocks_nobody_and_keeps_the_order(pipe: str) -> None:
    async def act() -> None:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        transport = StdioTransport(pipe, is_first=True)
        await transport.connect()
        sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 50_000) for n in range(40)]
        for message in sent:
            transport.send(message)
        assert transport.buffered > 1_000_000
        received = b""
        async with asyncio.timeout(20):
            while transport.buffered:
                received += read_all(reader)
                await asyncio.sleep(0)
        received += read_all(reader)
        assert received.strip().split(b"\n") == sent
        transport.close()
        os.close(reader)

    run(act)


def test_a_child_that_reads_nothing_fills_no_memory(
    pipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_stdio, "UNREAD_LIMIT", 100_000)

    async def act() -> None:
        transport = StdioTransport(pipe, is_first=True)
        await transport.connect()
        message = b'{"x":"%s"}' % (b"y" * 50_000)
        while transport.buffered <= 100_000:
            transport.send(message)
        with pytest.raises(NotReading, match="unread"):
            transport.send(message)
        assert transport.buffered < 200_000
        transport.close()
        assert transport.buffered == 0

    run(act)


def test_what_is_fed_comes_out_as_messages_while_it_is_open(pipe: str) -> None:
    heard: list[bytes] = []
    transport = StdioTransport(pipe, is_first=True)
    transport.bind(heard.append, lambda _reason: None)

    async def act() -> None:
        await transport.connect()
        transport.feed(b'tail of a line"}\n{"a":1}\n{"b"')
        transport.close()
        transport.feed(b":2}\n")

    run(act)
    assert heard == [b'{"a":1}']


def test_without_its_pipe_there_is_no_connection(tmp_path: Path) -> None:
    async def act() -> None:
        transport = StdioTransport(str(tmp_path / "none"), is_first=True)
        with pytest.raises(FileNotFoundError):
            await transport.connect()
        with pytest.raises(LinkLost):
            transport.send(b"{}")

    run(act)


def test_what_a_dead_child_has_not_read_is_known_to_the_byte(pipe: str) -> None:
    sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * (97 * n)) for n in range(60)]

    async def unread_after(read: int) -> list[bytes]:
        # What an earlier plugin wrote is in the pipe as well.
        earlier = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        os.write(earlier, b'{"of":"another"}\n')
        transport = StdioTransport(pipe, is_first=False)
        await transport.connect()
        for message in sent:
            transport.send(message)
        left = read
        async with asyncio.timeout(20):
            while left:
                with contextlib.suppress(BlockingIOError):
                    left -= len(os.read(earlier, left))
                await asyncio.sleep(0)
        unread = transport.unread()
        transport.close()
        assert transport.unread() == []
        os.close(earlier)
        os.unlink(pipe)
        os.mkfifo(pipe, 0o600)
        return unread

    async def act() -> None:
        end = len(b'{"of":"another"}\n\n')
        ends = [end := end + len(message) + 1 for message in sent]
        assert await unread_after(3) == sent
        for number in (0, 1, 30, 59):
            # One byte short of its line end a message has not been read.
            assert await unread_after(ends[number] - 1) == sent[number:]
            assert await unread_after(ends[number]) == sent[number + 1 :]

    run(act)


def test_what_does_not_fit_into_the_pipe_is_unread_and_what_was_read_is_not_kept(
    pipe: str,
) -> None:
    async def act() -> None:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        transport = StdioTransport(pipe, is_first=False)
        await transport.connect()
        message = b'{"x":"%s"}' % (b"y" * 50_000)
        for _ in range(200):
            transport.send(message)
            read_all(reader)
        assert transport.unread() == []
        # Looked at from inside: a child that reads everything must not cost memory.
        assert transport._sent_bytes == 0
        for _ in range(100):
            transport.send(message)
        assert transport.buffered > 1_000_000
        assert len(transport.unread()) == 100
        transport.close()
        os.close(reader)

    run(act)
