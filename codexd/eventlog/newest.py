"""The newest event of each kind that whoever opens the log asks for, however long ago it was.

To look for a rare one costs the reading of the whole log. So they are kept in recent-events.json,
which is never far behind: only what came after it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from codexd.contracts import Event
from codexd.eventlog.reader import begins_at_the_beginning, events_with

KINDS: Final = ("child.exited", "child.stdout", "child.stderr", "daemon.started", "daemon.stopped")
# What the events of circusd's steps carry, of whatever type they are.
_STEP: Final = "step"


def _has_step(event: Event) -> bool:
    return event.detail is not None and isinstance(event.detail.get(_STEP), int)


class Newest:
    """Hears of every event, oldest first."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._by_kind: dict[str, Event] = {}
        for event in events:
            self.heard(event)

    @classmethod
    def scanned(cls, path: str) -> Newest:
        """Those of the log at ``path``: all of it is read."""
        found = [next((e for e in events_with(path, _STEP) if _has_step(e)), None)]
        for kind in KINDS:
            found.append(next((e for e in events_with(path, kind) if e.type == kind), None))
        return cls(sorted((e for e in found if e is not None), key=lambda event: event.seq))

    @classmethod
    def since(cls, kept: Sequence[Event], newer: Iterable[Event]) -> Newest:
        """Those that were kept, and what came after them, the newest first."""
        return cls([*kept, *reversed(list(newer))])

    def heard(self, event: Event) -> None:
        """An event was recorded."""
        if event.type in KINDS:
            self._by_kind[event.type] = event
        if _has_step(event):
            self._by_kind[_STEP] = event

    def of(self, kind: str) -> Event | None:
        """The newest event of one of :data:`KINDS`; None where there is none any more."""
        return self._by_kind.get(kind)

    def step(self, path: str) -> int | None:
        """The newest step of circusd's that the log at ``path`` tells of.

        Returns:
            0 if it never told of one; None if it does not any more.
        """
        event = self._by_kind.get(_STEP)
        if event is not None and event.detail is not None:
            return int(event.detail[_STEP])
        return 0 if begins_at_the_beginning(path) else None

    def kept(self) -> list[Event]:
        """Each of them once, the oldest first; may be called from another thread."""
        # Other programs have given one number twice.
        events = {(event.seq, event.type): event for event in list(self._by_kind.values())}
        return [events[key] for key in sorted(events)]
