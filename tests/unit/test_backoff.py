from __future__ import annotations

from codexd.child.backoff import Backoff


def test_the_first_restart_is_immediate_and_later_ones_double_up_to_the_cap() -> None:
    backoff = Backoff(100, 1000, 0, random=lambda: 0.0)
    assert [backoff.failed() for _ in range(7)] == [0, 100, 200, 400, 800, 1000, 1000]


def test_jitter_takes_off_up_to_a_quarter() -> None:
    backoff = Backoff(1000, 1000, 0, random=lambda: 1.0)
    backoff.failed()
    assert backoff.failed() == 750


def test_a_reset_starts_anew() -> None:
    backoff = Backoff(100, 1000, 0)
    backoff.failed()
    backoff.failed()
    backoff.reset()
    assert backoff.failed() == 0


def test_a_limit_ends_it() -> None:
    backoff = Backoff(100, 1000, 3)
    assert backoff.failed() == 0
    assert backoff.failed() is not None
    assert backoff.failed() is None


def test_a_long_crash_loop_stays_at_the_cap() -> None:
    backoff = Backoff(1, 30_000, 0, random=lambda: 0.0)
    for _ in range(5000):
        delay = backoff.failed()
    assert delay == 30_000
