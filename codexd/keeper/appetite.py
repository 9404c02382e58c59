"""A server that eats too much, and is replaced while nobody needs it.

Looked at is the memory that is resident in the server's own process: what a command of a turn
takes is the user's. An unknown number of turns is not idle, so a child that does not speak the
protocol is never replaced. What is only told, once for each child: one that computes for minutes
while nothing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from codexd.contracts import EventLevel
from codexd.platform.process import processor_s, resident_bytes

LOOK_S: Final = 5.0
# A server that is as big again at once is not replaced at once again.
_PAUSE_S: Final = 60.0
# So much of one core, for so long, with nothing to do.
_BUSY_SHARE: Final = 0.8
_BUSY_S: Final = 600.0


class Usage(NamedTuple):
    """What a process has used: resident bytes now, and processor seconds since it started."""

    resident: int
    processor_s: float


def read_usage(pid: int) -> Usage | None:
    """What the kernel says; None where there is no such process."""
    try:
        resident = resident_bytes(pid)
        return None if resident is None else Usage(resident, processor_s(pid))
    except OSError:
        return None


def is_idle(counts: Mapping[str, Any]) -> bool:
    """Whether the hub's counts say that nobody waits for the child. Unknown is not idle."""
    waiting = ("runningTurns", "waitingApprovals", "waitingRequests")
    return counts.get("server") == "up" and all(counts.get(name) == 0 for name in waiting)


class Appetite:
    """Watches one child after the other.

    ``max_bytes`` of 0 is no limit. ``record`` takes events; ``recycle()`` has the child ended in
    order and another started.
    """

    def __init__(
        self,
        max_bytes: int,
        record: Callable[[EventLevel, str, str, dict[str, Any]], None],
        recycle: Callable[[], None],
        usage: Callable[[int], Usage | None] = read_usage,
    ) -> None:
        self._max_bytes = max_bytes
        self._record = record
        self._recycle = recycle
        self._usage = usage
        self._not_before = 0.0
        self._pid: int | None = None
        self._idle_since: tuple[float, float] | None = None
        self._has_told = False

    def look(self, pid: int | None, *, is_idle: bool, now: float) -> None:
        """Look at the child ``pid``, at the time ``now`` in seconds."""
        if pid != self._pid:
            self._pid, self._idle_since, self._has_told = pid, None, False
        used = None if pid is None else self._usage(pid)
        if pid is None or used is None or not is_idle:
            self._idle_since = None
            return
        self._look_at_processor(pid, used.processor_s, now)
        if 0 < self._max_bytes < used.resident and now >= self._not_before:
            self._not_before = now + _PAUSE_S
            self._tell_memory(pid, used.resident)
            self._recycle()

    def _tell_memory(self, pid: int, resident: int) -> None:
        message = (
            f"The server has {resident >> 20} MiB of memory, more than {self._max_bytes >> 20}: "
            "no turn runs, and another takes its place."
        )
        detail = {"pid": pid, "residentBytes": resident, "limitBytes": self._max_bytes}
        self._record("warn", "child.recycling", message, detail)

    def _look_at_processor(self, pid: int, processor_s: float, now: float) -> None:
        if self._idle_since is None:
            self._idle_since = (now, processor_s)
        began, used_then = self._idle_since
        lasted_s, used_s = now - began, processor_s - used_then
        if lasted_s < _BUSY_S or self._has_told:
            return
        # Anew: what is asked is how it was lately.
        self._idle_since = (now, processor_s)
        if used_s >= _BUSY_SHARE * lasted_s:
            self._has_told = True
            message = (
                f"The server has computed for {used_s:.0f} of the last {lasted_s:.0f} seconds, "
                "though no turn ran: `codexd restart --when-idle` would end that."
            )
            detail = {"pid": pid, "processorSeconds": round(used_s), "seconds": round(lasted_s)}
            self._record("warn", "child.busy_idle", message, detail)
