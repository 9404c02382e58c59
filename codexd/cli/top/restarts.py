"""The restarts of the last day and why, and the last turn of each thread, as events tell them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from codexd.contracts import Event

DAY_S: Final = 24 * 3600.0
# A server in a crash loop.
_MOST_RESTARTS: Final = 10_000
_MOST_THREADS: Final = 2_000

# What events it is that are needed here.
COUNTED: Final = frozenset(
    {
        "child.exited",
        "child.recycling",
        "child.started",
        "child.unhealthy",
        "daemon.started",
        "turn.completed",
        "turn.interrupted",
        "turn.started",
    }
)


def epoch(iso: str) -> float | None:
    """POSIX seconds of one of our times; None where it is none."""
    try:
        return datetime.fromisoformat(iso).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


class Restarts:
    """Is told of every event, in order."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=_MOST_RESTARTS)
        self._is_first = False
        self._cause: str | None = None
        self.last_cause: str | None = None

    def hear(self, event: Event) -> None:
        """Something happened."""
        if event.type == "daemon.started":
            self._is_first, self._cause = True, None
        elif event.type == "child.unhealthy":
            self._cause = "it did not answer"
        elif event.type == "child.recycling":
            self._cause = "it had too much memory"
        elif event.type == "child.exited":
            self._cause = self._cause or _how_it_ended(event)
        elif event.type == "child.started":
            self._started(event)

    def _started(self, event: Event) -> None:
        cause, self._cause = self._cause, None
        if self._is_first:
            self._is_first = False
            return
        at = epoch(event.created_at)
        if at is not None:
            self._at.append(at)
            self.last_cause = cause

    def of_last_day(self, now: float) -> list[float]:
        """When, in POSIX seconds."""
        return [at for at in self._at if now - DAY_S < at]

    def histogram(self, now: float, bars: int) -> list[int]:
        """How many in each part of the last day, the oldest first."""
        counts = [0] * bars
        for at in self.of_last_day(now):
            # Of a clock that was set back, it is as of now.
            counts[min(int((at - (now - DAY_S)) / DAY_S * bars), bars - 1)] += 1
        return counts


def _how_it_ended(event: Event) -> str:
    detail = event.detail or {}
    if event.level == "info":
        return "it was asked to end"
    if detail.get("signal"):
        return f"killed by {detail['signal']}"
    reason = detail.get("reason")
    return f"exit {detail.get('code')}{f': {reason}' if reason else ''}"


@dataclass(frozen=True, slots=True)
class LastTurn:
    """The newest turn of a thread: that it runs since then, or that it has ended then."""

    turn_id: str
    state: Literal["running", "completed", "interrupted"]
    since: str


class Turns:
    """Is told of every event, in order."""

    def __init__(self) -> None:
        self._last: dict[str, LastTurn] = {}

    def hear(self, event: Event) -> None:
        """Something happened."""
        state = _STATES.get(event.type)
        thread_id, turn_id = (_text(event, key) for key in ("threadId", "turnId"))
        if state is None or thread_id is None or turn_id is None:
            return
        # The newest last.
        self._last.pop(thread_id, None)
        self._last[thread_id] = LastTurn(turn_id, state, event.created_at)
        if len(self._last) > _MOST_THREADS:
            del self._last[next(iter(self._last))]

    def of(self, thread_id: str | None) -> LastTurn | None:
        """The last of a thread; None where none is known."""
        return None if thread_id is None else self._last.get(thread_id)


_STATES: Final[dict[str, Literal["running", "completed", "interrupted"]]] = {
    "turn.started": "running",
    "turn.completed": "completed",
    "turn.interrupted": "interrupted",
}


def _text(event: Event, key: str) -> str | None:
    value = (event.detail or {}).get(key)
    return value if isinstance(value, str) else None


def sparkline(counts: Sequence[int], *, ascii_only: bool = False) -> str:
    """A bar for each count, as high as it is beside the highest; a dot for none."""
    if ascii_only:
        return "".join("." if not count else str(count) if count < 10 else "+" for count in counts)
    highest = max(counts, default=0)
    return "".join("·" if not count else _BARS[-(-count * 8 // highest) - 1] for count in counts)


_BARS: Final = "▁▂▃▄▅▆▇█"
