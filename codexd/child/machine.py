"""The child's life as circusd sees it: one table, and nothing beside it that decides.

What happens comes in, what is to be done about it goes out: no timer, file or process is touched
here. :mod:`.control` does what the machine says. docs/reference/states.md shows the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from codexd.child.backoff import Backoff
from codexd.child.steps import StepKind


class State(StrEnum):
    """Where the child's life is."""

    OFF = "off"
    DUE = "due"
    WAITING = "waiting"
    GIVEN_UP = "given up"
    STARTED = "started"
    READY = "ready"
    CONDEMNED = "condemned"
    ENDING = "ending"
    # Only while the machine itself decides what follows an end.
    DOWN = "down"


MEANING: Mapping[State, str] = {
    State.OFF: "No process, and none is to come until an operator says so.",
    State.DUE: "No process; the next one may start now.",
    State.WAITING: "No process; the next one may start when the pause is over.",
    State.GIVEN_UP: "No process: too many bad lives in a row. An operator's start tries again.",
    State.STARTED: "A process that has not said yet that it answers.",
    State.READY: "A process that answers.",
    State.CONDEMNED: "An unhealthy process that is being ended, for another to take its place.",
    State.ENDING: "An operator, or the daemon's own end, stops the process.",
    State.DOWN: "It has just ended, or could not be started; what follows is decided at once.",
}

# The word for each in daemon-state.json; what is `failed` there is `stopped` where the last process
# ended with code 0 or by a signal that was asked for, and `idle` before there was one.
WORDS: Mapping[State, str] = {
    State.OFF: "stopped, failed or idle",
    State.DUE: "starting, stopped or failed",
    State.WAITING: "failed",
    State.GIVEN_UP: "failed",
    State.STARTED: "running",
    State.READY: "running",
    State.CONDEMNED: "running",
    State.ENDING: "running",
    State.DOWN: "stopped or failed",
}


class Event(StrEnum):
    """What can happen to it; the last five are the machine's own verdicts on an end."""

    START = "start"
    SPAWNED = "spawned"
    PROMOTED = "promoted"
    SPAWN_FAILED = "spawn failed"
    ANSWERS = "answers"
    SIGNALLED = "signalled"
    CONDEMN = "condemn"
    STOP = "stop"
    STOPPED = "stopped"
    ENDED = "ended"
    PAUSE_OVER = "pause over"
    AS_ASKED = "as asked"
    AGAIN = "again at once"
    LATER = "again later"
    TOO_OFTEN = "too often"
    FOR_GOOD = "for good"


class Action(StrEnum):
    """What the machine does, or has done, about an event; the text is for the page of states."""

    FORGET = "forget the pauses"
    BEGIN = "record the start"
    BEGIN_PROMOTED = "record that the spare is the server now"
    RECORD_FAILURE = "record why it could not start"
    NOTE_READY = "note since when it answers"
    NOTE_SIGNAL = "note the signal as asked for"
    FORGET_SIGNALS = "forget which signals were asked for"
    RECORD_END = "record the end"
    RECORD_UNSEEN_END = "record an end that nobody saw"
    JUDGE = "decide what follows"
    JUDGE_AS_FAILURE = "decide what follows a failure"
    RECORD_PAUSE = "record the restart"
    RECORD_GIVING_UP = "record that it is given up"
    RECORD_CALLING_OFF = "record that the restart is called off"
    SET_TIMER = "set the timer"
    CLEAR_TIMER = "clear the timer"
    WAKE = "have circus start it"


_ABSENT = (State.OFF, State.DUE, State.WAITING, State.GIVEN_UP)
_PRESENT = (State.STARTED, State.READY, State.CONDEMNED, State.ENDING)

_Row = tuple[State, tuple[Action, ...]]
_Rows = dict[tuple[State, Event], _Row]


def _rows(states: tuple[State, ...], event: Event, then: State, *actions: Action) -> _Rows:
    return {(state, event): (then, actions) for state in states}


def _stays(states: tuple[State, ...], event: Event) -> _Rows:
    return {(state, event): (state, ()) for state in states}


