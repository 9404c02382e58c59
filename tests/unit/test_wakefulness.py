"""An answer that is about to come is waited for awake; one that takes its time is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from codexd.keeper import wakefulness
from codexd.keeper.wakefulness import Wakefulness


class Loop:
    """A loop that turns when it is told to, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.now = 100.0
        monkeypatch.setattr(wakefulness, "monotonic", lambda: self.now)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def turn(self) -> bool:
        """Whether the loop would not have slept."""
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()
        return bool(callbacks)

    def turns(self, step_s: float = 0.00005) -> int:
        """How often it turns before it sleeps."""
        count = 0
        while self.turn():
            count += 1
            self.now += step_s
        return count


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


def on(loop: Loop, processors: int = 2) -> Wakefulness:
    return Wakefulness(cast("Any", loop), processors)


def test_the_loop_does_not_sleep_before_the_answer(loop: Loop) -> None:
    awake = on(loop)
    for _ in range(100):
        awake.sent()
        assert loop.turn()
        awake.heard()
        loop.turns()
        assert not loop.turn()


def test_it_sleeps_where_none_comes_soon_and_when_nothing_was_sent(loop: Loop) -> None:
    awake = on(loop)
    awake.heard()
    assert loop.turns() == 0
    awake.sent()
    # Others in the meantime are waited for by the same callback.
    awake.sent()
    assert len(loop.callbacks) == 1
    assert loop.turns() == 5


def test_a_server_that_takes_its_time_is_waited_for_ever_more_seldom(loop: Loop) -> None:
    awake = on(loop)

    def waited() -> bool:
        awake.sent()
        return loop.turns() > 0

    assert [number for number in range(300) if waited()] == [0, 2, 5, 10, 19, 36, 69, 134, 199, 264]
    # One that answers at once again is waited for again.
    while not loop.callbacks:
        awake.sent()
    awake.heard()
    loop.turns()
    assert waited()


def test_on_a_single_processor_the_server_needs_it(loop: Loop) -> None:
    awake = on(loop, processors=1)
    awake.sent()
    awake.heard()
    assert not loop.turn()
    assert wakefulness.usable_processors() >= 1
