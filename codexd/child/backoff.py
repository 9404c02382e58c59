"""When a child that ended is started again: at once, after a delay, or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# Circus would call such a child healthy; codexd lets the first failure pass without a delay,
# so that one crash costs no more than the boot of a new server.
_FREE_RESTARTS = 1


@dataclass(slots=True)
class Backoff:
    """Exponential backoff with jitter, in milliseconds.

    The first restart is immediate. Each further failure in a row doubles the delay, from
    ``base_ms`` up to ``cap_ms``, and takes up to a quarter off it at random, so that many
    daemons do not beat in time. ``limit`` failures in a row (0: no limit) end it.
    """

    base_ms: int
    cap_ms: int
    limit: int
    random: Callable[[], float] = random.random
    failures: int = 0

    def failed(self) -> int | None:
        """Count one failure; the delay before the next try, or None to give up."""
        self.failures += 1
        if self.limit and self.failures >= self.limit:
            return None
        if self.failures <= _FREE_RESTARTS:
            return 0
        doublings = min(self.failures - _FREE_RESTARTS - 1, 30)
        delay = min(self.base_ms << doublings, self.cap_ms)
        return int(delay * (1 - self.random() / 4))

    def reset(self) -> None:
        """The child was well, or an operator stepped in: start counting anew."""
        self.failures = 0
