"""Why a server was started again, and how long nobody was answered."""

from __future__ import annotations

from codexd.child.steps import Step, StepKind
from codexd.keeper.restarts import Restarts


class Life:
    """Steps of one daemon's children, at the times that the test gives."""

    def __init__(self) -> None:
        self.now = 100.0
        self.number = self.spawns = 0
        self.restarts = Restarts(clock=lambda: self.now)

    def step(self, kind: StepKind, *, after_s: float = 0.0, asked: bool = False) -> None:
        self.now += after_s
        self.number += 1
        self.spawns += kind == "spawned"
        attempt = self.spawns if kind == "spawned" else 1
        step = Step(
            number=self.number, kind=kind, at=self.now, generation=1, asked=asked, attempt=attempt
        )
        self.restarts.step(step)

    def ready(self, *, after_s: float = 0.0) -> None:
        self.now += after_s
        self.restarts.ready()

    @property
    def recovered(self) -> tuple[int, float]:
        """How often, and how long it took together."""
        return sum(self.restarts.recovery.counts), self.restarts.recovery.sum


def begun() -> Life:
    life = Life()
    life.step("spawned")
    life.ready(after_s=0.1)
    return life


def test_the_first_server_is_no_restart() -> None:
    life = begun()
    assert life.restarts.by_reason == {}
    assert life.recovered == (0, 0.0)


def test_one_that_died_is_back_when_it_answers() -> None:
    life = begun()
    life.step("ended", after_s=60.0)
    life.step("spawned", after_s=0.5)
    assert life.restarts.by_reason == {"died": 1}
    life.ready(after_s=0.25)
    assert life.recovered == (1, 0.75)
    life.ready()
    assert life.recovered == (1, 0.75)


def test_a_crash_loop_is_many_restarts_and_one_recovery() -> None:
    life = begun()
    for _ in range(3):
        life.step("ended", after_s=1.0)
        life.step("waiting")
        life.step("spawn_failed", after_s=1.0)
        life.step("spawned", after_s=1.0)
    assert life.restarts.by_reason == {"died": 3}
    life.ready(after_s=1.0)
    assert life.recovered == (1, 9.0)


def test_an_operator_may_take_any_time() -> None:
    life = begun()
    life.step("ended", asked=True)
    life.step("spawned", after_s=3600.0)
    life.ready()
    assert life.restarts.by_reason == {"asked": 1}
    assert life.recovered == (0, 0.0)


def test_an_operator_who_calls_the_restart_off_ends_the_wait() -> None:
    life = begun()
    life.step("ended")
    life.step("stopped", after_s=1.0)
    life.step("spawned", after_s=3600.0)
    life.ready()
    assert life.recovered == (0, 0.0)


def test_one_that_was_replaced_is_told_from_one_that_died() -> None:
    life = begun()
    life.restarts.because("unhealthy")
    life.step("ended")
    life.step("spawned", after_s=1.0)
    life.ready()
    life.restarts.because("memory")
    life.step("ended", asked=True)
    life.step("spawned", after_s=1.0)
    life.ready()
    life.step("ended")
    life.step("spawned", after_s=1.0)
    life.ready()
    assert life.restarts.by_reason == {"unhealthy": 1, "memory": 1, "died": 1}
    assert life.recovered == (3, 3.0)


def test_a_cause_that_came_to_nothing_is_not_blamed() -> None:
    life = begun()
    # It died before circusd could end it in order, or was stopped by somebody else.
    life.restarts.because("memory")
    life.step("ended")
    life.step("spawned")
    life.restarts.because("unhealthy")
    life.step("ended", asked=True)
    life.step("spawned")
    life.restarts.because("unhealthy")
    life.restarts.because(None)
    life.step("ended")
    life.step("spawned")
    assert life.restarts.by_reason == {"died": 2, "asked": 1}


def test_one_whose_end_nobody_saw_has_died() -> None:
    life = begun()
    life.step("ended", asked=True)
    life.step("spawned")
    life.step("spawned")
    assert life.restarts.by_reason == {"asked": 1, "died": 1}


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    life = begun()
    life.step("ended")
    life.step("spawned")
    life.ready(after_s=-500.0)
    assert life.recovered == (1, 0.0)
