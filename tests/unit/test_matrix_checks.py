"""The kill matrix finds what is planted: a fault for each check, and more where it has faces."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.matrix_checks import CHECKS, Evidence, Rest, rest_violations, violations
from tests.support.matrix_clients import Book, Turn

PIDS = {"circusd": [10], "plugin": [11], "server": [12]}


def event(seq: int, type_: str, **detail: Any) -> dict[str, Any]:
    return {"seq": seq, "type": type_, "detail": detail or None}


EVENTS = [
    event(1, "daemon.started", pid=9),
    event(2, "child.started", pid=8),
    event(3, "child.exited", pid=8),
    event(4, "daemon.stopped"),
    event(5, "daemon.started", pid=10),
    event(6, "child.started", pid=7),
    event(7, "turn.started", turnId="t1"),
    event(8, "child.exited", pid=7),
    event(9, "child.started", pid=12),
    event(10, "turn.interrupted", turnId="t1"),
    event(11, "turn.started", turnId="t2"),
    event(12, "turn.completed", turnId="t2"),
]


def sound() -> Evidence:
    """A daemon whose second server runs, after one that was killed in a turn."""
    child = {"status": "running", "ready": True, "pid": 12, "restarts": 1}
    child = {**child, "nextRestartAt": None, "lastError": None}
    return Evidence(
        pids=copy.deepcopy(PIDS),
        events=copy.deepcopy(EVENTS),
        recent={"maxEntries": 4, "events": copy.deepcopy(EVENTS[-4:])},
        state={"started": True, "pid": 10, "child": dict(child)},
        status={
            "live": {"daemonPid": 10, "childPid": 12},
            "daemon": {"started": True, "pid": 10, "child": dict(child)},
        },
        check_code=0,
        turns=[
            Turn("worker", "th", "t1", ends=["interrupted"]),
            Turn("worker", "th", "t2", read="completed"),
        ],
        waited_s={"worker": 0.1},
        descriptors={"circusd": 22, "plugin": 41},
        memory={"circusd": 40 << 20, "plugin": 36 << 20},
        files={"state/codexd/daemon-state.json"},
        server_before=[12],
    )


def two_servers(seen: Evidence) -> None:
    seen.pids["server"].append(13)


def no_plugin(seen: Evidence) -> None:
    seen.pids["plugin"] = []


def a_twin_for_a_moment(seen: Evidence) -> None:
    seen.twins.append("two servers at 1.0: [12, 13]")


def an_orphan(seen: Evidence) -> None:
    seen.strangers.append("99 codex app-server")


def descriptors(seen: Evidence) -> None:
    seen.descriptors["plugin"] += 5


def memory(seen: Evidence) -> None:
    seen.memory["circusd"] += 60 << 20


def a_temporary_file(seen: Evidence) -> None:
    seen.files.add("state/codexd/watcher.json.10.tmp")


def a_file_gone(seen: Evidence) -> None:
    seen.files.clear()


def another_server_for_nothing(seen: Evidence) -> None:
    seen.hurt, seen.server_before = frozenset(), [7]


def a_state_that_lies(seen: Evidence) -> None:
    seen.state["child"]["pid"] = 7


def a_state_that_waits(seen: Evidence) -> None:
    seen.state["child"]["nextRestartAt"] = "2026-01-01T00:00:00.000Z"


def an_old_error(seen: Evidence) -> None:
    seen.state["child"]["lastError"] = "The child ended by SIGKILL."


def a_check_that_says_no(seen: Evidence) -> None:
    seen.check_code = 3


def a_status_that_lies(seen: Evidence) -> None:
    seen.status["live"]["childPid"] = 7


def a_gap(seen: Evidence) -> None:
    del seen.events[5]


def a_number_twice(seen: Evidence) -> None:
    seen.events.insert(6, seen.events[5])


def events_rewritten(seen: Evidence) -> None:
    seen.events[0]["type"] = "daemon.stopped"


def an_old_cache(seen: Evidence) -> None:
    seen.recent["events"] = seen.events[-5:-1]


def a_short_cache(seen: Evidence) -> None:
    del seen.recent["events"][0]


def a_child_that_never_ended(seen: Evidence) -> None:
    seen.events[7]["type"] = "child.ready"


def an_end_of_another(seen: Evidence) -> None:
    seen.events[7]["detail"]["pid"] = 8


def a_daemon_that_never_ended(seen: Evidence) -> None:
    seen.events[3]["type"] = "state.repaired"


def a_miscount(seen: Evidence) -> None:
    seen.state["child"]["restarts"] = 2


def a_traceback(seen: Evidence) -> None:
    seen.log = "well\nTraceback (most recent call last):\n  File x\nValueError: no\nwell\n"


def an_endless_turn(seen: Evidence) -> None:
    seen.turns[0].ends.clear()


def a_turn_that_ends_twice(seen: Evidence) -> None:
    seen.turns[0].ends.append("completed")


def a_turn_without_an_end_on_record(seen: Evidence) -> None:
    seen.events[9]["type"] = "child.ready"


def a_turn_that_is_not_on_record(seen: Evidence) -> None:
    seen.turns.append(Turn("worker", "th", "t3", ends=["completed"]))


def a_cut(seen: Evidence) -> None:
    seen.hurt, seen.cut_since = frozenset({"server"}), ["t1"]


def a_client_without_an_answer(seen: Evidence) -> None:
    seen.failures["worker"] = "TimeoutError: thread/loaded/list was not answered"


def a_slow_answer(seen: Evidence) -> None:
    seen.waited_s["worker"] = 20.0


def a_slow_command(seen: Evidence) -> None:
    seen.commands_s["`codexd restart`"] = 25.0


PLANTED: list[tuple[str, Callable[[Evidence], None]]] = [
    ("one server or none", two_servers),
    ("one server or none", no_plugin),
    ("one server or none", a_twin_for_a_moment),
    ("no process too many", an_orphan),
    ("no descriptor too many", descriptors),
    ("memory is flat", memory),
    ("no file too many", a_temporary_file),
    ("no file too many", a_file_gone),
    ("the same server where nobody hurt it", another_server_for_nothing),
    ("the state is true", a_state_that_lies),
    ("the state is true", a_state_that_waits),
    ("the state is true", an_old_error),
    ("the status is true", a_check_that_says_no),
    ("the status is true", a_status_that_lies),
    ("numbers without a gap", a_gap),
    ("numbers without a gap", a_number_twice),
    ("numbers without a gap", events_rewritten),
    ("the cache is the tail", an_old_cache),
    ("the cache is the tail", a_short_cache),
    ("servers follow each other", a_child_that_never_ended),
    ("servers follow each other", an_end_of_another),
    ("daemons follow each other", a_daemon_that_never_ended),
    ("restarts are counted", a_miscount),
    ("no traceback", a_traceback),
    ("every turn ends once", an_endless_turn),
    ("every turn ends once", a_turn_that_ends_twice),
    ("every turn is on record", a_turn_without_an_end_on_record),
    ("every turn is on record", a_turn_that_is_not_on_record),
    ("no turn is cut by what waits", a_cut),
    ("nobody waits", a_client_without_an_answer),
    ("nobody waits", a_slow_answer),
    ("nobody waits", a_slow_command),
]


def test_nothing_is_found_where_all_is_well() -> None:
    assert violations(sound(), sound()) == []


@pytest.mark.parametrize(("check", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_what_is_planted_is_found(check: str, plant: Callable[[Evidence], None]) -> None:
    seen = sound()
    plant(seen)
    found = violations(seen, sound())
    assert any(line.startswith(f"{check}: ") for line in found), found


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {check for check, _ in PLANTED} == set(CHECKS)


def test_a_cache_that_was_read_later_may_have_more() -> None:
    seen = sound()
    seen.recent["events"] = [*seen.events[-3:], event(13, "child.stdout", bytes=1)]
    assert violations(seen, sound()) == []


def test_what_may_be_hurt_is_not_held_against_it() -> None:
    seen = sound()
    seen.server_before, seen.cut_since = [7], ["t1"]
    assert violations(seen, sound()) == []


def at_rest() -> Rest:
    child = {"status": "failed", "ready": False, "pid": None}
    return Rest(False, [], {"daemon": {"started": False, "child": child}}, 3)


def test_a_daemon_that_is_dead_is_called_dead() -> None:
    assert rest_violations(at_rest()) == []
    for change in ({"daemon_runs": True}, {"servers": [5]}, {"check_code": 0}):
        rest = at_rest()
        for name, value in change.items():
            setattr(rest, name, value)
        assert rest_violations(rest), change
    for lie in ({"status": "running"}, {"ready": True}, {"pid": 5}):
        rest = at_rest()
        rest.status["daemon"]["child"].update(lie)
        assert rest_violations(rest), lie


def completed(turn_id: str, status: str = "completed") -> dict[str, Any]:
    turn = {"id": turn_id, "status": status}
    return {"method": "turn/completed", "params": {"threadId": "th", "turn": turn}}


def test_a_book_counts_each_end_of_a_turn() -> None:
    book = Book("worker")
    book.begun("th", "t1")
    assert [turn.turn_id for turn in book.open_turns()] == ["t1"]
    book.heard(completed("t1", "interrupted"))
    assert book.open_turns() == []
    book.heard(completed("t1"))
    assert book.turns["t1"].ends == ["interrupted", "completed"]


def test_a_book_reads_how_turns_stand_whose_end_nobody_heard() -> None:
    book = Book("worker")
    for turn_id in ("t1", "t2", "t3"):
        book.begun("th", turn_id)
    book.begun("other", "t4")
    book.read("th", [{"id": "t1", "status": "completed"}, {"id": "t2", "status": "inProgress"}])
    assert [turn.turn_id for turn in book.open_turns()] == ["t2", "t4"]
    assert book.turns["t3"].read == "unknown"
