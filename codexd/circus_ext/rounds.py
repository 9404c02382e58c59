"""circusd's one timer: how often it looks after what nobody tells it of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from circus import logger

from codexd.beat import until_beat
from codexd.child.told import PERIOD_S
from codexd.platform.directory_watch import watch_directories

# Whoever takes things away should be done with it before they are made again.
_SETTLE_S = 0.5


class Rounds:
    """Calls ``go()``, which returns in how many seconds it wants to be called again.

    It waits so long only where the system tells of changes in ``directories``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        go: Callable[[], float],
        directories: Sequence[str],
    ) -> None:
        self._loop = loop
        self._go = go
        self._watch = watch_directories(loop, directories, lambda: self.within(_SETTLE_S))
        self._due = loop.time() + PERIOD_S
        self._went_at = loop.time()
        self._timer = loop.call_at(self._due, self._fire)

    def within(self, seconds: float) -> None:
        """Go within ``seconds``; but not oftener than every second."""
        due = max(self._loop.time() + seconds, self._went_at + PERIOD_S)
        if due < self._due:
            self._set(due)

    def stop(self) -> None:
        """Go no more."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.close()

    def _set(self, due: float) -> None:
        self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._went_at = self._loop.time()
        self._due = self._went_at + PERIOD_S
        try:
            # Before it is looked: what goes from here on is told.
            is_watched = self._watch is not None and self._watch.look()
            wait_s = self._go()
            wait_s = wait_s if is_watched else min(wait_s, PERIOD_S)
            self._due = self._went_at + until_beat(self._went_at, wait_s)
        except Exception:
            # Whatever it was, the watch goes on.
            logger.exception("circusd could not look after its things")
        self._set(self._due)
