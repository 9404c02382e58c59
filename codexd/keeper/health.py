"""Telling a hung child from a busy one.

The child is asked something cheap on codexd's own connection, where its clients have got no
answer from it for an interval: theirs are as good. Whatever it sends counts as a
sign of life, so a server in the middle of a long turn is heard even if it answers late. A time
in which this process itself did not run (stopped by a debugger, a suspended laptop) proves
nothing about the child and is not counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal, Protocol

from codexd.beat import until_beat
from codexd.settings import Policy

# A timer that fires this much late means that this process was held up itself.
_STALL_S = 1.0


# What came of a check. answered: in time. heard: the child said something else meanwhile, or had
# answered a client and was not asked. missed: nothing. void: it proves nothing, for this process
# was held up, or the connection broke off.
Result = Literal["answered", "heard", "missed", "void"]
RESULTS: Final[tuple[Result, ...]] = ("answered", "heard", "missed", "void")


class Patient(Protocol):
    """What the health check needs to know of the talk with the child."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def last_heard(self) -> float: ...

    @property
    def waiting_since(self) -> float | None: ...

    @property
    def speaks(self) -> bool: ...

    async def probe(self, timeout_s: float) -> None: ...


class Health:
    """Asks the child an interval after its last answer.

    ``answered_at()`` is when it last answered a client by time.monotonic(), None for never.
    Calls ``on_answer()`` for each interval with an answer, and ``on_unhealthy(reason)`` for a hung
    child, again and again as long as it stays. ``replaces``: a child that never gets ready is given
    up, too.
    """

    def __init__(
        self,
        policy: Policy,
        patient: Patient,
        on_unhealthy: Callable[[str], None],
        on_answer: Callable[[], None],
        *,
        answered_at: Callable[[], float | None],
        replaces: bool,
    ) -> None:
        self._interval_s = policy.health_interval_ms / 1000
        self._timeout_s = policy.health_timeout_ms / 1000
        self._allowed_misses = policy.health_misses
        self._ready_timeout_s = policy.ready_timeout_ms / 1000
        self._replaces = replaces
        self._patient = patient
        self._on_unhealthy = on_unhealthy
        self._on_answer = on_answer
        self._answered_at = answered_at
        self._misses = 0
        # How many checks had which result.
        self.checks: Counter[Result] = Counter()

    @property
    def misses(self) -> int:
        """How many checks in a row the child has not answered."""
        return self._misses

    def child_ready(self) -> None:
        """A child became ready: what was held against the one before is forgotten."""
        self._misses = 0

    async def run(self) -> None:
        """Check until cancelled."""
        loop = asyncio.get_running_loop()
        pause_s = self._interval_s
        while True:
            slept_from = loop.time()
            pause_s = until_beat(slept_from, pause_s)
            await asyncio.sleep(pause_s)
            is_stalled = loop.time() - slept_from > pause_s + _STALL_S
            pause_s = self._interval_s
            if is_stalled:
                continue
            if self._patient.is_ready:
                unasked_s = self._unasked_s(monotonic())
                if unasked_s > 0:
                    pause_s = unasked_s
                    self.checks["heard"] += 1
                    self._on_answer()
                else:
                    self.checks[await self._check()] += 1
            elif self._is_overdue(loop.time()):
                self._give_up(f"The child did not become ready in {self._ready_timeout_s:g} s.")

    def _unasked_s(self, now: float) -> float:
        """For how long it need not be asked: it has answered a client, and misses nothing."""
        answered_at = self._answered_at()
        if answered_at is None or self._misses > 0:
            return 0.0
        return answered_at + self._interval_s - now

    async def _check(self) -> Result:
        asked_at = monotonic()
        try:
            await self._patient.probe(self._timeout_s)
        except TimeoutError:
            if monotonic() - asked_at > self._timeout_s + _STALL_S:
                return "void"
        except ConnectionError:
            return "void"
        else:
            self._misses = 0
            self._on_answer()
            return "answered"
        if self._patient.last_heard > asked_at:
            self._misses = 0
            return "heard"
        self._misses += 1
        if self._misses % self._allowed_misses == 0:
            self._give_up(
                f"The child did not answer {self._misses} checks of {self._timeout_s:g} s in a row."
            )
        return "missed"

    def _is_overdue(self, now: float) -> bool:
        since = self._patient.waiting_since
        return (
            self._replaces
            and self._patient.speaks
            and since is not None
            and now - since > self._ready_timeout_s
        )

    def _give_up(self, reason: str) -> None:
        self._on_unhealthy(reason)
