"""The machine of the child's life, walked at random beside a plain model."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from codexd.child.backoff import Backoff
from codexd.child.machine import (
    MEANING,
    TABLE,
    WORDS,
    Action,
    ClearTimer,
    Effect,
    Event,
    Machine,
    Record,
    SetTimer,
    State,
    Wake,
)

BASE_MS, CAP_MS, RESET_MS = 500, 4000, 30_000
ALONE = {State.OFF, State.DUE, State.WAITING, State.GIVEN_UP}
THERE = {State.STARTED, State.READY, State.CONDEMNED, State.ENDING}
VERDICTS = {Event.AS_ASKED, Event.AGAIN, Event.LATER, Event.TOO_OFTEN, Event.FOR_GOOD}
OF_A_PROCESS = {Event.ANSWERS, Event.SIGNALLED, Event.CONDEMN, Event.ENDED}


# -- the table itself --------------------------------------------------------------------------


@pytest.mark.parametrize("event", [event for event in Event if event not in VERDICTS])
def test_whatever_can_happen_has_a_row(event: Event) -> None:
    states = {state for state, what in TABLE if what is event}
    if event in OF_A_PROCESS:
        assert states == THERE
    elif event in (Event.SPAWN_FAILED, Event.PROMOTED):
        # Circus tries only when it may.
        assert states == {State.DUE}
    elif event is Event.PAUSE_OVER:
        # Elsewhere no timer runs; see below.
        assert states == {State.WAITING, State.DUE}
    else:
        assert states == ALONE | THERE


def test_a_verdict_follows_every_end_and_nothing_else_does() -> None:
    assert {event for state, event in TABLE if state is State.DOWN} == VERDICTS
    judged = {Action.JUDGE, Action.JUDGE_AS_FAILURE}
    for then, actions in TABLE.values():
        assert (then is State.DOWN) == bool(judged & set(actions))
        # The verdict is the last word: it leads out of that state.
        assert not judged & set(actions[:-1])


def test_every_state_is_reached_and_left() -> None:
    reached = {State.OFF}
    while more := {then for (state, _), (then, _) in TABLE.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State) == set(MEANING) == set(WORDS)
    assert {state for (state, _), (then, _) in TABLE.items() if then is not state} == set(State)
    assert {action for _, actions in TABLE.values() for action in actions} == set(Action)


def test_a_timer_runs_only_where_there_is_something_to_wait_for() -> None:
    for (state, event), (then, actions) in TABLE.items():
        if state in (State.WAITING, State.DUE) and then not in (State.WAITING, State.DUE):
            assert Action.CLEAR_TIMER in actions, (state, event)
        if Action.SET_TIMER in actions:
            assert then in (State.WAITING, State.DUE), (state, event)


# -- single histories --------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Life:
    """A machine with a clock, told what happens."""

    def __init__(self, restart: str = "always", *, limit: int = 0, speaks: bool = True) -> None:
        self.clock = Clock()
        backoff = Backoff(BASE_MS, CAP_MS, RESET_MS, limit, random=lambda: 0.0)
        self.machine = Machine(backoff, restart, speaks=speaks, clock=self.clock)
        self.machine.start()

    def lives(self, *, well_s: float | None, age_s: float = 0, code: int = 1) -> list[Effect]:
        """A child is started, is ready after ``age_s``, and ends ``well_s`` later."""
        self.machine.spawned(7)
        self.clock.now += age_s
        if well_s is not None:
            self.machine.answers(7)
            self.clock.now += well_s
        return self.machine.ended(7, code)


def kinds(effects: list[Effect]) -> list[str]:
    return [effect.kind for effect in effects if isinstance(effect, Record)]


def delay(effects: list[Effect]) -> int | None:
    return next((effect.delay_ms for effect in effects if isinstance(effect, SetTimer)), None)


def ended_facts(effects: list[Effect]) -> dict[str, object]:
    (found,) = [e.facts for e in effects if isinstance(e, Record) and e.kind == "ended"]
    return found


def test_who_was_ready_for_a_second_is_back_at_once_after_any_crash_loop() -> None:
    life = Life()
    for _ in range(9):
        life.lives(well_s=None)
    assert life.machine.state is State.WAITING
    life.machine.pause_over()
    effects = life.lives(well_s=1.0)
    assert (delay(effects), life.machine.state) == (0, State.DUE)
    assert kinds(effects) == ["ended", "waiting"]


def test_who_was_ready_for_less_waits_less_what_it_took_already() -> None:
    life = Life()
    assert delay(life.lives(well_s=0.9)) == 0
    assert delay(life.lives(well_s=0.1, age_s=0.15)) == BASE_MS - 250
    assert delay(life.lives(well_s=None, age_s=60)) == 0


def test_who_says_again_that_it_is_ready_is_as_old_as_before() -> None:
    life = Life()
    life.lives(well_s=None)
    life.machine.spawned(7)
    life.machine.answers(7)
    life.clock.now += 0.9
    # A plugin that was restarted tells it as well.
    life.machine.answers(7)
    life.clock.now += 0.1
    assert delay(life.machine.ended(7, 1)) == 0
    assert life.machine.state is State.DUE


def test_a_command_that_does_not_speak_counts_as_well_from_its_start() -> None:
    life = Life(speaks=False)
    for _ in range(5):
        life.lives(well_s=None)
    assert delay(life.lives(well_s=None, age_s=1)) == 0
    assert delay(life.lives(well_s=None, age_s=0.9)) != 0


def test_a_start_that_failed_is_a_bad_life_and_has_a_timer_even_at_once() -> None:
    life = Life()
    effects = life.machine.spawn_failed("no such file")
    assert kinds(effects) == ["spawn_failed", "waiting"]
    assert (delay(effects), life.machine.state) == (0, State.DUE)
    assert life.machine.pause_over() == [Wake()]
    assert delay(life.machine.spawn_failed("no such file")) == BASE_MS


@pytest.mark.parametrize(
    ("restart", "code", "again"),
    [("never", 1, False), ("on-failure", 0, False), ("on-failure", 1, True), ("always", 0, True)],
)
def test_policies(restart: str, code: int, again: bool) -> None:
    life = Life(restart)
    effects = life.lives(well_s=5, code=code)
    assert kinds(effects) == (["ended", "waiting"] if again else ["ended"])
    assert life.machine.may_start == again
    if not again:
        life.machine.start()
        assert life.machine.may_start


def test_for_what_the_system_is_short_of_nothing_is_given_up() -> None:
    life = Life(limit=2)
    for _ in range(5):
        life.machine.spawn_failed("No space left on device", is_shortage=True)
        assert life.machine.state in (State.DUE, State.WAITING)
        life.machine.pause_over()
    life.machine.spawn_failed("no such file")
    life.machine.pause_over()
    life.machine.spawn_failed("no such file")
    assert life.machine.state is State.GIVEN_UP


@pytest.mark.parametrize(("restart", "again"), [("never", False), ("on-failure", True)])
def test_policies_and_a_start_that_failed(restart: str, again: bool) -> None:
    life = Life(restart)
    effects = life.machine.spawn_failed("no")
    assert (delay(effects) is not None) == again
    assert kinds(effects) == (["spawn_failed", "waiting"] if again else ["spawn_failed"])


@pytest.mark.parametrize("code", [1, -9, 0])
def test_who_dies_while_an_operator_stops_it_is_not_started_again(code: int) -> None:
    # The stop waits for its turns, say, and no signal was sent yet.
    life = Life()
    life.machine.spawned(7)
    life.machine.answers(7)
    assert life.machine.stop() == []
    effects = life.machine.ended(7, code)
    assert kinds(effects) == ["ended"]
    assert ended_facts(effects)["asked"] is False
    assert not life.machine.may_start
    assert life.machine.stopped() == []
    life.machine.start()
    assert life.machine.may_start


def test_a_code_of_its_own_on_sigterm_is_no_end_that_was_asked_for() -> None:
    life = Life()
    life.machine.spawned(7)
    life.machine.stop()
    life.machine.signalled(7, 15)
    effects = life.machine.ended(7, 1)
    assert effects == [Record("ended", {"pid": 7, "code": 1, "asked": False})]


@pytest.mark.parametrize(
    ("sent", "code", "asked"), [(15, -15, True), (15, 0, True), (1, -11, False)]
)
def test_an_operators_signal(sent: int, code: int, asked: bool) -> None:
    life = Life()
    for _ in range(5):
        life.lives(well_s=None)
    life.machine.spawned(7)
    life.machine.signalled(7, sent)
    effects = life.machine.ended(7, code)
    assert ended_facts(effects)["asked"] is asked
    assert ("waiting" in kinds(effects)) is not asked
    assert (delay(effects) == 0) is asked


@pytest.mark.parametrize("code", [0, -15, -9, 3])
@pytest.mark.parametrize("restart", ["always", "on-failure"])
def test_an_unhealthy_child_is_replaced_with_whatever_code_it_ends(restart: str, code: int) -> None:
    life = Life(restart)
    life.machine.spawned(7)
    life.machine.signalled(7, 10)
    life.machine.answers(7)
    life.clock.now += 40
    life.machine.condemn(7)
    assert life.machine.is_condemned(7)
    life.machine.signalled(7, 15)
    life.machine.signalled(7, 9)
    effects = life.machine.ended(7, code)
    assert kinds(effects) == ["ended", "waiting"]
    assert ended_facts(effects)["asked"] is False


def test_an_operators_stop_of_an_unhealthy_child_counts_as_his() -> None:
    life = Life()
    life.machine.spawned(7)
    life.machine.condemn(7)
    life.machine.stop()
    life.machine.signalled(7, 9)
    effects = life.machine.ended(7, -9)
    assert effects == [Record("ended", {"pid": 7, "code": -9, "asked": True})]


def test_a_stop_calls_off_what_is_waited_for() -> None:
    life = Life()
    life.lives(well_s=None)
    life.lives(well_s=None)
    assert life.machine.state is State.WAITING
    assert life.machine.stop() == [ClearTimer(), Record("stopped")]
    assert life.machine.stop() == life.machine.stopped() == []
    assert not life.machine.may_start


def test_an_operators_start_waits_for_nothing_and_counts_anew() -> None:
    life = Life(limit=3)
    for _ in range(3):
        life.lives(well_s=None)
    assert life.machine.state is State.GIVEN_UP
    assert life.machine.start() == []
    assert [kinds(life.lives(well_s=None))[-1] for _ in range(3)] == ["waiting"] * 2 + ["gave_up"]


def test_a_stop_and_a_start_count_anew() -> None:
    life = Life()
    for _ in range(4):
        life.lives(well_s=None)
    life.machine.stop()
    life.machine.start()
    assert [delay(life.lives(well_s=None)) for _ in range(3)] == [0, BASE_MS, 2 * BASE_MS]


def test_an_end_that_nobody_saw_is_recorded_before_the_next_start() -> None:
    life = Life()
    life.machine.spawned(7)
    assert life.machine.spawned(8) == [
        Record("ended", {"pid": 7, "code": None, "asked": False}),
        Record("spawned", {"pid": 8}),
    ]
    life.machine.stop()
    assert kinds(life.machine.stopped()) == ["ended"]
    life.machine.start()
    assert life.machine.may_start


@pytest.mark.parametrize("when", list(State))
def test_what_is_told_of_another_process_changes_nothing(when: State) -> None:
    life = Life(limit=3)
    reach(life, when)
    machine = life.machine
    before = (machine.state, machine.pid)
    for told in (
        machine.answers(3),
        machine.signalled(3, 9),
        machine.condemn(3),
        machine.ended(3, 1),
    ):
        assert told == []
    assert (machine.state, machine.pid) == before
    assert not machine.is_condemned(3)


def reach(life: Life, state: State) -> None:
    """Bring a machine there."""
    machine = life.machine
    if state is State.OFF:
        machine.stop()
    elif state is State.WAITING:
        life.lives(well_s=None)
        life.lives(well_s=None)
    elif state is State.GIVEN_UP:
        for _ in range(3):
            life.lives(well_s=None)
    elif state in THERE:
        machine.spawned(7)
    if state is State.READY:
        machine.answers(7)
    elif state is State.CONDEMNED:
        machine.condemn(7)
    elif state is State.ENDING:
        machine.stop()
    assert machine.state is (State.DUE if state is State.DOWN else state)


# -- random histories --------------------------------------------------------------------------


class Model:
    """The same life as one would tell it: who is there, who is wanted, when the next comes."""

    def __init__(self, restart: str, limit: int, speaks: bool) -> None:
        self.restart = restart
        self.limit = limit
        self.speaks = speaks
        self.wanted = False
        self.given_up = False
        self.pid: int | None = None
        self.next_in_ms: int | None = None
        self.steps: list[tuple[object, ...]] = []
        self.pause = 0.0
        self.bad = 0
        self._clear(0)

    def _clear(self, now: float) -> None:
        self.born = now
        self.well_since = None if self.speaks else now
        self.signals: set[int] = set()
        self.doomed = False
        self.leaving = False

    def may_start(self) -> bool:
        idle = self.pid is None and self.wanted and not self.given_up
        return idle and not self.next_in_ms

    def start(self) -> None:
        if self.pid is None and not self.may_start():
            self.wanted, self.given_up, self.next_in_ms = True, False, None
            self.pause = self.bad = 0

    def stop(self) -> None:
        if self.pid is not None:
            self.leaving = True
        elif self.wanted and self.next_in_ms:
            self.steps.append(("stopped",))
        self.wanted, self.given_up, self.next_in_ms = False, False, None

    def stopped(self) -> None:
        self.stop()
        if self.pid is not None:
            self.steps.append(("ended", self.pid, None, False))
            self.pid = None

    def spawned(self, pid: int, now: float) -> None:
        self.pid, self.wanted, self.given_up, self.next_in_ms = pid, True, False, None
        self._clear(now)
        self.steps.append(("spawned", pid))

    def failed(self) -> None:
        self.next_in_ms = None
        self.steps.append(("spawn_failed",))
        if self.restart == "never":
            self.wanted = False
        else:
            self._bad(0)

    def answers(self, now: float) -> None:
        if not self.doomed and not self.leaving and self.well_since is None:
            self.well_since = now

    def signalled(self, signum: int) -> None:
        if self.leaving or not self.doomed:
            self.signals.add(signum)

    def condemned(self) -> None:
        if not self.leaving and not self.doomed:
            self.doomed = True
            self.signals.clear()

    def ended(self, code: int | None, now: float) -> None:
        asked = bool(self.signals) if code in (0, None) else -(code or 0) in self.signals
        self.steps.append(("ended", self.pid, code, asked))
        self.pid = None
        if self.leaving:
            return
        if asked and not self.doomed:
            self.pause = self.bad = 0
            self.next_in_ms = 0
        elif self.restart == "always" or (
            self.restart == "on-failure" and (self.doomed or code != 0)
        ):
            well_ms = -1.0 if self.well_since is None else (now - self.well_since) * 1000
            if well_ms >= 1000:
                self.bad = 0
                self.pause = (
                    0 if well_ms >= RESET_MS or self.pause / 2 < BASE_MS else self.pause / 2
                )
                self.next_in_ms = 0
                self.steps.append(("waiting", 1, 0))
            else:
                self._bad((now - self.born) * 1000)
        else:
            self.wanted = False

    def _bad(self, age_ms: float) -> None:
        self.bad += 1
        if self.limit and self.bad >= self.limit:
            self.given_up = True
            self.steps.append(("gave_up", self.bad))
            return
        self.next_in_ms = int(max(0, self.pause - age_ms))
        self.pause = min(CAP_MS, self.pause * 2) if self.pause else BASE_MS
        self.steps.append(("waiting", self.bad, self.next_in_ms))


class Walk(RuleBasedStateMachine):
    """Whatever circus, the plugin and operators may bring about, in any order."""

    @initialize(
        restart=st.sampled_from(["always", "on-failure", "never"]),
        limit=st.sampled_from([0, 0, 1, 3]),
        speaks=st.booleans(),
    )
    def begin(self, restart: str, limit: int, speaks: bool) -> None:
        self.clock = Clock()
        backoff = Backoff(BASE_MS, CAP_MS, RESET_MS, limit, random=lambda: 0.0)
        self.machine = Machine(backoff, restart, speaks=speaks, clock=self.clock)
        self.model = Model(restart, limit, speaks)
        self.steps: list[tuple[object, ...]] = []
        self.timer: int | None = None
        self.woken = 0
        self.next_pid = 100

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record(kind, facts):
                    self.steps.append((kind, *[v for k, v in facts.items() if k != "error"]))
                case SetTimer(delay_ms):
                    self.timer = delay_ms
                case ClearTimer():
                    self.timer = None
                case Wake():
                    self.woken += 1

    @rule(seconds=st.sampled_from([0.001, 0.4, 0.999, 1.0, 3.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        # In milliseconds without a rest, or the two add up differently.
        self.clock.now = round(self.clock.now + seconds, 3)

    @rule()
    def operator_starts(self) -> None:
        self.do(self.machine.start())
        self.model.start()

    @rule()
    def operator_stops(self) -> None:
        self.do(self.machine.stop())
        self.model.stop()

    @rule()
    def circus_has_stopped(self) -> None:
        self.do(self.machine.stopped())
        self.model.stopped()

    @rule(works=st.booleans())
    def circus_starts_it(self, works: bool) -> None:
        if not self.machine.may_start:
            return
        if works:
            self.next_pid += 1
            self.do(self.machine.spawned(self.next_pid))
            self.model.spawned(self.next_pid, self.clock.now)
        else:
            self.do(self.machine.spawn_failed("no"))
            self.model.failed()

    @rule()
    def there_is_one_after_all(self) -> None:
        # Nobody knows how, or what became of the one before.
        self.next_pid += 1
        self.do(self.machine.spawned(self.next_pid))
        if self.model.pid is not None:
            self.model.steps.append(("ended", self.model.pid, None, False))
        self.model.spawned(self.next_pid, self.clock.now)

    @rule(
        well_s=st.sampled_from([None, 0.3, 1.0, 40.0]),
        code=st.sampled_from([0, 1, -15]),
        sent=st.sampled_from([None, None, 15]),
        condemned=st.sampled_from([False, False, True]),
        lives=st.integers(1, 4),
    )
    def it_lives_again_and_again(
        self, well_s: float | None, code: int, sent: int | None, condemned: bool, lives: int
    ) -> None:
        for _ in range(lives):
            self.the_timer_runs_out()
            self.circus_starts_it(works=True)
            self.time_passes(0.1)
            if well_s is not None:
                self.it_answers(is_late=False)
                self.time_passes(well_s)
            if condemned:
                self.it_is_condemned(is_late=False)
            if sent is not None:
                self.operator_signals(sent, is_late=False)
            self.it_ends(code, is_late=False)
            self.they_agree()

    @rule(is_late=st.booleans())
    def it_answers(self, is_late: bool) -> None:
        pid = self.next_pid - is_late
        self.do(self.machine.answers(pid))
        if pid == self.model.pid:
            self.model.answers(self.clock.now)

    @rule(signum=st.sampled_from([1, 9, 15]), is_late=st.booleans())
    def operator_signals(self, signum: int, is_late: bool) -> None:
        pid = self.next_pid - is_late
        self.do(self.machine.signalled(pid, signum))
        if pid == self.model.pid:
            self.model.signalled(signum)

    @rule(is_late=st.booleans())
    def it_is_condemned(self, is_late: bool) -> None:
        pid = self.next_pid - is_late
        self.do(self.machine.condemn(pid))
        if pid == self.model.pid:
            self.model.condemned()

    @rule(code=st.sampled_from([0, 1, -9, -15, None]), is_late=st.booleans())
    def it_ends(self, code: int | None, is_late: bool) -> None:
        pid = self.next_pid - is_late
        self.do(self.machine.ended(pid, code))
        if pid == self.model.pid:
            self.model.ended(code, self.clock.now)

    @rule()
    def the_timer_runs_out(self) -> None:
        if self.timer is not None:
            self.timer = None
            woken = self.woken
            self.do(self.machine.pause_over())
            self.model.next_in_ms = None
            # Circus hears of it, and may start it.
            assert self.woken == woken + 1
            assert self.machine.may_start

    @invariant()
    def they_agree(self) -> None:
        assert self.machine.pid == self.model.pid
        assert self.machine.may_start == self.model.may_start()
        assert self.steps == self.model.steps
        assert self.timer == self.model.next_in_ms

    @invariant()
    def there_is_one_or_the_next_is_on_its_way(self) -> None:
        machine = self.machine
        assert not (machine.may_start and machine.pid is not None)
        if self.model.restart == "always" and not self.model.limit and self.model.wanted:
            assert machine.pid is not None or machine.may_start or self.timer is not None

    @invariant()
    def each_that_started_ends_once(self) -> None:
        running: object = None
        for step in self.steps:
            if step[0] == "spawned":
                assert running is None
                running = step[1]
            elif step[0] == "ended":
                assert step[1] == running
                running = None


Walk.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestWalk = Walk.TestCase


def test_the_states_of_the_walk_are_all_there_are() -> None:
    assert ALONE | THERE | {State.DOWN} == set(State)
    assert {pair for pair in product(ALONE, OF_A_PROCESS)}.isdisjoint(TABLE)
