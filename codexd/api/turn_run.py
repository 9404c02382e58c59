"""One turn that was asked for over HTTP: a client of its own runs it, to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from codexd.api.local_client import SERVER_FAILED, LocalClient, Refused
from codexd.encoding import UNDECODABLE, decode_json
from codexd.shapes import RUNS, FinishedTurn

# What one reader of a turn may be behind.
_BEHIND_BYTES: Final = 8 << 20
# A proxy ends a connection on which nothing comes.
_QUIET_S: Final = 15.0


class _Turn(msgspec.Struct, rename="camel"):
    id: str
    status: str = RUNS
    items: list[dict[str, Any]] = []
    error: dict[str, Any] | None = None
    duration_ms: int | None = None


class _Told(msgspec.Struct, rename="camel"):
    """Of any notification, what matters here."""

    thread_id: str = ""
    turn_id: str | None = None
    turn: _Turn | None = None
    item: dict[str, Any] | None = None
    token_usage: dict[str, Any] | None = None


class _Started(msgspec.Struct):
    turn: _Turn


def final_response(items: list[dict[str, Any]]) -> str | None:
    """What the agent said last."""
    texts = [item.get("text") for item in items if item.get("type") == "agentMessage"]
    return next((text for text in reversed(texts) if isinstance(text, str)), None)


class Behind(ConnectionError):
    """A reader of a turn has left too much unread."""


class _Reader:
    """What one stream has not sent yet. None is the end."""

    def __init__(self) -> None:
        self.frames: deque[tuple[str, bytes]] = deque()
        self.held = 0
        self.came = asyncio.Event()
        self.is_behind = False

    def add(self, method: str, data: bytes) -> None:
        if self.is_behind:
            return
        self.frames.append((method, data))
        self.held += len(data)
        if self.held > _BEHIND_BYTES:
            self.frames.clear()
            self.is_behind = True
        self.came.set()


class TurnRun:
    """One turn of one thread. Make it, :meth:`start` it, and wait for its end.

    ``client`` is the turn's own; ``listens`` says that it listens to the thread already.
    """

    def __init__(self, thread_id: str, client: LocalClient, *, listens: bool) -> None:
        self.thread_id = thread_id
        self.turn: FinishedTurn | None = None
        self._client = client
        self._listens = listens
        client.told, client.gone = self._heard, self.leave
        self._ended = asyncio.Event()
        self._began = time.monotonic()
        self._said: str | None = None
        self._early: list[tuple[str, _Told, bytes]] = []
        self._seen: str | None = None
        self._readers: list[_Reader] = []

    async def start(self, params: dict[str, Any]) -> FinishedTurn:
        """Resume the thread and have the turn begin; ``params`` are those of `turn/start`.

        Raises:
            Refused: the thread or the turn was.
        """
        try:
            if not self._listens:
                await self._client.introduce()
                resume = {"threadId": self.thread_id, "excludeTurns": True}
                await self._client.ask("thread/resume", resume)
                self._listens = True
            return await self._begin({**params, "threadId": self.thread_id})
        except BaseException:
            self._client.leave()
            raise

    async def _begin(self, params: dict[str, Any]) -> FinishedTurn:
        try:
            result = await self._client.ask("turn/start", params)
            turn = decode_json(result, _Started).turn
            turn_id = turn.id
        except Refused:
            # The server died before it answered; that the turn had begun it may have told.
            if self._seen is None:
                raise
            turn_id = self._seen
        except UNDECODABLE as error:
            text = f"its answer to turn/start is not understood ({error})."
            raise Refused(SERVER_FAILED, text) from error
        self.turn = FinishedTurn(turn_id=turn_id, status=RUNS)
        early, self._early = self._early, []
        for method, told, data in early:
            self._take(method, told, data)
        return self.turn

    async def wait(self, timeout_s: float) -> None:
        """Wait for its end, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()

    async def ended(self) -> None:
        """Wait for its end, however long it takes, or for the hub's."""
        await self._ended.wait()

    def leave(self) -> None:
        """Hear of it no more; it goes on."""
        self._client.leave()
        self._over()

    def take_client(self) -> LocalClient | None:
        """The client, for another turn of the thread; None where that did not work out."""
        is_done = self.turn is not None and self.turn.status != RUNS
        return self._client if is_done and self._listens and self._client.is_open else None

    def _over(self) -> None:
        self._ended.set()
        for reader in self._readers:
            reader.came.set()

    # -- what is told --------------------------------------------------------------------------

    def _heard(self, method: str, params: msgspec.Raw, data: bytes) -> None:
        try:
            told = decode_json(params, _Told)
        except UNDECODABLE:
            return
        if told.thread_id != self.thread_id or self._ended.is_set():
            return
        if self.turn is None:
            if method == "turn/started" and told.turn is not None:
                self._seen = told.turn.id
            self._early.append((method, told, data))
            return
        self._take(method, told, data)

    def _take(self, method: str, told: _Told, data: bytes) -> None:
        assert self.turn is not None
        turn_id = told.turn_id if told.turn is None else told.turn.id
        if turn_id != self.turn.turn_id:
            return
        for reader in self._readers:
            reader.add(method, data)
        if told.token_usage is not None:
            self.turn.usage = told.token_usage
        if method == "item/completed" and told.item is not None:
            self._said = final_response([told.item]) or self._said
        if method == "turn/completed" and told.turn is not None:
            self._end(told.turn)

    def _end(self, turn: _Turn) -> None:
        assert self.turn is not None
        took = int((time.monotonic() - self._began) * 1000)
        self.turn.status = turn.status
        self.turn.final_response = final_response(turn.items) or self._said
        self.turn.duration_ms = took if turn.duration_ms is None else turn.duration_ms
        self.turn.error = turn.error
        self._over()

    # -- streams -------------------------------------------------------------------------------

    def listen(self) -> _Reader:
        """Begin to keep what is told, for one stream. Call it before :meth:`start`."""
        reader = _Reader()
        self._readers.append(reader)
        return reader

    async def follow(self, reader: _Reader) -> AsyncGenerator[tuple[str, bytes] | None, None]:
        """The notifications as they come, each with its method; None where nothing came for long.

        Raises:
            Behind: the reader has not kept up.
        """
        try:
            while True:
                while reader.frames:
                    method, data = reader.frames.popleft()
                    reader.held -= len(data)
                    yield method, data
                if reader.is_behind:
                    raise Behind(f"more than {_BEHIND_BYTES} bytes of the turn were left unread")
                if self._ended.is_set():
                    return
                reader.came.clear()
                try:
                    async with asyncio.timeout(_QUIET_S):
                        await reader.came.wait()
                except TimeoutError:
                    yield None
        finally:
            self._readers.remove(reader)
