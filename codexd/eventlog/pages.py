"""Reading events.jsonl a page at a time, for whoever must do something else in between."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from codexd.contracts import EventLevel
from codexd.encoding import encode_json
from codexd.eventlog.reader import events_with, read_events
from codexd.eventlog.types import TYPES

# Looked at for one page, however few of them are wanted: some milliseconds.
_SCANNED: Final = 2000


class Wanted(msgspec.Struct, frozen=True):
    """Which events are wanted; without types, or levels, those of all."""

    types: frozenset[str] = frozenset()
    levels: frozenset[EventLevel] = frozenset()

    def takes(self, type_: str, level: EventLevel) -> bool:
        """Whether an event of this type and level is one of them."""
        return (not self.types or type_ in self.types) and (not self.levels or level in self.levels)


class Page(msgspec.Struct):
    """Events in order, each as its number and its JSON.

    Whatever is wanted up to the number ``reached`` is among them, or on an earlier page.
    """

    reached: int
    lines: list[tuple[int, bytes]] = msgspec.field(default_factory=list)
    size: int = 0

    def add(self, seq: int, line: bytes) -> None:
        """One event more."""
        self.lines.append((seq, line))
        self.size += len(line)

    def is_full(self, most: int | None, max_bytes: int) -> bool:
        """Whether no more should come onto it."""
        return self.size >= max_bytes or (most is not None and len(self.lines) >= most)


def read_page(path: str, since: int, wanted: Wanted, most: int | None, max_bytes: int) -> Page:
    """The next events above ``since``; ``reached`` is still ``since`` where there are none."""
    page = Page(since)
    for scanned, event in enumerate(read_events(path, since=since), start=1):
        page.reached = event.seq
        if wanted.takes(event.type, event.level):
            page.add(event.seq, encode_json(event))
        if scanned >= _SCANNED or page.is_full(most, max_bytes):
            break
    return page


def oldest_seq(path: str) -> int | None:
    """The number of the oldest event that is still there."""
    return next((event.seq for event in read_events(path)), None)


def unknown_types(path: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are no types of events, and that no earlier program recorded."""
    return [
        name
        for name in names
        if name not in TYPES and not any(event.type == name for event in events_with(path, name))
    ]
