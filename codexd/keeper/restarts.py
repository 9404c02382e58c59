"""How often the server was started again, why, and how long nobody was answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

from codexd.child.steps import Step
from codexd.histogram import Histogram

# died: it ended by itself. unhealthy: it answered nobody, or could not be heard. memory: it had
# grown over the limit. asked: an operator had it ended.
Reason = Literal["died", "unhealthy", "memory", "asked"]
REASONS: Final[tuple[Reason, ...]] = ("died", "unhealthy", "memory", "asked")

# In seconds: a bare codex boots in a tenth of one.
RECOVERY_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Restarts:
    """Is told of each step that circusd takes, once, and of each child that gets ready.

    ``clock`` gives POSIX seconds, as the steps have them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._cause: Literal["unhealthy", "memory"] | None = None
        self._reason: Reason = "died"
        self._away_since: float | None = None
        self.by_reason: Counter[Reason] = Counter()
        self.recovery = Histogram(RECOVERY_BOUNDS)

    def because(self, cause: Literal["unhealthy", "memory"] | None) -> None:
        """circusd is asked to end the child for this reason; None: not any more."""
        self._cause = cause

    def step(self, step: Step) -> None:
        """circusd did something that nobody has recorded before."""
        if step.kind == "ended":
            self._ended(step)
        elif step.kind in ("stopped", "gave_up"):
            # What comes some day is an operator's start.
            self._away_since = None
        elif step.kind == "spawned" and step.attempt > 1:
            self.by_reason[self._reason] += 1
            self._reason = "died"

    def _ended(self, step: Step) -> None:
        # Where circusd did not do it, the child has ended some other way.
        cause, self._cause = self._cause, None
        if step.asked:
            self._reason = "memory" if cause == "memory" else "asked"
        else:
            self._reason = "unhealthy" if cause == "unhealthy" else "died"
        if self._reason == "asked":
            # It may be meant to stay away.
            self._away_since = None
        elif self._away_since is None:
            self._away_since = step.at

    def ready(self) -> None:
        """A child answers."""
        if self._away_since is not None:
            self.recovery.observe(self._clock() - self._away_since)
            self._away_since = None
