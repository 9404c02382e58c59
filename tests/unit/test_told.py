"""What circusd believes of what the plugin tells: unknown is never idle."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.child.told import Patience, PluginWatch, Report, Stage, Told

CHILD, PLUGIN = 7, 70


def report(**facts: Any) -> Report:
    return Report(**{"plugin": PLUGIN, "child": CHILD, "server": "up", "turns": 0, **facts})


@pytest.fixture
def told() -> Told:
    told = Told(lambda pid: pid == PLUGIN)
    told.became_ready(CHILD)
    return told


def test_what_nobody_told_is_unknown(told: Told) -> None:
    assert told.turns(CHILD, 0.0) is None


def test_a_child_that_nobody_has_spoken_with_runs_no_turn(told: Told) -> None:
    assert told.turns(8, 0.0) == 0


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_fresh_report_counts(told: Told, turns: int) -> None:
    told.take(report(turns=turns), 10.0)
    # Three times as long as it takes the plugin to say it again.
    assert [told.turns(CHILD, now) for now in (11.0, 13.0, 13.25)] == [turns, turns, None]


@pytest.mark.parametrize(
    ("facts", "now", "drain"),
    [
        ({}, 20.0, 0),
        ({"plugin": 71}, 10.0, 0),
        ({"child": 8}, 10.0, 0),
        ({"child": None}, 10.0, 0),
        ({"server": "recovering"}, 10.0, 0),
        ({"server": "away"}, 10.0, 0),
        ({"drain": 1}, 10.0, 2),
        ({"turns": None}, 10.0, 0),
    ],
    ids=[
        "late",
        "dead",
        "of another",
        "of none",
        "recovering",
        "away",
        "of an older order",
        "unasked",
    ],
)
def test_what_says_nothing_of_now_is_unknown(
    told: Told, facts: dict[str, Any], now: float, drain: int
) -> None:
    told.take(report(**facts), 10.0)
    assert told.turns(CHILD, now, drain=drain) is None


def test_what_a_report_does_not_say_is_unknown_and_nothing_was_ordered(told: Told) -> None:
    silent = Report(plugin=PLUGIN, child=CHILD, server="up")
    assert (silent.holds, silent.is_leaving, silent.acknowledged) == (False, False, 0)
    told.take(silent, 10.0)
    assert told.turns(CHILD, 10.0) is None
    told.take(Report(plugin=PLUGIN, child=CHILD, server="up", turns=0), 10.0)
    assert told.turns(CHILD, 10.0, drain=1) is None


def test_a_report_under_the_order_or_a_later_one_counts(told: Told) -> None:
    for drain in (2, 3):
        told.take(report(drain=drain), 10.0)
        assert told.turns(CHILD, 10.0, drain=2) == 0


def test_a_report_alone_shows_that_the_child_was_spoken_with() -> None:
    told = Told(lambda _: True)
    told.take(report(server="away"), 0.0)
    assert told.turns(CHILD, 0.0) == 0
    told.take(report(server="recovering"), 0.0)
    assert told.turns(CHILD, 0.0) is None


def test_an_external_child_is_told_of_without_a_pid() -> None:
    told = Told(lambda _: True)
    assert told.turns(None, 0.0) is None
    told.take(report(child=None, turns=2), 0.0)
    assert told.turns(None, 0.0) == 2


def test_the_last_word_of_a_plugin_that_left_idle_holds_until_there_is_another(told: Told) -> None:
    told.take(report(is_leaving=True), 0.0)
    assert told.turns(CHILD, 1000.0, drain=5, has_plugin=False) == 0
    assert told.turns(CHILD, 1000.0, drain=5, has_plugin=True) is None
    assert told.turns(CHILD, 1000.0, has_plugin=False) == 0


@pytest.mark.parametrize(
    "facts",
    [{}, {"is_leaving": True, "turns": 1}, {"is_leaving": True, "server": "recovering"}],
    ids=["killed", "left a turn running", "left before it knew"],
)
def test_no_other_last_word_does(told: Told, facts: dict[str, Any]) -> None:
    told.take(report(**facts), 0.0)
    assert told.turns(CHILD, 1000.0, has_plugin=False) is None


# -- the watch ---------------------------------------------------------------------------------


def watch() -> PluginWatch:
    return PluginWatch(Patience(silence_s=30, start_s=60), 0.0)


def look_until(watch: PluginWatch, begin: int, end: int, pid: int | None = PLUGIN) -> list[int]:
    """Look every second; the seconds at which the plugin was to be replaced."""
    return [now for now in range(begin, end) if watch.looked(pid, float(now)) is not None]


def test_a_plugin_that_speaks_is_left_alone() -> None:
    guard = watch()
    for now in range(200):
        guard.heard(report(), float(now))
        assert guard.looked(PLUGIN, float(now)) is None


def test_one_that_falls_silent_is_replaced_once_for_each_time_of_silence() -> None:
    guard = watch()
    look_until(guard, 0, 5)
    guard.heard(report(), 5.0)
    assert look_until(guard, 5, 100) == [36, 67, 98]


def test_one_that_starts_gets_its_time() -> None:
    assert look_until(watch(), 0, 70) == [61]


def test_the_next_one_gets_its_time_too() -> None:
    guard = watch()
    guard.heard(report(), 0.0)
    guard.looked(PLUGIN, 0.0)
    assert look_until(guard, 1, 70, PLUGIN + 1) == [62]


def test_what_is_wrong_with_it_is_told_by_what_it_was_at() -> None:
    guard = watch()
    assert [guard.looked(PLUGIN, float(now)) for now in range(62)][-1] == (
        "The plugin did not start within 60 s."
    )
    guard.heard(report(), 62.0)
    assert [guard.looked(PLUGIN, float(now)) for now in range(62, 94)][-1] == (
        "The plugin said nothing for 30 s."
    )


def test_the_next_one_has_not_taken_its_leave() -> None:
    guard = watch()
    guard.looked(PLUGIN, 0.0)
    guard.heard(report(is_leaving=True), 0.0)
    guard.looked(PLUGIN + 1, 1.0)
    guard.heard(report(plugin=PLUGIN + 1), 1.0)
    assert look_until(guard, 1, 40, PLUGIN + 1) == [32]


def test_of_many_plugins_that_are_gone_the_last_ten_are_told() -> None:
    guard = watch()
    for pid in range(100, 120):
        guard.looked(pid, float(pid))
    assert [trouble.pid for trouble in guard.troubles] == list(range(109, 119))
    assert guard.starts == 20


def test_the_last_report_is_kept_however_old(told: Told) -> None:
    assert told.last is None
    said = report()
    told.take(said, 0.0)
    assert told.fresh(1000.0) is None
    assert told.last is said


def test_it_may_speak_before_it_is_looked_at_for_the_first_time() -> None:
    guard = watch()
    guard.heard(report(), 0.5)
    assert look_until(guard, 1, 40) == [32]


def test_a_time_in_which_circusd_itself_stood_still_counts_for_nothing() -> None:
    guard = watch()
    guard.heard(report(), 0.0)
    look_until(guard, 0, 20)
    assert look_until(guard, 1000, 1031) == []
    assert look_until(guard, 1031, 1040) == [1031]


def test_no_plugin_is_not_a_hung_one() -> None:
    assert look_until(watch(), 0, 200, pid=None) == []


def test_where_the_daemon_ends_nobody_waits_long_for_a_hung_one() -> None:
    guard = watch()
    guard.heard(report(), 0.0)
    guard.looked(PLUGIN, 0.0, stage="ending")
    late = [now for now in range(1, 10) if guard.looked(PLUGIN, float(now), stage="ending")]
    assert late == [4, 8]


def test_where_turns_are_waited_for_a_hung_one_is_replaced_before_they_would_be_cut() -> None:
    guard = watch()
    guard.heard(report(), 0.0)
    guard.looked(PLUGIN, 0.0, stage="draining")
    late = [now for now in range(1, 30) if guard.looked(PLUGIN, float(now), stage="draining")]
    assert late == [11, 22]


@pytest.mark.parametrize("stage", ["draining", "ending"])
def test_one_that_was_silent_as_long_as_it_might_be_is_not_hung_by_that(stage: Stage) -> None:
    guard = watch()
    guard.heard(report(), 0.0)
    assert look_until(guard, 0, 12) == []
    assert guard.looked(PLUGIN, 13.0, stage=stage) is None


def test_one_that_takes_its_leave_has_time_to_write() -> None:
    guard = watch()
    guard.looked(PLUGIN, 0.0, stage="ending")
    guard.heard(report(is_leaving=True), 0.0)
    late = [now for now in range(1, 20) if guard.looked(PLUGIN, float(now), stage="ending")]
    assert late == [16]


def test_what_became_of_one_is_told_to_the_next_until_it_is_on_record() -> None:
    guard = watch()
    look_until(guard, 0, 62)
    guard.looked(71, 62.0)
    (trouble,) = guard.troubles
    assert (trouble.pid, trouble.number) == (PLUGIN, 1)
    assert trouble.reason == "The plugin did not start within 60 s."
    guard.heard(report(plugin=71), 62.0)
    assert guard.troubles == [trouble]
    guard.heard(report(plugin=71, acknowledged=1), 63.0)
    assert guard.troubles == []
    guard.looked(None, 64.0)
    guard.looked(72, 65.0)
    assert [(entry.pid, entry.number, entry.reason) for entry in guard.troubles] == [(71, 2, None)]
    assert guard.starts == 3


@pytest.mark.parametrize(
    ("timeout_ms", "misses", "ready_ms", "silence_s", "start_s"),
    [(10_000, 3, 60_000, 30, 60), (100, 2, 400, 5, 40), (60_000, 5, 1000, 300, 300)],
)
def test_the_health_settings_say_how_long(
    timeout_ms: int, misses: int, ready_ms: int, silence_s: float, start_s: float
) -> None:
    patience = Patience.of(timeout_ms=timeout_ms, misses=misses, ready_timeout_ms=ready_ms)
    assert patience == Patience(silence_s, start_s)


def test_a_child_that_is_told_of_again_and_again_drives_out_no_other(told: Told) -> None:
    for _ in range(100):
        told.became_ready(CHILD + 1)
    assert told.was_spoken_with(CHILD)


# -- while nothing goes on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silence_s", "word_s", "look_s"), [(30.0, 10.0, 5.0), (6.0, 2.0, 1.0), (300.0, 10.0, 5.0)]
)
def test_words_are_fewer_and_several_within_the_time_of_silence(
    silence_s: float, word_s: float, look_s: float
) -> None:
    patience = Patience(silence_s=silence_s, start_s=60)
    assert (patience.quiet_period_s, patience.quiet_look_s) == (word_s, look_s)


def test_a_word_counts_until_the_next_is_late(told: Told) -> None:
    said = report(again_s=7.5)
    assert said.is_quiet
    assert not report().is_quiet
    told.take(said, 10.0)
    assert [told.turns(CHILD, now) for now in (17.0, 19.5, 19.75)] == [0, 0, None]
    assert [told.is_quiet(now) for now in (17.5, 18.0, 18.25)] == [True, True, False]
    told.take(report(), 20.0)
    assert not told.is_quiet(20.0)


def test_a_look_is_late_when_it_comes_later_than_it_was_to() -> None:
    guard = watch()
    guard.heard(report(), 0.0)
    assert guard.due(10.0) == 20.0
    guard.looked(PLUGIN, 0.0, again_s=5.0)
    # Somebody looks in between, and that changes nothing.
    guard.looked(PLUGIN, 2.0, again_s=None)
    guard.looked(PLUGIN, 5.0, again_s=5.0)
    guard.looked(PLUGIN, 11.0, again_s=5.0)
    assert guard.due(11.0) == 19.0
    # Had it told in that time, it would not have been read.
    guard.looked(PLUGIN, 17.25, again_s=5.0)
    assert guard.due(17.25) == 30.0
