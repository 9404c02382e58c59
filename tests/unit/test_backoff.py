"""When the next life may begin, over random lives and policies."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from codexd.child.backoff import GOOD_MS, Backoff


@dataclass(frozen=True)
class Life:
    """How long it lasted, and how much of that it was well."""

    age_ms: float
    well_ms: float | None


ages = st.floats(0, 200_000)
bad_lives = st.builds(
    lambda age, well: Life(age, None if well is None else min(well, age)),
    ages,
    st.none() | st.floats(0, GOOD_MS, exclude_max=True),
)
good_lives = st.builds(
    lambda boot, well: Life(boot + well, well), st.floats(0, 60_000), st.floats(GOOD_MS, 200_000)
)
lives = bad_lives | good_lives
policies = st.builds(
    Backoff,
    base_ms=st.integers(1, 100_000),
    cap_ms=st.integers(1, 100_000),
    reset_ms=st.integers(0, 100_000),
    random=st.sampled_from([lambda: 0.0, lambda: 0.5, lambda: 1.0]),
)


def end(backoff: Backoff, life: Life) -> int:
    delay = backoff.ended(age_ms=life.age_ms, well_ms=life.well_ms)
    assert delay is not None
    return delay


def bad(backoff: Backoff) -> int | None:
    return backoff.ended(age_ms=0, well_ms=None)


def exact(base_ms: int, cap_ms: int, reset_ms: int = 30_000, limit: int = 0) -> Backoff:
    return Backoff(base_ms, cap_ms, reset_ms, limit, random=lambda: 0.0)


@given(policies, st.lists(lives, max_size=40), good_lives)
def test_whoever_was_well_for_a_second_is_back_at_once(
    backoff: Backoff, before: list[Life], last: Life
) -> None:
    for life in before:
        end(backoff, life)
    assert end(backoff, last) == 0


@given(policies, st.lists(bad_lives, min_size=200, max_size=200))
def test_who_cannot_begin_costs_at_most_one_try_in_the_longest_pause(
    backoff: Backoff, bad: list[Life]
) -> None:
    # The time between the beginnings of two lives, once the pause has grown.
    spans = [life.age_ms + end(backoff, life) for life in bad]
    longest = backoff.cap_ms * (1 - backoff.random() / 4)
    assert all(span >= int(longest) - 1 for span in spans[18:])


@given(policies, st.lists(lives, min_size=1, max_size=40))
def test_the_pause_never_outlives_what_the_last_life_has_waited(
    backoff: Backoff, lived: list[Life]
) -> None:
    for life in lived:
        pause = backoff.pause_ms
        delay = end(backoff, life)
        assert delay == 0 or life.age_ms + delay <= pause <= backoff.cap_ms


@given(policies, st.lists(lives, max_size=40), st.floats(0, 100))
def test_after_a_long_good_life_everything_is_forgotten(
    backoff: Backoff, before: list[Life], more_ms: float
) -> None:
    for life in before:
        end(backoff, life)
    well_ms = max(backoff.reset_ms, GOOD_MS) + more_ms
    end(backoff, Life(well_ms, well_ms))
    assert (backoff.pause_ms, backoff.failures) == (0, 0)
    assert bad(backoff) == 0


def test_the_first_bad_life_has_no_pause_and_later_ones_double_up_to_the_cap() -> None:
    backoff = exact(100, 1000)
    assert [bad(backoff) for _ in range(7)] == [0, 100, 200, 400, 800, 1000, 1000]


def test_the_time_since_a_life_began_counts() -> None:
    backoff = exact(100, 1000)
    for _ in range(4):
        bad(backoff)
    assert backoff.ended(age_ms=300.0, well_ms=None) == 500
    assert backoff.ended(age_ms=5000.0, well_ms=10.0) == 0


def test_a_good_life_halves_the_pause_until_it_is_none() -> None:
    backoff = exact(100, 1000)
    for _ in range(4):
        bad(backoff)
    pauses = []
    for _ in range(4):
        pauses.append(backoff.pause_ms)
        backoff.ended(age_ms=1500.0, well_ms=1000.0)
    assert pauses == [800, 400, 200, 100]
    assert backoff.pause_ms == 0


def test_a_second_is_what_makes_a_life_good() -> None:
    backoff = exact(100, 1000, reset_ms=0)
    backoff.ended(age_ms=1500.0, well_ms=999.0)
    assert (backoff.failures, backoff.pause_ms) == (1, 100)
    backoff.ended(age_ms=1500.0, well_ms=1000.0)
    assert (backoff.failures, backoff.pause_ms) == (0, 0)


def test_up_to_a_quarter_is_taken_off_at_random() -> None:
    backoff = Backoff(1000, 1000, 30_000, random=lambda: 1.0)
    bad(backoff)
    assert bad(backoff) == 750
    assert backoff.pause_ms == 1000


def test_only_bad_lives_in_a_row_count_for_the_limit() -> None:
    backoff = exact(100, 1000, limit=3)
    assert bad(backoff) == 0
    assert bad(backoff) == 100
    assert backoff.ended(age_ms=9000.0, well_ms=1000.0) == 0
    assert bad(backoff) is not None
    assert bad(backoff) is not None
    assert bad(backoff) is None


def test_what_the_system_is_short_of_passes_soon_and_ends_nothing() -> None:
    backoff = exact(100, 30_000, limit=3)
    assert [backoff.hindered() for _ in range(9)] == [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]
    assert backoff.failures == 0
    # And a crash loop goes on where it was.
    backoff = exact(100, 30_000)
    for _ in range(20):
        bad(backoff)
    assert backoff.hindered() == 5000
    assert bad(backoff) == 30_000


def test_an_operator_starts_it_anew() -> None:
    backoff = exact(100, 1000)
    for _ in range(5):
        bad(backoff)
    backoff.forget()
    assert [bad(backoff) for _ in range(2)] == [0, 100]


def test_what_an_operator_steps_into_does_not_count_for_the_limit() -> None:
    backoff = exact(100, 1000, limit=3)
    assert [bad(backoff), bad(backoff)] == [0, 100]
    backoff.forget()
    assert [bad(backoff), bad(backoff), bad(backoff)] == [0, 100, None]
