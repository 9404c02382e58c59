"""Telling circusd what goes on here: on every change, and again while nothing changes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

import msgspec

from codexd.beat import until_beat
from codexd.child.told import PERIOD_S, Report, Trouble
from codexd.contracts import EventLevel
from codexd.encoding import convert
from codexd.keeper.circusd import Circusd, CircusError

logger = logging.getLogger("codexd")

_CALL_S = 5.0
# While circusd waits for turns to end, it is told sooner.
_DRAINING_PERIOD_S = 0.1
# The last word is said to whoever listens, and nobody is waited for.
_LEAVE_S = 0.5


class _Answer(msgspec.Struct):
    """What circusd knows of the plugins before this one."""

    starts: int = 0
    troubles: list[Trouble] = []


class Reporter:
    """Sends what ``look()`` gives. ``record`` takes events: what became of an earlier plugin."""

    def __init__(
        self,
        circus: Circusd,
        look: Callable[[], Report],
        record: Callable[[EventLevel, str, str, dict[str, Any]], None],
    ) -> None:
        self._circus = circus
        self._look = look
        self._record = record
        self._changed = asyncio.Event()
        self._acknowledged = 0
        self._trouble = ""

    def changed(self) -> None:
        """There is something new to tell."""
        self._changed.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            self._changed.clear()
            report = self._look()
            period_s = _DRAINING_PERIOD_S if report.holds else report.again_s
            try:
                await self._tell(report, _CALL_S)
                self._trouble = ""
            except (CircusError, msgspec.ValidationError) as error:
                period_s = min(period_s, PERIOD_S)
                self._complain(str(error))
            now = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(until_beat(now, period_s)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def leave(self) -> None:
        """Say that nothing more will be said."""
        report = msgspec.structs.replace(self._look(), is_leaving=True)
        try:
            await self._tell(report, _LEAVE_S)
        except (CircusError, msgspec.ValidationError):
            # circusd is gone, or from before it listened to this.
            return

    async def _tell(self, report: Report, timeout_s: float) -> None:
        report = msgspec.structs.replace(report, acknowledged=self._acknowledged)
        answer = await self._circus.call(
            "codexd-report", timeout_s=timeout_s, report=msgspec.to_builtins(report)
        )
        for trouble in convert(answer, _Answer).troubles:
            if trouble.number > self._acknowledged:
                self._acknowledged = trouble.number
                self._record_trouble(trouble)

    def _record_trouble(self, trouble: Trouble) -> None:
        if trouble.reason is not None:
            self._record("error", "plugin.unhealthy", trouble.reason, {"pid": trouble.pid})
        detail = {"pid": os.getpid(), "endedPid": trouble.pid}
        self._record("warn", "plugin.restarted", "The plugin ended; another was started.", detail)

    def _complain(self, trouble: str) -> None:
        """Once for each trouble: it is tried again in any case."""
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("%s", trouble)
