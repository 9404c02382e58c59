"""Whatever waits for no certain time wakes when others do, and not oftener than it would."""

from __future__ import annotations

import itertools

import pytest

from codexd.beat import BEAT_S, until_beat


@pytest.mark.parametrize("beats", [1, 2, 6])
@pytest.mark.parametrize("begin", [0.0, 3.3, 4.99, 36966.379])
def test_timers_that_began_anywhere_go_together(beats: int, begin: float) -> None:
    wait_s = beats * BEAT_S
    now, moments = begin, []
    for late_s in (0.0, 0.004, -0.000_000_001, 0.002, 0.3):
        left_s = until_beat(now, wait_s)
        assert 0 < left_s < wait_s + 0.1
        now += left_s + late_s
        moments.append(round((now - late_s) / BEAT_S, 6))
    assert all(moment == round(moment) for moment in moments)
    # Only the first one is shorter.
    assert {after - before for before, after in itertools.pairwise(moments)} == {beats}


@pytest.mark.parametrize("wait_s", [0.0, 0.1, 1.0, 4.9, 7.0, 12.5])
def test_other_waits_are_as_long_as_they_were(wait_s: float) -> None:
    assert until_beat(3.3, wait_s) == wait_s
