"""events.jsonl: what happened, numbered, for good."""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from codexd.clock import now_iso
from codexd.contracts import Event, EventLevel, RecentEvents
from codexd.encoding import encode_json
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.reader import events_backward
from codexd.eventlog.repair import lost_events, newest_kept, repair_tail
from codexd.eventlog.types import OTHER, TYPES

_KNOWN: Final = frozenset(TYPES)
# Events that wait for the disk; more are counted and not kept, so that memory stays flat.
_MAX_WAITING: Final = 10_000
# Other programs have written logs whose numbers are not in order; so far back is the greatest
# of them looked for.
_LOOK_BACK: Final = 1000


class EventLog:
    """The one writer of events.jsonl; also keeps the last ``cache_size`` events.

    A number is given when the line is in the file, so that the numbers in it have no gap.
    ``repairs`` tells in a sentence each what had to be set right when it was opened.
    """

    def __init__(
        self,
        path: str,
        recent_path: str,
        *,
        max_bytes: int,
        backups: int,
        cache_size: int,
        clock: Callable[[], str] = now_iso,
    ) -> None:
        self.repairs: list[str] = []
        self._clock = clock
        self._cache_size = cache_size
        self._waiting: deque[Event] = deque()
        # Called when an event has to wait: :meth:`tick` is to be called until none does.
        self.on_waiting: Callable[[], None] = lambda: None
        self._dropped = 0
        # How many this writer has written, by type.
        self.counts: Counter[str] = Counter()
        # How many there were in all that could not be kept.
        self.dropped_total = 0
        self._subscribers: list[Callable[[Event], None]] = []
        repaired = repair_tail(path)
        if repaired:
            self.repairs.append(repaired)
        look_back = max(cache_size, _LOOK_BACK)
        newest = list(islice(events_backward(path), look_back))
        # The newest of each kind that is asked for when the log is opened.
        self.kinds = newest_kept(path, recent_path, newest, is_all=len(newest) < look_back)
        self._recent = deque(reversed(newest[:cache_size]), maxlen=cache_size)
        self._seq = max((event.seq for event in newest), default=0)
        self._log = AppendLog(path, max_bytes=max_bytes, backups=backups)
        self._put_back(lost_events(recent_path, newest))

    def _put_back(self, lost: list[Event]) -> None:
        if lost:
            self.repairs.append(f"{len(lost)} events were only in the cache and were put back.")
        for event in lost:
            self._seq = event.seq - 1
            self._append(event)
            self._seq = event.seq

    @property
    def path(self) -> str:
        """The file."""
        return self._log.path

    @property
    def newest(self) -> int:
        """The number of the last event in the file."""
        return self._seq

    def must_be_written(self) -> None:
        """Write what waits.

        Raises:
            OSError: the disk does not take it.
        """
        self.tick()
        if self._waiting:
            code = self._log.error.errno if self._log.error else None
            raise OSError(code or errno.EIO, self._log.trouble or "Events wait", self._log.path)

    def record(
        self, level: EventLevel, type: str, message: str, detail: dict[str, Any] | None = None
    ) -> Event | None:
        """Append an event; None where the disk does not take it now, and it waits."""
        event = Event(
            seq=0,
            created_at=self._clock(),
            level=level,
            type=type,
            message=message,
            detail=detail,
        )
        if not self._waiting and self._append(event):
            return event
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(event)
        else:
            self._dropped += 1
            self.dropped_total += 1
        self.on_waiting()
        return None

    @property
    def is_waiting(self) -> bool:
        """Whether there are events that the disk did not take yet."""
        return bool(self._waiting)

    def tick(self) -> None:
        """Write what waits, and see that the file is there; call it some times a second."""
        if not self._waiting:
            self._log.heal()
            return
        while self._waiting and self._append(self._waiting[0]):
            self._waiting.popleft()
        if self._dropped and not self._waiting:
            dropped, self._dropped = self._dropped, 0
            message = f"{dropped} events could not be written and were dropped."
            self.record("error", "events.dropped", message, {"count": dropped})

    def recent(self) -> list[Event]:
        """The last events in the file, oldest first."""
        return list(self._recent)

    def recent_record(self) -> RecentEvents:
        """recent-events.json as it should be now; may be called from another thread.

        Flushes the log to the device first: after a power cut the cache is never ahead of it.
        """
        # In this order: the newest have every event that is among the last, and may have later
        # ones, which are found again in the log. What comes during the flush is in neither.
        events = list(self._recent.copy())
        newest = self.kinds.kept()
        self._log.flush()
        return RecentEvents(
            max_entries=self._cache_size,
            updated_at=self._clock(),
            events=events,
            newest=newest,
        )

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Have ``callback`` called with each event once it is in the file."""
        self._subscribers.append(callback)

    def close(self) -> None:
        """Write what waits if the disk takes it, and let go of the file."""
        self.tick()
        self._log.close()

    def _append(self, event: Event) -> bool:
        event.seq = self._seq + 1
        if not self._log.write_line(encode_json(event) + b"\n"):
            return False
        self._seq = event.seq
        self.counts[event.type if event.type in _KNOWN else OTHER] += 1
        # In this order: see :meth:`recent_record`.
        self.kinds.heard(event)
        self._recent.append(event)
        for subscriber in tuple(self._subscribers):
            subscriber(event)
        return True
