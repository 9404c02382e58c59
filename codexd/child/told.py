"""What circusd knows of the turns and of the plugin: the last that the plugin told.

The plugin tells on every change and again every :data:`PERIOD_S`, so no single message matters.
While nothing goes on it says when it will speak again, which is later.
What is missing, late, told by a plugin that is gone or of another child is unknown, and unknown is
never idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

# How often the plugin tells, and circusd looks.
PERIOD_S = 1.0
# A report that was to be followed by another so long ago says nothing of now.
_LATE_S = 2.0
# One that was to be followed by now may be on its way, while nothing goes on.
_LATE_QUIET_S = 0.5
# While nothing goes on: so many words within the time for which the plugin may be silent, and so
# many looks of circusd; and how long they are apart at most.
_QUIET_WORDS = 3
_QUIET_PERIOD_S = 10.0
_QUIET_LOOKS = 6
_QUIET_LOOK_S = 5.0
# A timer that fires this much late means that this process was held up itself.
_STALL_S = 1.0
# Even the strictest health settings leave a plugin this long: it writes to disks.
_LEAST_SILENCE_S = 5.0
# A new one may have to wait for another to let go of the files.
_LEAST_START_S = 40.0
# The same where somebody waits for a child to end, and turns that nobody can tell of could be cut.
_SILENCE_IN_A_DRAIN_S = 10.0
# And where the daemon ends.
_SILENCE_AT_THE_END_S = 3.0
_START_AT_THE_END_S = 15.0

ServerState = Literal["away", "recovering", "up"]


class Report(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """What the plugin with the pid ``plugin`` tells of the child with the pid ``child``.

    ``server`` is the hub's view of the child; ``turns`` run or are being started, None where the
    hub has not yet heard of all from a child that was there before it; in a drain the threads that
    are being opened count as well. ``drain`` is the number of the order that the hub follows,
    ``holds`` whether it keeps new turns back.
    ``acknowledged`` is the number of the last trouble with a plugin that is on record.
    ``again_s`` is in how many seconds the next report comes at the latest: more than
    :data:`PERIOD_S` where nothing goes on. ``is_leaving`` says that nothing more will be told.
    ``spare`` is the pid of a spare that was introduced to the plugin, and may take the child's
    place; ``unfit_spare`` that of one to which the plugin does not speak, or not any more.
    """

    plugin: int
    child: int | None = None
    server: ServerState = "away"
    turns: int | None = None
    drain: int = 0
    holds: bool = False
    acknowledged: int = 0
    again_s: float = PERIOD_S
    is_leaving: bool = False
    spare: int | None = None
    unfit_spare: int | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing goes on, as far as the plugin knows."""
        return self.again_s > PERIOD_S


