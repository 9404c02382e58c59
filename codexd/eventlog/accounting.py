"""Which bytes of an output log no event tells of, after a writer was killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codexd.eventlog.chain import inode, open_chain, size
from codexd.eventlog.newest import Newest
from codexd.eventlog.reader import begins_at_the_beginning, events_with


def last_burst_detail(newest: Newest, events_path: str, stream: str) -> dict[str, Any] | None:
    """The detail of the newest ``child.STREAM`` event.

    Returns:
        None if there never was one; an empty dict if those that were are rotated away.
    """
    event = newest.of(f"child.{stream}")
    if event is not None:
        return event.detail or {}
    return None if begins_at_the_beginning(events_path) else {}


def written_before(events_path: str, stream: str, time: str) -> tuple[int, int] | None:
    """Where the child's output ended before a time, as far as events tell: inode, and offset.

    Returns:
        None where nothing is known to have been written before.
    """
    kind = f"child.{stream}"
    for event in events_with(events_path, kind):
        detail = event.detail or {}
        number, end = detail.get("inode"), detail.get("end")
        if event.type == kind and event.created_at < time:
            if isinstance(number, int) and isinstance(end, int):
                return number, end
            return None
    return None


def unaccounted(log_path: str, detail: Mapping[str, Any] | None) -> tuple[int, dict[str, int]]:
    """The bytes of an output log that came after the burst whose event has ``detail``.

    Returns:
        How many there are, and the end of the log as ``{"inode": …, "end": …}``.
    """
    with open_chain(log_path) as files:
        sizes = [(inode(file), size(file)) for file in files]
    if not sizes:
        return 0, {"inode": 0, "end": 0}
    position = {"inode": sizes[0][0], "end": sizes[0][1]}
    if detail is None:
        return sum(length for _, length in sizes), position
    known_inode, end = detail.get("inode"), detail.get("end")
    if not isinstance(known_inode, int) or not isinstance(end, int):
        # Written by a program that recorded each piece as it came.
        return 0, position
    return _bytes_after(sizes, known_inode, end), position


def _bytes_after(sizes: list[tuple[int, int]], known_inode: int, end: int) -> int:
    newer = 0
    for number, length in sizes:
        if number == known_inode:
            # Shorter than it was: another file, or cut by someone; all of it is new.
            return newer + (length - end if length >= end else length)
        newer += length
    # A burst is recorded before each rotation, so what is rotated is accounted for.
    return sizes[0][1]
