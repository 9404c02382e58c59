"""Reading events.jsonl: its past, its end, and what is still to come."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO, Final

import msgspec

from codexd.contracts import Event
from codexd.encoding import json_decoder
from codexd.eventlog.chain import inode, open_chain, size
from codexd.eventlog.lines import lines_backward, lines_forward, lines_with
from codexd.platform.files import open_to_read

_POLL_S: Final = 0.05
# A part this short is read from its beginning rather than searched.
_SHORT: Final = 1 << 15

_decoder = json_decoder(Event)


def parse_event(line: bytes) -> Event | None:
    """The event on one line, or None where there is none."""
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if event.seq > 0 else None


def events_backward(path: str) -> Iterator[Event]:
    """Every event of the log at ``path`` and its rotated files, newest first."""
    with open_chain(path) as files:
        for file in files:
            for line in lines_backward(file, size(file)):
                event = parse_event(line) if line.endswith(b"\n") else None
                if event is not None:
                    yield event


def read_events(
    path: str,
    *,
    since: int = 0,
    types: Collection[str] | None = None,
    levels: Collection[str] | None = None,
    without: Callable[[Event], bool] | None = None,
    last: int | None = None,
) -> Iterator[Event]:
    """The events with a ``seq`` above ``since``, oldest first, over rotated files.

    ``types`` and ``levels`` let only those through, ``without(event)`` tells of others to leave
    out; ``last`` lets through only so many of the newest that got through. Torn and foreign lines
    are passed over. What lies before ``since`` or before the ``last`` events costs next to
    nothing, however much it is.
    """
    wanted = _filter(types, levels, without)
    if last is None:
        return filter(wanted, _forward(path, since))
    newer = itertools.takewhile(lambda event: event.seq > since, events_backward(path))
    return reversed(list(itertools.islice(filter(wanted, newer), last)))


def follow_events(
    path: str,
    *,
    since: int = 0,
    types: Collection[str] | None = None,
    levels: Collection[str] | None = None,
    without: Callable[[Event], bool] | None = None,
    stop: Callable[[], bool] = lambda: False,
    poll_s: float = _POLL_S,
) -> Iterator[Event]:
    """As :func:`read_events`, and then each event as it comes, until ``stop()`` is true.

    Goes through rotation, deletion of the file or its directory, and restarts of the daemon:
    no event twice, and none left out that is in a file.
    """
    return filter(_filter(types, levels, without), _follow(path, since, stop, poll_s))


def events_with(path: str, marker: str) -> Iterator[Event]:
    """The events whose line holds ``"marker"``, newest first; finds few among many quickly."""
    encoded = msgspec.json.encode(marker)
    with open_chain(path) as files:
        for file in files:
            for line in lines_with(file, encoded):
                event = parse_event(line)
                if event is not None:
                    yield event


def seq_before(path: str, time: str) -> int:
    """The number of the newest event from before a time (ISO 8601 as in the log); 0 for none."""
    return next((event.seq for event in events_backward(path) if event.created_at < time), 0)


def begins_at_the_beginning(path: str) -> bool:
    """Whether no event was ever rotated away or deleted with its file."""
    return next((event.seq for event in _forward(path, 0)), 1) == 1


def _filter(
    types: Collection[str] | None,
    levels: Collection[str] | None,
    without: Callable[[Event], bool] | None,
) -> Callable[[Event], bool]:
    def wanted(event: Event) -> bool:
        return (
            (not types or event.type in types)
            and (not levels or event.level in levels)
            and (without is None or not without(event))
        )

    return wanted


def _events(file: BinaryIO, start: int) -> Iterator[tuple[Event, int]]:
    """The events from offset ``start`` on, each with the offset after it."""
    for line, offset in lines_forward(file, start):
        event = parse_event(line)
        if event is not None:
            yield event, offset


def _forward(path: str, since: int) -> Iterator[Event]:
    with open_chain(path) as files:
        for file in _that_may_hold_newer(files, since):
            for event, _ in _events(file, _offset_before(file, since)):
                if event.seq > since:
                    since = event.seq
                    yield event


def _that_may_hold_newer(files: list[BinaryIO], since: int) -> list[BinaryIO]:
    """Of ``files``, newest first, those with events above ``since``: oldest first."""
    for count, file in enumerate(files, start=1):
        first = _first_seq(file, 0)
        if first is not None and first <= since + 1:
            return files[:count][::-1]
    return files[::-1]


def _first_seq(file: BinaryIO, start: int) -> int | None:
    return next((event.seq for event, _ in _events(file, start)), None)


def _offset_before(file: BinaryIO, since: int) -> int:
    """An offset before the first event above ``since`` and not far from it.

    It may be inside a line: the rest of that line is no event and will be passed over.
    """
    low, high = 0, size(file)
    while high - low > _SHORT:
        middle = (low + high) // 2
        seq = _first_seq(file, middle)
        if seq is not None and seq <= since:
            low = middle
        else:
            high = middle
    return low


class _Tail:
    """The newest file of the log, read as it grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._offset = 0

    def grown(self) -> Iterator[Event]:
        """The events that came since the last call."""
        if self._file is not None:
            for event, offset in _events(self._file, self._offset):
                self._offset = offset
                yield event

    def is_current(self) -> bool:
        """Whether the path still names the file that is read, and it has not shrunk."""
        try:
            status = os.lstat(self._path)
        except OSError:
            # In a rotation, or deleted: what comes next will be under the path again.
            return True
        return (
            self._file is not None
            and status.st_ino == inode(self._file)
            and status.st_size >= self._offset
        )

    def reopen(self, since: int) -> None:
        """Go on with the file that the path names now."""
        self.close()
        try:
            self._file = os.fdopen(open_to_read(self._path), "rb")
        except OSError:
            return
        self._offset = _offset_before(self._file, since)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _follow(path: str, since: int, stop: Callable[[], bool], poll_s: float) -> Iterator[Event]:
    tail = _Tail(path)
    try:
        while True:
            stopping = stop()
            replaced = not tail.is_current()
            for event in tail.grown():
                if event.seq > since:
                    since = event.seq
                    yield event
            if replaced:
                # More than one file may have come; the one that is there last is read on.
                tail.reopen(since)
                for event in _forward(path, since):
                    since = event.seq
                    yield event
            elif stopping:
                return
            else:
                time.sleep(poll_s)
    finally:
        tail.close()
