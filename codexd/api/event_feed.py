"""The events for any number of followers: the newest from memory, older ones from the log.

What is new is put into bytes once for all who want the same. They are woken together: at once
after a quiet time, and then not before some time has passed, so that a burst costs each of them one
write. Whoever falls behind reads on from the files; what the memory holds never depends on readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from codexd.contracts import Event, EventLevel
from codexd.encoding import encode_json
from codexd.eventlog.log import EventLog
from codexd.eventlog.pages import Page, Wanted, oldest_seq, read_page, unknown_types

Frame = Callable[[int, bytes], bytes]

# Of the newest events, so much is kept.
_KEPT_BYTES: Final = 1 << 20
_KEPT_COUNT: Final = 4096
# What a reader is given at once, and so what it can leave unread.
_PIECE_BYTES: Final = 32 << 10
# Between two awakenings: longer for a crowd, which costs the plugin a write each.
_PAUSE_S: Final = 0.05
_PAUSE_EACH_S: Final = 0.0002
_MAX_PAUSE_S: Final = 0.5
# Woken in one turn of the loop, so that a crowd does not hold up everybody else.
_WOKEN_AT_ONCE: Final = 32
# Followers are woken this often although nothing happens, to show that they are not forgotten.
BEAT_S: Final = 10.0
_MADE: Final = 256


class _Kept(NamedTuple):
    seq: int
    type: str
    level: EventLevel
    line: bytes


class Piece(msgspec.Struct, frozen=True):
    """The bytes of ``count`` events, which end with the number ``reached``."""

    data: bytes
    count: int
    reached: int


class EventFeed:
    """Follows ``log``. Call all of it from the loop."""

    def __init__(self, log: EventLog) -> None:
        self._path = log.path
        self._loop = asyncio.get_event_loop()
        self._kept: list[_Kept] = []
        self._kept_bytes = 0
        # The number before the first that is kept, and the one up to which followers are told.
        self._floor = self._edge = self._newest = log.newest
        self._made: dict[tuple[Wanted, Frame, int, int, int | None], Piece] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._waking: list[asyncio.Future[None]] = []
        self._woken_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        # Reading files is work for the interpreter that the loop needs, too: one page at a time.
        self._reading = asyncio.Lock()
        log.subscribe(self._take)

    @property
    def newest(self) -> int:
        """The number of the newest event."""
        return self._newest

    @property
    def edge(self) -> int:
        """The number up to which followers read: so they stay together, and share."""
        return self._edge

    async def oldest(self) -> int:
        """The number of the oldest event that is kept; of the next one, where none is."""
        async with self._reading:
            seq = await asyncio.to_thread(oldest_seq, self._path)
        return self._newest + 1 if seq is None else seq

    async def unknown_types(self, names: list[str]) -> list[str]:
        """Those that no event has or had."""
        async with self._reading:
            return await asyncio.to_thread(unknown_types, self._path, names)

    async def page(self, wanted: Wanted, since: int, until: int, most: int | None) -> Page:
        """The next events above ``since``; those of memory no further than ``until``."""
        if since >= self._floor:
            return self._from_memory(wanted, since, until, most)
        floor = self._floor
        async with self._reading:
            page = await asyncio.to_thread(read_page, self._path, since, wanted, most, _PIECE_BYTES)
        if page.reached == since:
            # What lies between is in no file any more.
            page.reached = floor
        return page

    async def piece(
        self, wanted: Wanted, frame: Frame, since: int, until: int, most: int | None
    ) -> Piece:
        """The same as bytes, each event in its ``frame``."""
        if since < self._floor:
            return _framed(await self.page(wanted, since, until, most), frame)
        key = (wanted, frame, since, until, most)
        piece = self._made.get(key)
        if piece is None:
            if len(self._made) >= _MADE:
                self._made.clear()
            piece = _framed(self._from_memory(wanted, since, until, most), frame)
            self._made[key] = piece
        return piece

    async def more(self, since: int) -> None:
        """Wait for something above ``since``, but not much longer than :data:`BEAT_S`."""
        if since < self._edge:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        if self._beat is None:
            self._beat = self._loop.call_later(BEAT_S, self._on_beat)
        if self._edge < self._newest:
            self._wake_soon()
        await future

    # -- what is new ---------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        line = encode_json(event)
        if event.seq != self._newest + 1:
            # Somebody set the numbers: what is kept does not lead here.
            self._kept.clear()
            self._kept_bytes = 0
            self._floor = event.seq - 1
        self._kept.append(_Kept(event.seq, event.type, event.level, line))
        self._kept_bytes += len(line)
        self._newest = event.seq
        if self._kept_bytes > _KEPT_BYTES or len(self._kept) > _KEPT_COUNT:
            self._forget_some()
        if self._waiting or self._waking:
            self._wake_soon()
        else:
            self._move_edge()

    def _forget_some(self) -> None:
        # A part at once: each time costs a move of all that stays.
        count = len(self._kept) // 4 + 1
        self._kept_bytes -= sum(len(kept.line) for kept in self._kept[:count])
        del self._kept[:count]
        self._floor += count

    def _from_memory(self, wanted: Wanted, since: int, until: int, most: int | None) -> Page:
        page = Page(max(since, until))
        for kept in self._kept[since - self._floor : max(until - self._floor, 0)]:
            if wanted.takes(kept.type, kept.level):
                page.add(kept.seq, kept.line)
                if page.is_full(most, _PIECE_BYTES):
                    page.reached = kept.seq
                    break
        return page

    # -- waking --------------------------------------------------------------------------------

    def _wake_soon(self) -> None:
        if self._timer is None and not self._waking:
            crowd_s = _PAUSE_S + len(self._waiting) * _PAUSE_EACH_S
            due = self._woken_at + min(crowd_s, _MAX_PAUSE_S)
            self._timer = self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._woken_at = self._loop.time()
        self._move_edge()
        self._waking, self._waiting = self._waiting, []
        self._wake_some()

    def _move_edge(self) -> None:
        self._edge = self._newest
        self._made.clear()

    def _wake_some(self) -> None:
        some = self._waking[-_WOKEN_AT_ONCE:]
        del self._waking[-_WOKEN_AT_ONCE:]
        for future in some:
            # Whoever left meanwhile has cancelled it.
            if not future.done():
                future.set_result(None)
        if self._waking:
            self._loop.call_soon(self._wake_some)
        elif self._edge < self._newest and self._waiting:
            self._wake_soon()

    def _on_beat(self) -> None:
        self._beat = None
        if self._waiting and self._timer is None and not self._waking:
            self._wake()


def _framed(page: Page, frame: Frame) -> Piece:
    data = b"".join(frame(seq, line) for seq, line in page.lines)
    return Piece(data, len(page.lines), page.reached)