TABLE: Mapping[tuple[State, Event], _Row] = {
    # An operator's word, or circus's first start, waits for nothing.
    **_rows((State.OFF, State.GIVEN_UP), Event.START, State.DUE, Action.FORGET),
    **_rows((State.WAITING,), Event.START, State.DUE, Action.CLEAR_TIMER, Action.FORGET),
    **_stays((State.DUE, *_PRESENT), Event.START),
    # A process that is there is a fact, whatever was believed before.
    **_rows(_ABSENT, Event.SPAWNED, State.STARTED, Action.CLEAR_TIMER, Action.BEGIN),
    **_rows(_PRESENT, Event.SPAWNED, State.STARTED, Action.RECORD_UNSEEN_END, Action.BEGIN),
    # Only in place of a process that ended by itself: see may_promote.
    **_rows((State.DUE,), Event.PROMOTED, State.STARTED, Action.CLEAR_TIMER, Action.BEGIN_PROMOTED),
    **_rows(
        (State.DUE,),
        Event.SPAWN_FAILED,
        State.DOWN,
        Action.CLEAR_TIMER,
        Action.RECORD_FAILURE,
        Action.JUDGE,
    ),
    **_rows((State.STARTED,), Event.ANSWERS, State.READY, Action.NOTE_READY),
    **_stays((State.READY, State.CONDEMNED, State.ENDING), Event.ANSWERS),
    **_rows((State.STARTED,), Event.SIGNALLED, State.STARTED, Action.NOTE_SIGNAL),
    **_rows((State.READY,), Event.SIGNALLED, State.READY, Action.NOTE_SIGNAL),
    **_rows((State.ENDING,), Event.SIGNALLED, State.ENDING, Action.NOTE_SIGNAL),
    # What ends an unhealthy process is no operator's wish.
    **_stays((State.CONDEMNED,), Event.SIGNALLED),
    **_rows((State.STARTED, State.READY), Event.CONDEMN, State.CONDEMNED, Action.FORGET_SIGNALS),
    **_stays((State.CONDEMNED, State.ENDING), Event.CONDEMN),
    **_rows(_PRESENT, Event.STOP, State.ENDING),
    **_rows((State.OFF, State.GIVEN_UP), Event.STOP, State.OFF),
    **_rows((State.DUE,), Event.STOP, State.OFF, Action.CLEAR_TIMER),
    **_rows((State.WAITING,), Event.STOP, State.OFF, Action.CLEAR_TIMER, Action.RECORD_CALLING_OFF),
    **_rows(_PRESENT, Event.STOPPED, State.OFF, Action.RECORD_UNSEEN_END),
    **_rows((State.OFF, State.GIVEN_UP), Event.STOPPED, State.OFF),
    **_rows((State.DUE,), Event.STOPPED, State.OFF, Action.CLEAR_TIMER),
    **_rows(
        (State.WAITING,), Event.STOPPED, State.OFF, Action.CLEAR_TIMER, Action.RECORD_CALLING_OFF
    ),
    **_rows((State.STARTED, State.READY), Event.ENDED, State.DOWN, Action.RECORD_END, Action.JUDGE),
    **_rows(
        (State.CONDEMNED,), Event.ENDED, State.DOWN, Action.RECORD_END, Action.JUDGE_AS_FAILURE
    ),
    # Nothing follows: whoever stops it decides that.
    **_rows((State.ENDING,), Event.ENDED, State.OFF, Action.RECORD_END),
    **_rows((State.DOWN,), Event.AS_ASKED, State.DUE, Action.FORGET, Action.SET_TIMER),
    **_rows((State.DOWN,), Event.AGAIN, State.DUE, Action.RECORD_PAUSE, Action.SET_TIMER),
    **_rows((State.DOWN,), Event.LATER, State.WAITING, Action.RECORD_PAUSE, Action.SET_TIMER),
    **_rows((State.DOWN,), Event.TOO_OFTEN, State.GIVEN_UP, Action.RECORD_GIVING_UP),
    **_rows((State.DOWN,), Event.FOR_GOOD, State.OFF),
    **_rows((State.WAITING, State.DUE), Event.PAUSE_OVER, State.DUE, Action.WAKE),
}


class Record(msgspec.Struct, frozen=True):
    """Write down a step; ``pid`` and so on are fields of :class:`.steps.Step`."""

    kind: StepKind
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


