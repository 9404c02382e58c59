"""When the plugin looks after its things: at once where something waits, seldom where nothing does.

One timer for all of it, so that an idle daemon sleeps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("codexd")

# What waits for a time waits for seconds: this is soon enough.
SOON_S: Final = 0.25
# A timer that fires this much late means that this process was held up itself.
STALL_S: Final = 1.0
_AFTER_TROUBLE_S: Final = 1.0


class Pace:
    """Calls ``tick(late_s)`` when it is time; that returns in how many seconds it is again.

    ``late_s`` is how long this process was held up, 0.0 where it was not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: Callable[[float], float]) -> None:
        self._tick = tick
        self._loop = loop
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_on = False
        # Whether the timer is one that was to fire soon: then it is soon enough until it does.
        self._is_soon = False

    def start(self) -> None:
        """From now on there are ticks, the first one soon."""
        self._is_on = True
        self.soon()

    def soon(self) -> None:
        """Something may wait from now on. Called with every message."""
        if not self._is_soon:
            self.within(SOON_S)
            self._is_soon = self._is_on

    def within(self, seconds: float) -> None:
        """Have the next tick in ``seconds`` at the latest."""
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        if self._is_on:
            self._due = due
            self._timer = self._loop.call_at(due, self._fire)

    def stop(self) -> None:
        """No tick any more."""
        self._is_on = self._is_soon = False
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        late_s = self._loop.time() - self._due
        self._timer = None
        self._is_soon = False
        try:
            wait_s = self._tick(late_s if late_s > STALL_S else 0.0)
        except Exception:
            logger.exception("a look after the plugin's things failed")
            wait_s = _AFTER_TROUBLE_S
        self.within(wait_s)
