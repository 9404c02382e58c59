"""The spare's table, walked at random beside the child's: two servers, and one with threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from codexd.child import family, pipes
from codexd.child import steps as supervision
from codexd.child.backoff import Backoff
from codexd.child.control import ChildControl, machine_for
from codexd.child.ledger import Ledger
from codexd.child.machine import Machine, State
from codexd.child.pipes import ChildPipes, PipeRack
from codexd.child.spare import (
    SPARE_MEANING,
    SPARE_TABLE,
    Deed,
    SpareAction,
    SpareEvent,
    SpareMachine,
    SpareState,
)
from codexd.child.steps import Spare, Supervision
from codexd.config import Config, has_spare, resolve, spare_refusal
from codexd.platform.process import ProcessId, identify, is_alive
from codexd.runtime import end_leftover

BASE_MS, CAP_MS, RESET_MS = 500, 4000, 30_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spare_machine(clock: Clock) -> SpareMachine:
    return SpareMachine(Backoff(BASE_MS, CAP_MS, RESET_MS, random=lambda: 0.0), clock)


# -- the table ---------------------------------------------------------------------------------


def test_every_state_is_reached_and_left() -> None:
    reached = {SpareState.NONE}
    while (
        more := {then for (state, _), (then, _) in SPARE_TABLE.items() if state in reached}
        - reached
    ):
        reached |= more
    assert reached == set(SpareState) == set(SPARE_MEANING)
    assert {state for (state, _), (then, _) in SPARE_TABLE.items() if then is not state} == reached
    assert {action for _, actions in SPARE_TABLE.values() for action in actions} == set(SpareAction)
    assert {event for _, event in SPARE_TABLE} == set(SpareEvent)


def test_only_one_that_is_vouched_for_can_take_the_place_of_the_server() -> None:
    assert [s for s, event in SPARE_TABLE if event is SpareEvent.PROMOTED] == [SpareState.READY]


def live(machine: SpareMachine, clock: Clock, *, ready_s: float | None) -> int:
    """A spare is started, is ready for so long, and dies; the pause before the next."""
    machine.spawned(7)
    if ready_s is not None:
        machine.greeted(7)
        clock.now += ready_s
    (deed,) = machine.ended(7)
    assert deed.action is SpareAction.PAUSE
    assert machine.pause_over() == [Deed(SpareAction.WAKE)]
    return deed.delay_ms


@pytest.mark.parametrize("ready_s", [None, 0.125, 10.5])
def test_one_that_does_not_last_is_started_more_and_more_seldom(ready_s: float | None) -> None:
    clock = Clock()
    machine = spare_machine(clock)
    machine.wanted()
    pauses = [live(machine, clock, ready_s=ready_s) for _ in range(6)]
    waited = 0 if ready_s is None else int(ready_s * 1000)
    full = [0, BASE_MS, 2 * BASE_MS, 4 * BASE_MS, CAP_MS, CAP_MS]
    assert pauses == [max(0, pause - waited) for pause in full]
    # One that lasts is followed by another at once.
    assert live(machine, clock, ready_s=60) == 0


def test_one_that_cannot_be_started_is_tried_more_and_more_seldom() -> None:
    machine = spare_machine(Clock())
    machine.wanted()
    pauses = []
    for _ in range(4):
        pauses += [deed.delay_ms for deed in machine.spawn_failed()]
        machine.pause_over()
    assert pauses == [0, BASE_MS, 2 * BASE_MS, 4 * BASE_MS]


def test_what_is_told_of_another_process_changes_nothing() -> None:
    machine = spare_machine(Clock())
    machine.wanted()
    machine.spawned(7)
    assert machine.greeted(8) == machine.ended(8) == []
    assert (machine.state, machine.ready_pid, machine.pid) == (SpareState.STARTED, None, 7)


def test_one_that_was_promoted_and_never_answered_has_lived_badly() -> None:
    clock = Clock()
    machine = Machine(Backoff(BASE_MS, CAP_MS, RESET_MS), "always", speaks=True, clock=clock)
    machine.start()
    machine.spawned(7)
    machine.answers(7)
    clock.now += 5
    machine.ended(7, -9)
    machine.promoted(8)
    clock.now += 5
    machine.ended(8, 1)
    machine.spawned(9)
    machine.ended(9, 1)
    assert machine.state is State.WAITING


def test_whoever_orders_another_server_gets_a_fresh_one() -> None:
    machine = Machine(Backoff(BASE_MS, CAP_MS, RESET_MS), "always", speaks=True, clock=Clock())
    machine.start()
    assert machine.may_start
    assert not machine.may_promote
    machine.spawned(7)
    machine.answers(7)
    machine.ended(7, -9)
    assert machine.may_promote
    machine.promoted(8)
    assert (machine.pid, machine.state) == (8, State.STARTED)
    machine.signalled(8, 15)
    machine.ended(8, -15)
    assert machine.may_start
    assert not machine.may_promote


# -- both together -----------------------------------------------------------------------------


class Two(RuleBasedStateMachine):
    """The two watchers as they handle their machines; a plain model says who lives and serves."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        backoff = Backoff(BASE_MS, CAP_MS, RESET_MS, random=lambda: 0.0)
        self.child = Machine(backoff, "always", speaks=True, clock=self.clock)
        self.spare = spare_machine(self.clock)
        self.child.start()
        self.pids = 100
        # Who lives, and who of them was given threads.
        self.living: set[int] = set()
        self.with_threads: set[int] = set()

    def _fork(self) -> int:
        self.pids += 1
        self.living.add(self.pids)
        return self.pids

    @rule()
    def circus_looks_at_the_child(self) -> None:
        if not self.child.may_start:
            return
        pid = self.spare.ready_pid if self.child.may_promote else None
        if pid is None:
            self.child.spawned(self._fork())
        else:
            self.spare.promoted()
            self.child.promoted(pid)

    @rule()
    def circus_looks_at_the_spare(self) -> None:
        before = (self.child.state, self.child.pid)
        if self.spare.may_start and self.child.state is State.READY:
            self.spare.spawned(self._fork())
        assert (self.child.state, self.child.pid) == before

    @rule()
    def the_child_answers(self) -> None:
        if self.child.pid is not None:
            self.child.answers(self.child.pid)
            self.with_threads.add(self.child.pid)

    @rule()
    def the_spare_is_greeted(self) -> None:
        if self.spare.pid is not None:
            self.spare.greeted(self.spare.pid)

    @rule(what=st.sampled_from(["wanted", "stale", "pause_over"]))
    def the_spare_is_told(self, what: str) -> None:
        before = (self.child.state, self.child.pid)
        getattr(self.spare, what)()
        assert (self.child.state, self.child.pid) == before

    @rule(who=st.sampled_from(["child", "spare", "both"]), code=st.sampled_from([0, 1, -9]))
    def somebody_dies(self, who: str, code: int) -> None:
        child, spare = self.child.pid, self.spare.pid
        if who != "spare" and child is not None:
            self.living.discard(child)
            self.with_threads.discard(child)
            self.child.ended(child, code)
        if who != "child" and spare is not None:
            self.living.discard(spare)
            self.spare.ended(spare)

    @rule(what=st.sampled_from(["start", "stop", "pause_over"]))
    @precondition(lambda self: self.child.state is not State.OFF or not self.living)
    def the_child_is_told(self, what: str) -> None:
        if what == "pause_over" and self.child.state not in (State.WAITING, State.DUE):
            return
        getattr(self.child, what)()

    @rule(seconds=st.sampled_from([0.1, 1.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def one_at_most_has_threads(self) -> None:
        assert self.with_threads <= {self.child.pid}
        assert self.spare.pid is None or self.spare.pid not in self.with_threads

    @invariant()
    def each_that_lives_is_known_and_known_once(self) -> None:
        known = [pid for pid in (self.child.pid, self.spare.pid) if pid is not None]
        assert sorted(known) == sorted(self.living)


TestTwo = Two.TestCase
TestTwo.settings = settings(
    max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)


# -- what is written down ----------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "state" / "codexd").mkdir(parents=True)
    return resolve({"repo_root": str(tmp_path)}, {}, cwd="/")


def test_the_pipes_of_a_spare_are_the_childs_once_it_is_promoted(config: Config) -> None:
    runtime_dir = config.runtime.runtime_dir
    path = supervision.path_of(config.paths.state_dir)
    ledger, rack = Ledger(path), PipeRack(runtime_dir)
    told: list[dict[str, object]] = []
    ledger.attach(lambda _topic, message: told.append(message), lambda *_: None)
    machine = machine_for(config.server, config.policy, Clock())
    control = ChildControl(
        machine, ledger, rack, lambda *_: SimpleNamespace(cancel=bool), lambda: None
    )
    control.start()
    control.new_pipes()
    first = control.pipes.generation
    control.spawned(1 << 30, "x", ["/bin/x"], "/")
    aside = ChildPipes.create(runtime_dir, ledger.next_aside(), spare=True)
    me = identify(os.getpid())
    assert me is not None
    ledger.note_spare(Spare(process=me, generation=aside.generation))
    ledger.save()
    # Who looks for children does not find it, and it is found by the next daemon.
    assert pipes.generations(runtime_dir) == [first]
    found = supervision.load(path).spare
    assert found is not None
    assert found.process == me
    control.ended(1 << 30, -9)
    assert told[-1]["generation"] == first
    aside.come_forth(runtime_dir)
    control.promoted(me.pid, aside, "x", ["/bin/x"], "/")
    record = supervision.load(path)
    assert record.spare is None
    assert record.child == me
    step = record.steps[-1]
    assert (step.kind, step.promoted, step.generation) == ("spawned", True, aside.generation)
    assert control.pipes is aside
    assert pipes.generations(runtime_dir) == [first, aside.generation]
    # A generation is never used again, whoever had it.
    assert ledger.next_generation() == aside.generation + 1


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    yield process
    process.kill()
    process.communicate()


def test_a_spare_that_its_daemon_left_behind_is_ended(
    config: Config, sleeper: subprocess.Popen[bytes]
) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    record = Supervision(spare=Spare(process=process, generation=3))
    supervision.save(supervision.path_of(config.paths.state_dir), record)
    reports: list[str] = []
    end_leftover(config.paths, config.runtime, reports.append, grace_s=1.0)
    assert not is_alive(process)
    assert reports == [f"ending process {sleeper.pid}, left behind by an earlier daemon"]


def test_a_record_without_a_spare_is_read_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "watcher.json"
    path.write_text('{"child":{"pid":5,"token":"x"},"generation":2,"begin":1,"steps":[]}')
    record = supervision.load(str(path))
    assert (record.child, record.spare) == (ProcessId(5, "x"), None)


def test_whom_a_spare_has_started_belongs_to_the_child_once_it_is_promoted(tmp_path: Path) -> None:
    pids: set[int] = set()
    childs = family.Family(str(tmp_path / "a"), lambda: pids, adopts=False)
    spares = family.Family(str(tmp_path / "b"), lambda: pids, adopts=False)
    shell = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 30 & echo; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert shell.stdout is not None
    try:
        pids.add(shell.pid)
        shell.stdout.readline()
        # A second in which another process was the child.
        childs.look(os.getpid())
        spares.look(shell.pid)
        (job,) = family.survivors(str(tmp_path / "b"))
        childs.take_over(spares)
        assert family.survivors(str(tmp_path / "b")) == []
        shell.kill()
        shell.wait()
        childs.end(shell.pid)
        assert not is_alive(job)
    finally:
        shell.kill()
        shell.communicate()


# -- where there is one ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({}, None),
        ({"server_endpoint": "unix:///tmp/x.sock"}, None),
        ({"server_endpoint": "unix://"}, None),
        ({"server_endpoint": "ws://127.0.0.1:4500"}, "a port cannot be taken over from ws:"),
        ({"server_strategy": "external", "server_endpoint": "unix:///x"}, "not codexd's"),
        ({"mode": "exec"}, "does not speak the protocol"),
        ({"restart": "never"}, "--restart never"),
    ],
)
def test_it_is_said_where_there_is_none(flags: dict[str, str], why: str | None) -> None:
    given = resolve({"repo_root": "/r", "spare": "true", **flags}, {}, cwd="/")
    refusal = spare_refusal(given)
    assert (refusal is None) == (why is None) == has_spare(given)
    assert (why or "") in (refusal or "")
    off = resolve({"repo_root": "/r", **flags}, {}, cwd="/")
    assert (spare_refusal(off), has_spare(off)) == (None, False)
