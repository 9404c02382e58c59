"""One timer: as soon as anybody asked for, and nothing while nobody does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from codexd.keeper.pace import Pace


class Timer:
    def __init__(self, due: float, fire: Callable[[], None]) -> None:
        self.due, self.fire, self.is_off = due, fire, False

    def cancel(self) -> None:
        self.is_off = True


class Clock:
    """The loop's timers, without its time; and what is to be done when one fires."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []
        self.lates: list[float] = []
        self.answers = [5.0, 5.0, -1.0, 5.0]
        self.pace = Pace(cast("Any", self), self.tick)

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, fire: Callable[[], None]) -> Timer:
        self.timers.append(Timer(due, fire))
        return self.timers[-1]

    def tick(self, late_s: float) -> float:
        self.lates.append(late_s)
        answer = self.answers.pop(0)
        if answer < 0:
            raise OSError("no")
        return answer

    @property
    def due(self) -> list[float]:
        return [timer.due for timer in self.timers if not timer.is_off]

    def go(self) -> None:
        (timer,) = [timer for timer in self.timers if not timer.is_off]
        self.timers.clear()
        self.now = max(self.now, timer.due)
        timer.fire()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_soonest_that_was_asked_for_counts(clock: Clock) -> None:
    pace = clock.pace
    pace.soon()
    # Before the plugin has begun, nothing is looked after.
    assert clock.due == []
    pace.start()
    assert clock.due == [100.25]
    clock.go()
    assert clock.due == [105.25]
    pace.within(9.0)
    assert clock.due == [105.25]
    pace.within(3.0)
    pace.soon()
    pace.within(1.0)
    assert clock.due == [100.5]
    clock.go()
    assert clock.due == [105.5]
    assert clock.lates == [0.0, 0.0]


def test_it_tells_for_how_long_this_process_stood_still(clock: Clock) -> None:
    clock.pace.start()
    clock.now += 60.25
    clock.go()
    assert clock.lates == [60.0]


def test_a_tick_that_fails_is_not_the_last(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.pace.start()
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            clock.go()
    assert len(caplog.records) == 1
    assert len(clock.lates) == 4


def test_after_its_end_there_is_none(clock: Clock) -> None:
    pace = clock.pace
    pace.start()
    pace.stop()
    pace.soon()
    assert clock.due == []
