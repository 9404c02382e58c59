"""circusd's end of what it and the plugin say to each other: orders out, reports in.

Orders go out on circus's event stream: from now on hold new turns, or let them go. Reports come in
as a circus command of ours (see :mod:`.commands`). Nothing is asked for, so a plugin that is gone
or hung holds up nobody; it is replaced.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from circus import logger
from circus.exc import ConflictError
from tornado import gen

from codexd.child.told import PERIOD_S, Patience, PluginWatch, Report, Stage, Told
from codexd.circus_ext.rounds import Rounds
from codexd.keeper.circusd import SPARE, WATCHER
from codexd.platform.process import identify
from codexd.settings_ini import PLUGIN_GRACE_S

PLUGIN = "plugin:codexd"

_POLL_S = 0.05
# How soon to try again what another circus command holds up.
_CONFLICT_RETRY_S = 0.02
# How long another circus command may hold up one of ours.
_CONFLICT_LIMIT_S = 15.0
# For so long a drained child needs no second look: a plugin that died meanwhile lets nobody in yet.
_STILL_IDLE_S = 0.3
# A drain that is over sooner is not worth a word.
_TELL_AFTER_S = 0.5
# What the child always gets between SIGTERM and SIGKILL, if it gets any time at all.
LAST_GRACE_S = 2.0


class Channel:
    """One for each arbiter.

    ``patience`` is what it has with the plugin; ``settings``, as they stand in circus.ini, are for
    whoever asks what this daemon runs with. ``turns_told`` says for people which turns run.
    """

    def __init__(
        self,
        arbiter: Any,
        patience: Patience,
        settings: Mapping[str, str],
        turns_told: Callable[[], list[str]] = list,
    ) -> None:
        self.arbiter = arbiter
        self.settings = dict(settings)
        self._turns_told = turns_told
        self.told = Told(lambda pid: identify(pid) is not None)
        self.watch = PluginWatch(patience, time.monotonic())
        self._quiet_look_s = patience.quiet_look_s
        self._rounds: Rounds | None = None
        self._order = 0
        self._ends = 0
        self._deadline: float | None = None
        # Whether the daemon itself ends: no child is started any more.
        self.is_ending = False
        self._last_grace_s = 0.0
        # When no turn ran on which children, in the drain that goes on.
        self._idle: tuple[float, frozenset[int]] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the daemon ends, whoever ended it."""
        return self.is_ending or bool(self.arbiter._stopping)

    # -- what the plugin tells -----------------------------------------------------------------

    def take(self, report: Report) -> dict[str, Any]:
        """A report; the answer has what the plugin should know of those before it."""
        now = time.monotonic()
        self.told.take(report, now)
        self.watch.looked(self._plugin_pid(), now, stage=self._stage, again_s=None)
        self.watch.heard(report, now)
        if self._rounds is not None and not report.is_quiet:
            self._rounds.within(PERIOD_S)
        control = getattr(self._watcher(WATCHER), "control", None)
        if control is not None and report.child is not None and report.server != "away":
            # Told once before, and that may have been lost.
            control.became_ready(report.child)
        spare = self._watcher(SPARE)
        if hasattr(spare, "heard"):
            spare.heard(report)
        if report.holds and self._deadline is None:
            # It missed that the drain was given up.
            self._publish(holds=False)
        return {"starts": self.watch.starts, "troubles": self.watch.troubles}

    def turns(self) -> int | None:
        """How many turns run now; None where nobody can tell."""
        watcher = self._watcher(WATCHER)
        children = [None] if watcher is None else list(watcher.processes)
        running = [self._turns_on(child) for child in children]
        return None if None in running else sum(count or 0 for count in running)

    def _turns_on(self, child: int | None, order: int = 0) -> int | None:
        plugin = self._watcher(PLUGIN)
        has_plugin = plugin is not None and bool(plugin.processes)
        return self.told.turns(child, time.monotonic(), drain=order, has_plugin=has_plugin)

    # -- the watch over the plugin -------------------------------------------------------------

    def begin(
        self, look: Callable[[], bool], is_alone: Callable[[], bool], directories: Sequence[str]
    ) -> None:
        """From now on look after the plugin, and call ``look()`` as often, while the loop turns.

        That is every second; and less often while nothing goes on, nothing in ``directories`` is
        touched, ``look()`` says that all is well and ``is_alone()`` that the child has nobody.
        Called again, the new ones count.
        """
        self.close()

        def go_round() -> float:
            may_rest = False
            try:
                may_rest = look() and is_alone() and self._is_quiet
            finally:
                # Whatever is wrong with the rest, a hung plugin is found.
                again_s = self._quiet_look_s if may_rest else PERIOD_S
                self._look_at_plugin(again_s)
            return min(again_s, max(self.watch.due(time.monotonic()), PERIOD_S))

        self._rounds = Rounds(self.arbiter.loop.asyncio_loop, go_round, directories)

    def close(self) -> None:
        """Look no more: the loop stops, or goes on with another arbiter and its channel."""
        if self._rounds is not None:
            self._rounds.stop()
            self._rounds = None

    @property
    def _is_quiet(self) -> bool:
        is_ending = self.is_over or self._deadline is not None
        return not is_ending and self.told.is_quiet(time.monotonic())

    @property
    def _stage(self) -> Stage:
        if self.is_over:
            return "ending"
        return "draining" if self.is_draining else "up"

    def _look_at_plugin(self, again_s: float = PERIOD_S) -> None:
        """Have a hung plugin replaced; the next look is in ``again_s`` seconds at the latest."""
        pid = self._plugin_pid()
        now = time.monotonic()
        reason = self.watch.looked(pid, now, stage=self._stage, again_s=again_s)
        if reason is not None and pid is not None:
            logger.warning("%s Process %s is replaced.", reason, pid)
            # It is hung: SIGTERM would not be heard. Circus starts another when it is dead.
            os.kill(pid, signal.SIGKILL)

    def _plugin_pid(self) -> int | None:
        watcher = self._watcher(PLUGIN)
        pids = [] if watcher is None else list(watcher.processes)
        return next((pid for pid in pids if identify(pid) is not None), None)

    def _watcher(self, name: str) -> Any:
        return self.arbiter._watchers_names.get(name)

    # -- drains --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def ending(self, grace_s: float) -> Iterator[None]:
        """For as long as the block lasts a child is to end within ``grace_s``: no turns begin.

        The last word counts: whoever comes later changes the time for all. When the last block is
        left, what was held back is let go.
        """
        self._ends += 1
        self._give(grace_s)
        if self._rounds is not None:
            self._rounds.within(PERIOD_S)
        try:
            yield
        finally:
            self._ends -= 1
            if not self._ends:
                self._deadline = self._idle = None
                if self.told.last is not None and self.told.last.holds:
                    self._publish(holds=False)

    def _give(self, grace_s: float) -> None:
        self._deadline = time.monotonic() + grace_s
        self._last_grace_s = min(grace_s, LAST_GRACE_S)

    @property
    def time_given(self) -> float | None:
        """Seconds left of the time that somebody gave the child to end; None where nobody did."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    @property
    def is_draining(self) -> bool:
        """Whether a child is to end, and its turns may end first."""
        return (self.time_given or 0.0) > 0

    @property
    def left_s(self) -> float:
        """What the child gets from SIGTERM to SIGKILL, if it gets the signal now."""
        return max(self.time_given or 0.0, self._last_grace_s)

    def hurry(self) -> None:
        """Whatever is waited for, it is cut now."""
        if self._deadline is None:
            return
        self._give(0.0)
        watcher = self._watcher(WATCHER)
        for pid in [] if watcher is None else list(watcher.processes):
            self.arbiter.loop.call_later(LAST_GRACE_S, self._kill, watcher, pid)

    @staticmethod
    def _kill(watcher: Any, pid: int) -> None:
        """Circus may have sent SIGTERM long ago, and wait for what it then allowed."""
        process = watcher.processes.get(pid)
        if process is not None and process.stopping:
            watcher.send_signal(pid, signal.SIGKILL)

    @gen.coroutine
    def no_turns(self, pids: list[int]) -> Any:
        """Wait until no turn runs on the children ``pids``, within the time given."""
        if self._were_idle(pids):
            return
        self._publish(holds=True)
        order = self._order
        begun = published = time.monotonic()
        has_told = False
        while self.is_draining and any(self._is_busy(pid, order) for pid in pids):
            now = time.monotonic()
            if now - published > PERIOD_S:
                # A plugin that was started meanwhile has not heard it.
                self._publish(holds=True, order=order)
                published = now
                yield self._revive_plugin()
            if not has_told and self.is_over and now - begun > _TELL_AFTER_S:
                has_told = True
                self._tell()
            yield gen.sleep(_POLL_S)
        self._idle = (time.monotonic(), frozenset(pids)) if self.is_draining else None

    def _were_idle(self, pids: list[int]) -> bool:
        """Whether they just were: new turns are held, and no plugin is back so soon."""
        if self._idle is None or not self._idle[1].issuperset(pids):
            return False
        return time.monotonic() - self._idle[0] < _STILL_IDLE_S

    @gen.coroutine
    def _revive_plugin(self) -> Any:
        """Within a command of circus its own management waits; the plugin must be there to tell."""
        plugin = self._watcher(PLUGIN)
        if plugin is not None and self.arbiter._exclusive_running_command is not None:
            yield plugin.manage_processes()

    def _is_busy(self, pid: int, order: int) -> bool:
        return identify(pid) is not None and self._turns_on(pid, order) != 0

    def _publish(self, *, holds: bool, order: int | None = None) -> None:
        watcher = self._watcher(WATCHER)
        if watcher is None:
            return
        if order is None:
            self._order += 1
            order = self._order
        watcher.notify_event("draining", {"order": order, "holds": holds})

    def _tell(self) -> None:
        turns = self.turns()
        what = "word of the running turns" if turns is None else _counted(turns)
        say(
            f"waiting for {what}, at most {self.time_given or 0:.0f} s more; "
            "Ctrl-C, or a second SIGTERM, cuts them"
        )
        if sys.stderr.isatty():
            for line in self._turns_told():
                say(line)

    # -- orders --------------------------------------------------------------------------------

    @gen.coroutine
    def exclusively(self, command: Callable[[], Any]) -> Any:
        """Run a command of circus as soon as no other one runs.

        Raises:
            ConflictError: another one holds it up for too long.
        """
        deadline = time.monotonic() + _CONFLICT_LIMIT_S
        while True:
            try:
                future = command()
                break
            except ConflictError:
                if time.monotonic() > deadline:
                    raise
            yield gen.sleep(_CONFLICT_RETRY_S)
        result = yield future
        return result

    def order_end(self, grace_s: float) -> None:
        """As :meth:`end`, for callers that do not wait."""
        self.arbiter.loop.add_future(self.end(grace_s), self._ended)

    def _ended(self, done: Any) -> None:
        if done.exception() is not None:
            # Whatever went wrong, the daemon ends; what it leaves behind ends with it.
            logger.error("circus could not stop in order", exc_info=done.exception())
            self.arbiter.loop.stop()

    @gen.coroutine
    def end(self, grace_s: float) -> Any:
        """End the daemon: hold new turns, let running ones end within ``grace_s``, stop circus."""
        if self.is_ending:
            self._give(grace_s)
            if grace_s < LAST_GRACE_S:
                self.hurry()
            return
        self.is_ending = True
        for watcher in self.arbiter.iter_watchers():
            for process in list(watcher.processes.values()):
                # Stopped (SIGSTOP), it would not hear that it shall end.
                process.send_signal(signal.SIGCONT)
        watcher = self._watcher(WATCHER)
        control = getattr(watcher, "control", None)
        if control is not None:
            # If it dies while its turns are waited for, no other follows.
            control.stopping()
        with self.ending(grace_s):
            if getattr(watcher, "drains", False) and not self.arbiter._restarting:
                yield self.no_turns(list(watcher.processes))
            plugin = self._watcher(PLUGIN)
            if plugin is not None:
                # It outlives the child, to write down how that ended.
                plugin.graceful_timeout = self.left_s + PLUGIN_GRACE_S
            yield self._stop_circus()

    @gen.coroutine
    def _stop_circus(self) -> Any:
        """Stop it, as soon as no other command of circus runs, however long that takes."""
        while not self.arbiter._restarting:
            try:
                stopped = self.arbiter.stop()
            except ConflictError:
                yield gen.sleep(_CONFLICT_RETRY_S)
            else:
                yield stopped
                return
        # `circusctl restart` of it as a whole stops it, too; only, no other follows.
        self.arbiter._restarting = False
        while self.arbiter._exclusive_running_command is not None:
            yield gen.sleep(_CONFLICT_RETRY_S)

    @property
    def grace_s(self) -> float:
        """How long a child may take to end, as circus has it now."""
        watcher = self._watcher(WATCHER)
        return float(watcher.graceful_timeout) if watcher is not None else 0.0


def _counted(turns: int) -> str:
    return f"{turns} running turn{'' if turns == 1 else 's'} to end"


def say(line: str) -> None:
    """One line for whoever sits at the daemon's terminal."""
    with contextlib.suppress(OSError, ValueError):
        print(f"codexd: {line}", file=sys.stderr, flush=True)