class SetTimer(msgspec.Struct, frozen=True):
    """Tell the machine after so long that the pause is over."""

    delay_ms: int


class ClearTimer(msgspec.Struct, frozen=True):
    """Do not."""


class Wake(msgspec.Struct, frozen=True):
    """Have circus start the child."""


Effect = Record | SetTimer | ClearTimer | Wake


class _Life(msgspec.Struct):
    """The process that is there, or the one that ended last."""

    pid: int
    begun_at: float
    ready_at: float | None
    asked: set[int] = msgspec.field(default_factory=set)


class _Facts(msgspec.Struct, frozen=True):
    """What an event comes with."""

    pid: int = 0
    signum: int = 0
    code: int | None = None
    error: str = ""
    is_shortage: bool = False
    delay_ms: int = 0


class Machine:
    """Runs the table for one child after the other.

    ``restart`` is the policy (always, on-failure, never), ``clock()`` gives seconds and never goes
    back. Of a child that does not speak the protocol nobody hears that it answers: with
    ``speaks`` false it counts as well from the moment it was spawned.

    Every method tells what happened and returns what is to be done, in this order. An event about
    another process than the present one is none: it comes late, or twice.
    """

    def __init__(
        self,
        backoff: Backoff,
        restart: str,
        *,
        speaks: bool,
        clock: Callable[[], float],
    ) -> None:
        self.state = State.OFF
        self._backoff = backoff
        self._restart = restart
        self._speaks = speaks
        self._clock = clock
        self._life: _Life | None = None
        # Whether the next one comes by itself, and not by somebody's wish.
        self._is_succession = False
        self._effects: list[Effect] = []

    # -- what happened -----------------------------------------------------------------------

    def start(self) -> list[Effect]:
        """An operator, or circus at its own start, wants a child."""
        return self._handle(Event.START)

    def spawned(self, pid: int) -> list[Effect]:
        """There is a process."""
        return self._handle(Event.SPAWNED, _Facts(pid=pid))

    def promoted(self, pid: int) -> list[Effect]:
        """The spare, a process that is there already, is the child from now on."""
        return self._handle(Event.PROMOTED, _Facts(pid=pid))

    def spawn_failed(self, error: str, *, is_shortage: bool = False) -> list[Effect]:
        """There is none, and why; or because the system is short of something at the moment."""
        return self._handle(Event.SPAWN_FAILED, _Facts(error=error, is_shortage=is_shortage))

    def answers(self, pid: int) -> list[Effect]:
        """The process speaks the protocol."""
        return self._about(pid, Event.ANSWERS)

    def signalled(self, pid: int, signum: int) -> list[Effect]:
        """Somebody has circus send the process a signal."""
        return self._about(pid, Event.SIGNALLED, _Facts(signum=signum))

    def condemn(self, pid: int) -> list[Effect]:
        """The process is unhealthy, and will be ended for that."""
        return self._about(pid, Event.CONDEMN)

    def stop(self) -> list[Effect]:
        """An operator, or the daemon's own end, wants no child."""
        return self._handle(Event.STOP)

    def stopped(self) -> list[Effect]:
        """Circus is through with that."""
        return self._handle(Event.STOPPED)

    def ended(self, pid: int, code: int | None) -> list[Effect]:
        """The process ended: its exit code, negative for a signal, None where nobody could tell."""
        return self._about(pid, Event.ENDED, _Facts(pid=pid, code=code))

    def pause_over(self) -> list[Effect]:
        """The timer has run out."""
        return self._handle(Event.PAUSE_OVER)

    # -- what is known -----------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process that is there."""
        return self._life.pid if self.state in _PRESENT and self._life is not None else None

    @property
    def may_start(self) -> bool:
        """Whether circus may start a child now."""
        return self.state is State.DUE

    @property
    def may_promote(self) -> bool:
        """Whether a spare may be the next child: whoever orders a new one gets a fresh one."""
        return self.may_start and self._is_succession

    def is_condemned(self, pid: int) -> bool:
        """Whether this process is being replaced because it is unhealthy."""
        return self.state is State.CONDEMNED and pid == self.pid

    # -- the table at work -------------------------------------------------------------------

    def _about(self, pid: int, event: Event, facts: _Facts | None = None) -> list[Effect]:
        return self._handle(event, facts) if pid == self.pid else []

    def _handle(self, event: Event, facts: _Facts | None = None) -> list[Effect]:
        self._effects = []
        self._fire(event, facts or _Facts())
        return self._effects

    def _fire(self, event: Event, facts: _Facts) -> None:
        self.state, actions = TABLE[self.state, event]
        for action in actions:
            _DO[action](self, facts)

    def _tell(self, kind: StepKind, **facts: Any) -> None:
        self._effects.append(Record(kind, facts))

    def _forget(self, _: _Facts) -> None:
        self._is_succession = False
        self._backoff.forget()

    def _begin(self, facts: _Facts) -> None:
        now = self._clock()
        self._life = _Life(facts.pid, now, None if self._speaks else now)
        self._tell("spawned", pid=facts.pid)

    def _begin_promoted(self, facts: _Facts) -> None:
        now = self._clock()
        self._life = _Life(facts.pid, now, None if self._speaks else now)
        self._tell("spawned", pid=facts.pid, promoted=True)

    def _record_failure(self, facts: _Facts) -> None:
        self._life = None
        self._tell("spawn_failed", error=facts.error)

    def _note_ready(self, _: _Facts) -> None:
        if self._life is not None and self._life.ready_at is None:
            self._life.ready_at = self._clock()

    def _note_signal(self, facts: _Facts) -> None:
        if self._life is not None:
            self._life.asked.add(facts.signum)

    def _forget_signals(self, _: _Facts) -> None:
        if self._life is not None:
            self._life.asked.clear()

    def _record_end(self, facts: _Facts) -> None:
        self._tell("ended", pid=facts.pid, code=facts.code, asked=self._was_asked(facts.code))

    def _record_unseen_end(self, _: _Facts) -> None:
        if self._life is not None:
            self._tell("ended", pid=self._life.pid, code=None, asked=False)

    def _was_asked(self, code: int | None) -> bool:
        asked = self._life.asked if self._life is not None else set()
        return bool(asked) if not code else -code in asked

    def _judge(self, facts: _Facts) -> None:
        if self._life is not None and self._was_asked(facts.code):
            self._fire(Event.AS_ASKED, facts)
        else:
            self._decide(facts, failed=self._life is None or facts.code != 0)

    def _judge_as_failure(self, facts: _Facts) -> None:
        self._decide(facts, failed=True)

    def _decide(self, facts: _Facts, *, failed: bool) -> None:
        if self._restart == "never" or (self._restart == "on-failure" and not failed):
            self._fire(Event.FOR_GOOD, facts)
            return
        delay_ms = self._backoff.hindered() if facts.is_shortage else self._ask_backoff()
        if delay_ms is None:
            self._fire(Event.TOO_OFTEN, facts)
            return
        self._fire(
            Event.LATER if delay_ms else Event.AGAIN,
            msgspec.structs.replace(facts, delay_ms=delay_ms),
        )

    def _ask_backoff(self) -> int | None:
        life, now = self._life, self._clock()
        if life is None:
            return self._backoff.ended(age_ms=0, well_ms=None)
        well_ms = None if life.ready_at is None else (now - life.ready_at) * 1000
        return self._backoff.ended(age_ms=(now - life.begun_at) * 1000, well_ms=well_ms)

    def _record_pause(self, facts: _Facts) -> None:
        self._is_succession = True
        # After a good life nothing has failed, and still this is the first try.
        attempt = max(self._backoff.failures, 1)
        self._tell("waiting", attempt=attempt, delay_ms=facts.delay_ms)

    def _record_giving_up(self, _: _Facts) -> None:
        self._tell("gave_up", attempt=self._backoff.failures)

    def _record_calling_off(self, _: _Facts) -> None:
        self._tell("stopped")

    def _set_timer(self, facts: _Facts) -> None:
        self._effects.append(SetTimer(facts.delay_ms))

    def _clear_timer(self, _: _Facts) -> None:
        self._effects.append(ClearTimer())

    def _wake(self, _: _Facts) -> None:
        self._effects.append(Wake())


_DO: Mapping[Action, Callable[[Machine, _Facts], None]] = {
    action: getattr(Machine, f"_{action.name.lower()}") for action in Action
}
