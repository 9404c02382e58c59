"""Setting events.jsonl right after a crash: a torn last line, events that only the cache has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from codexd.contracts import Event
from codexd.encoding import decode_json
from codexd.eventlog.chain import size
from codexd.eventlog.lines import MAX_LINE, line_starts_backward
from codexd.eventlog.newest import Newest
from codexd.eventlog.reader import parse_event
from codexd.platform.files import NotAFile, open_private, read_whole, set_aside_sentence


def repair_tail(path: str) -> str | None:
    """Set a last line without a newline right.

    A whole event gets its newline; a torn one is cut off. A file that has no lines at all is
    no event log and is set aside.

    Returns:
        A sentence about what was done, or None.
    """
    name = os.path.basename(path)
    try:
        with os.fdopen(open_private(path, os.O_RDWR), "r+b", buffering=0) as file:
            start = _start_of_open_line(file)
            if start is None:
                return None
            if size(file) - start <= MAX_LINE:
                return f"{name}: {_close_line(file, start)}"
    except FileNotFoundError:
        return None
    except NotAFile:
        return set_aside_sentence(path, "was no file")
    except OSError as error:
        return f"{name} could not be checked: {error.strerror}."
    return set_aside_sentence(path, "was no event log")


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
    newest: list[msgspec.Raw] | None = None


def newest_kept(path: str, recent_path: str, last: Sequence[Event], *, is_all: bool) -> Newest:
    """What the log at ``path`` has, which ends with ``last``, the newest first.

    ``is_all``: that is all of it. recent-events.json counts where the log still has the last event
    that it knew of.
    """
    if is_all:
        return Newest.since((), last)
    cache = _read_cache(recent_path)
    known = _parsed(cache.events)[-1:] if cache.newest is not None else []
    keys = [_key(event) for event in last]
    if not known or _key(known[0]) not in keys:
        return Newest.scanned(path)
    kept = [event for raw in cache.newest or () if (event := parse_event(bytes(raw))) is not None]
    return Newest.since(kept, last[: keys.index(_key(known[0]))])


def lost_events(recent_path: str, newest: Sequence[Event]) -> list[Event]:
    """The events of recent-events.json that the log, which ends with ``newest``, has lost.

    ``newest`` is the newest first, as the log has them: not always by number, for other programs
    have written some. The cache is written after the log: it is ahead only where the log was
    deleted or cut. A cache that does not know the log's last event belongs to another history
    and counts for nothing.
    """
    cached = _parsed(_read_cache(recent_path).events)
    if not newest:
        return cached
    if _key(newest[0]) not in {_key(event) for event in cached}:
        return []
    greatest = max(event.seq for event in newest)
    return [event for event in cached if event.seq > greatest]


def _key(event: Event) -> tuple[int, str, str]:
    return event.seq, event.created_at, event.type


def _read_cache(path: str) -> _Cache:
    try:
        return decode_json(read_whole(path), _Cache)
    except (OSError, ValueError, RecursionError):
        return _Cache([])


def _parsed(raw: Sequence[msgspec.Raw]) -> list[Event]:
    """The events that can be read, each above the one before it."""
    events: list[Event] = []
    for entry in raw:
        event = parse_event(bytes(entry))
        if event is not None and (not events or event.seq > events[-1].seq):
            events.append(event)
    return events
