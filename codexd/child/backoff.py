"""How long to wait before what ended is started again: not at all, a while, or for good."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

# Well for this long, a life was a good one.
GOOD_MS = 1000
# The longest pause where the system is short of something: that passes, and says nothing of the
# program.
_SHORTAGE_MS = 5000


class Backoff(msgspec.Struct):
    """The pause between lives, in milliseconds.

    After a good life, one that was well for :data:`GOOD_MS` or longer, the next begins at once,
    and the pause halves (under ``base_ms`` it is none); after ``reset_ms`` it is forgotten. After
    a bad life the next waits until the pause has passed since the last one *began*, and the pause
    doubles, from ``base_ms`` up to ``cap_ms``. Up to a quarter is taken off at random, so that
    many daemons do not beat in time. ``limit`` bad lives in a row (0: no limit) end it.

    So whoever was well is back at once, whatever came before, and who cannot begin costs next to
    nothing.
    """

    base_ms: int
    cap_ms: int
    reset_ms: int
    limit: int = 0
    random: Callable[[], float] = random.random
    pause_ms: float = 0
    failures: int = 0

    def ended(self, *, age_ms: float, well_ms: float | None) -> int | None:
        """One life ended: the delay before the next, or None to give up.

        ``age_ms`` is the time since it was begun, ``well_ms`` how long it was well, None for never.
        """
        if well_ms is not None and well_ms >= GOOD_MS:
            self._good(well_ms)
            return 0
        return self._bad(age_ms)

    def hindered(self) -> int:
        """Nothing could begin, for the system is short of something: the delay before the next try.

        It counts for no failure, so nothing is given up for it.
        """
        delay = min(self.pause_ms, self.cap_ms, _SHORTAGE_MS)
        longest = min(self.cap_ms, _SHORTAGE_MS)
        self.pause_ms = max(self.pause_ms, min(self.pause_ms * 2 or self.base_ms, longest))
        return int(delay)

    def forget(self) -> None:
        """An operator stepped in: start counting anew."""
        self.failures = 0
        self.pause_ms = 0

    def _good(self, well_ms: float) -> None:
        self.failures = 0
        half = self.pause_ms / 2
        self.pause_ms = 0 if well_ms >= self.reset_ms or half < self.base_ms else half

    def _bad(self, age_ms: float) -> int | None:
        self.failures += 1
        if self.limit and self.failures >= self.limit:
            return None
        pause = self.pause_ms * (1 - self.random() / 4)
        self.pause_ms = min(self.pause_ms * 2 or self.base_ms, self.cap_ms)
        return int(max(0, pause - age_ms))
