"""Staying awake for an answer that is about to come.

codex answers a small request within a tenth of a millisecond. Whoever goes to sleep meanwhile is
woken up, on a processor that has been halted and with nothing in its caches, and that takes longer
than all that is done with the answer: the client waits nearly twice as long.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from typing import Final

# For so long after a request was sent.
_WAIT_S: Final = 0.0002
# Where nothing came in that time the next requests are not waited for: one, then twice as many each
# time, up to so many. A server that takes its time, or has no processor to itself, costs no more.
_MOST_SKIPPED: Final = 64


class Wakefulness:
    """Keeps the loop from sleeping; what else comes meanwhile is handled as ever."""

    def __init__(self, loop: asyncio.AbstractEventLoop, processors: int | None = None) -> None:
        self._loop = loop
        # On a single one the server could not answer for as long.
        self._is_of_use = (processors or usable_processors()) > 1
        self._is_waiting = False
        self._until = 0.0
        self._to_skip = 0
        self._skips_next = 1

    def sent(self) -> None:
        """Something was sent to the server, which may answer at once."""
        if self._to_skip:
            self._to_skip -= 1
        elif self._is_of_use:
            self._until = monotonic() + _WAIT_S
            if not self._is_waiting:
                self._is_waiting = True
                self._loop.call_soon(self._look_again)

    def heard(self) -> None:
        """The server has said something."""
        if self._is_waiting:
            self._is_waiting = False
            self._skips_next = 1

    def _look_again(self) -> None:
        if not self._is_waiting:
            return
        if monotonic() < self._until:
            # With a callback in hand the loop only looks what there is.
            self._loop.call_soon(self._look_again)
            return
        self._is_waiting = False
        self._to_skip = self._skips_next
        self._skips_next = min(2 * self._skips_next, _MOST_SKIPPED)


def usable_processors() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
