"""Setting events.jsonl right after a crash: a torn last line, events that only the cache has."""

from __future__ import annotations

import os
from typing import BinaryIO

import msgspec

from codexd.contracts import Event
from codexd.eventlog.chain import size
from codexd.eventlog.lines import MAX_LINE, line_starts_backward
from codexd.eventlog.reader import parse_event
from codexd.platform.files import set_aside


def repair_tail(path: str) -> str | None:
    """Set a last line without a newline right.

    A whole event gets its newline; a torn one is cut off. A file that has no lines at all is
    no event log and is set aside.

    Returns:
        A sentence about what was done, or None.
    """
    name = os.path.basename(path)
    try:
        with open(path, "r+b", buffering=0) as file:
            start = _start_of_open_line(file)
            if start is None:
                return None
            if size(file) - start <= MAX_LINE:
                return f"{name}: {_close_line(file, start)}"
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{name} could not be checked: {error.strerror}."
    aside = set_aside(path)
    return f"{name} was no event log; it is kept as {os.path.basename(aside or path)}."


def _start_of_open_line(file: BinaryIO) -> int | None:
    end = size(file)
    if end == 0 or os.pread(file.fileno(), 1, end - 1) == b"\n":
        return None
    return next(line_starts_backward(file, end))


def _close_line(file: BinaryIO, start: int) -> str:
    end = size(file)
    if parse_event(os.pread(file.fileno(), end - start, start)) is not None:
        os.pwrite(file.fileno(), b"\n", end)
        return "the last line had lost its newline."
    os.ftruncate(file.fileno(), start)
    return f"a torn last line of {end - start} bytes was cut off."


class _Cache(msgspec.Struct):
    events: list[msgspec.Raw]


def lost_events(recent_path: str, newest: Event | None) -> list[Event]:
    """The events of recent-events.json that the log, which ends with ``newest``, has lost.

    The cache is written after the log: it is ahead only where the log was deleted or cut. A
    cache that does not know ``newest`` belongs to another history and counts for nothing.
    """
    cached = _read_cache(recent_path)
    if newest is None:
        return cached
    if not any(_same(event, newest) for event in cached):
        return []
    return [event for event in cached if event.seq > newest.seq]


def _same(one: Event, other: Event) -> bool:
    return (one.seq, one.created_at, one.type) == (other.seq, other.created_at, other.type)


def _read_cache(path: str) -> list[Event]:
    """The events of the cache that can be read, each above the one before it."""
    try:
        with open(path, "rb") as file:
            raw = msgspec.json.decode(file.read(), type=_Cache).events
    except (OSError, ValueError, RecursionError):
        return []
    events: list[Event] = []
    for entry in raw:
        event = parse_event(bytes(entry))
        if event is not None and (not events or event.seq > events[-1].seq):
            events.append(event)
    return events