class Trouble(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """A plugin that is gone: the next one has it recorded."""

    number: int
    pid: int
    reason: str | None = None


class Told:
    """The last report, and how far it may be believed. Times are monotonic seconds.

    ``lives(pid)`` tells whether there is such a process.
    """

    def __init__(self, lives: Callable[[int], bool]) -> None:
        self._lives = lives
        self._report: Report | None = None
        self._heard_at = 0.0
        # A late word of an earlier child must not make this one unheard of.
        self._spoken: deque[int] = deque(maxlen=16)

    @property
    def last(self) -> Report | None:
        """The last report, however old."""
        return self._report

    def take(self, report: Report, now: float) -> None:
        """The plugin tells."""
        self._report = report
        self._heard_at = now
        if report.child is not None and report.server != "away":
            self.became_ready(report.child)

    def became_ready(self, child: int) -> None:
        """Somebody has spoken with this child: from now on turns may run on it."""
        if child not in self._spoken:
            self._spoken.append(child)

    def was_spoken_with(self, child: int) -> bool:
        """Whether a turn can have begun on this child."""
        return child in self._spoken

    def fresh(self, now: float) -> Report | None:
        """The last report, if it still says something of now."""
        report = self._report
        if report is None or now - self._heard_at > report.again_s + _LATE_S:
            return None
        return report if self._lives(report.plugin) else None

    def is_quiet(self, now: float) -> bool:
        """Whether nothing goes on, and the plugin is as good as its word."""
        report = self._report
        if report is None or not report.is_quiet:
            return False
        return now - self._heard_at <= report.again_s + _LATE_QUIET_S

    def turns(
        self, child: int | None, now: float, *, drain: int = 0, has_plugin: bool = True
    ) -> int | None:
        """How many turns run on ``child``; None where nobody can tell.

        With ``drain``, only a report counts that was made under this order or a later one.
        ``child`` None is one that is not circusd's. Without a plugin no turn can begin: then the
        last word of one that left in order still holds, if it was that none runs.
        """
        if child is not None and not self.was_spoken_with(child):
            return 0
        if not has_plugin and self._has_left_idle(child):
            return 0
        report = self.fresh(now)
        if report is None or report.child != child or report.drain < drain:
            return None
        return report.turns if report.server == "up" else None

    def _has_left_idle(self, child: int | None) -> bool:
        last = self._report
        is_last_word = last is not None and last.is_leaving and last.child == child
        return last is not None and is_last_word and last.server == "up" and last.turns == 0


class Patience(msgspec.Struct, frozen=True):
    """How long a plugin may be silent, and how long a new one may take to say its first word."""

    silence_s: float
    start_s: float

    @classmethod
    def of(cls, *, timeout_ms: int, misses: int, ready_timeout_ms: int) -> Patience:
        """As the health settings say of the child."""
        silence_s = max(misses * timeout_ms / 1000, _LEAST_SILENCE_S)
        return cls(silence_s, max(ready_timeout_ms / 1000, silence_s, _LEAST_START_S))

    @property
    def quiet_period_s(self) -> float:
        """How often the plugin tells while nothing goes on."""
        return max(min(self.silence_s / _QUIET_WORDS, _QUIET_PERIOD_S), PERIOD_S)

    @property
    def quiet_look_s(self) -> float:
        """How often circusd looks while nothing goes on."""
        return max(min(self.silence_s / _QUIET_LOOKS, _QUIET_LOOK_S), PERIOD_S)


Stage = Literal["up", "draining", "ending"]

_AT_THE_END = Patience(_SILENCE_AT_THE_END_S, _START_AT_THE_END_S)


class PluginWatch:
    """Tells a hung plugin from one that starts, or a time in which circusd itself did not run.

    Counts the plugins, and keeps what is to be told of those that are gone.
    """

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._pid: int | None = None
        self._speaker: int | None = None
        self._has_spoken = False
        self._is_leaving = False
        self._heard_at = now
        self._look_by = now + PERIOD_S
        self._numbers = 0
        self._hung: str | None = None
        self._stage: Stage = "up"
        self.starts = 0
        self.troubles: list[Trouble] = []

    def heard(self, report: Report, now: float) -> None:
        """The plugin told something."""
        self._heard_at = now
        self._speaker = report.plugin
        self._has_spoken = True
        self._is_leaving = report.is_leaving
        self.troubles = [entry for entry in self.troubles if entry.number > report.acknowledged]

    def due(self, now: float) -> float:
        """In how many seconds the patience with a plugin that says nothing more is at its end."""
        return max(self._heard_at + self._patience.silence_s - now, 0.0)

    def looked(
        self,
        pid: int | None,
        now: float,
        *,
        stage: Stage = "up",
        again_s: float | None = PERIOD_S,
    ) -> str | None:
        """The plugin that circus runs now, if any; returns why it must be replaced, or None.

        The next look is to be in ``again_s`` seconds at the latest, with None when it was to be
        anyway: one that comes later tells that this process was held up.
        """
        was_held_up = now > self._look_by + _STALL_S
        if again_s is not None or was_held_up:
            self._look_by = now + (again_s or PERIOD_S)
        if pid != self._pid:
            self._changed(pid, now)
        if was_held_up or stage != self._stage:
            # It may have told all the while; what waits in the socket is read first. And what was
            # no long silence so far may be one from now on.
            self._stage = stage
            self._heard_at = now
        if pid is None:
            return None
        patience = self._patience_at(stage)
        is_working = self._has_spoken and not self._is_leaving
        limit_s = patience.silence_s if is_working else patience.start_s
        if now - self._heard_at <= limit_s:
            return None
        self._heard_at = now
        what = "said nothing for" if self._has_spoken else "did not start within"
        self._hung = f"The plugin {what} {limit_s:g} s."
        return self._hung

    def _patience_at(self, stage: Stage) -> Patience:
        if stage == "ending":
            return _AT_THE_END
        usual = self._patience
        if stage == "draining":
            return Patience(min(usual.silence_s, _SILENCE_IN_A_DRAIN_S), usual.start_s)
        return usual

    def _changed(self, pid: int | None, now: float) -> None:
        if self._pid is not None:
            self._numbers += 1
            trouble = Trouble(number=self._numbers, pid=self._pid, reason=self._hung)
            self.troubles = [*self.troubles[-9:], trouble]
        self._pid = pid
        self._hung = None
        # It may have spoken before it was first looked at.
        self._has_spoken = pid is not None and pid == self._speaker
        self._is_leaving = False
        self._heard_at = now
        self.starts += pid is not None
