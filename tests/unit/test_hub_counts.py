"""What goes through the hub is counted once, under words that are known beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub.counts import CODES, OTHER, HubCounts, code_of
from codexd.hub.hub import HubLimits
from codexd.hub.request_methods import REQUESTS
from tests.support.hub import HubRig

READ = "thread/loaded/list"


def ended(rig: HubRig) -> dict[tuple[str, str], int]:
    """What has ended, but for the clients' own `initialize`."""
    found = dict(rig.hub.counts.requests)
    found.pop(("initialize", "ok"), None)
    return found


def durations(rig: HubRig, method: str) -> tuple[int, float]:
    """How many requests of a method took how long together."""
    spread = rig.hub.counts.durations[method]
    return sum(spread.counts), spread.sum


def test_a_request_is_counted_when_it_is_answered() -> None:
    rig = HubRig()
    rig.connect(1)
    assert rig.hub.counts.requests == {("initialize", "ok"): 1}
    rig.ask(1, READ)
    assert ended(rig) == {}
    rig.tick(2.0)
    rig.answer(READ, {"data": []})
    assert ended(rig) == {(READ, "ok"): 1}
    assert durations(rig, READ) == (1, 2.0)
    rig.ask(1, READ)
    rig.answer(READ, error={"code": -32602, "message": "no"})
    assert ended(rig) == {(READ, "ok"): 1, (READ, "-32602"): 1}


def test_when_the_child_last_answered_a_client_is_known() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    opened_at = rig.hub.answered_at
    assert opened_at is not None
    rig.tick(5.0)
    rig.ask(1, READ)
    # Neither its own word nor an answer to the hub is one to a client.
    rig.child({"method": "configWarning", "params": {}})
    rig.answer("thread/read", {})
    assert rig.hub.answered_at == opened_at
    rig.answer(READ, error={"code": -32602, "message": "no"})
    assert rig.hub.answered_at == opened_at + 5.0
    # What a dead one answered says nothing of the next.
    rig.lose()
    assert rig.hub.answered_at is None


def test_the_hubs_own_requests_and_late_answers_are_none_of_the_clients() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    # The hub asked for the thread's turns itself.
    assert rig.asked("thread/read")
    rig.answer("thread/read", {})
    rig.child({"id": "hub-x-99", "result": {}})
    assert ended(rig) == {("thread/start", "ok"): 1}


@pytest.mark.parametrize("method", ["no/such/method", "", "thread/loaded/list\n", "t" * 5000])
def test_a_method_that_is_not_known_is_other(method: str) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.ask(1, method)
    rig.answer(method, error={"code": -32601, "message": "no"})
    assert ended(rig) == {(OTHER, "-32601"): 1}
    assert set(rig.hub.counts.durations) == {"initialize", OTHER}


@pytest.mark.parametrize("code", [-1, 0, 7, 2**70, "x", None, [1]])
def test_a_code_that_is_not_known_is_other(code: Any) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.ask(1, READ)
    rig.answer(READ, error={"code": code, "message": "no"})
    assert ended(rig) == {(READ, OTHER): 1}


def test_an_answer_that_is_neither_counts_as_well() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.ask(1, READ)
    rig.child({"id": rig.asked(READ)["id"]})
    assert ended(rig) == {(READ, OTHER): 1}


def test_what_the_hub_answers_itself_is_counted() -> None:
    rig = HubRig()
    rig.do(rig.hub.client_opened(1, 0.0))
    rig.ask(1, READ)
    rig.connect(2, experimentalApi=False)
    rig.ask(2, "process/spawn", {})
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    rig.ask(2, READ, deep)
    rig.say(2, {"id": 9, "method": "initialize", "params": {}})
    assert ended(rig) == {
        (READ, "-32600"): 2,
        ("process/spawn", "-32600"): 1,
        ("initialize", "-32600"): 1,
    }


def test_an_unsubscribe_that_the_server_does_not_hear_of_is_counted() -> None:
    rig = HubRig()
    for client in (1, 2):
        rig.connect(client)
    rig.open_thread(1)
    rig.join_thread(2)
    rig.ask(1, "thread/unsubscribe", {"threadId": "t1"})
    assert rig.hub.counts.requests["thread/unsubscribe", "ok"] == 1


def test_one_that_is_sent_again_took_as_long_as_its_client_waited() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.ask(1, READ)
    rig.tick(3.0)
    rig.lose()
    rig.tick(1.0)
    rig.ready()
    rig.answer(READ, {"data": []})
    assert ended(rig) == {(READ, "ok"): 1}
    assert durations(rig, READ) == (1, 4.0)


def test_what_dies_with_the_server_is_an_error() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.ask(1, "config/value/write", {})
    rig.tick(1.5)
    rig.lose()
    assert ended(rig) == {("config/value/write", "-32050"): 1}
    assert durations(rig, "config/value/write") == (1, 1.5)


def test_who_leaves_is_counted_once() -> None:
    rig = HubRig()
    rig.connect(1)
    # Its answer is needed all the same, and the other's is not.
    rig.ask(1, "thread/resume", {"threadId": "t9"})
    rig.ask(1, READ)
    rig.leave(1)
    assert ended(rig) == {(READ, "left"): 1}
    rig.answer("thread/resume", {"thread": {"id": "t9"}})
    assert ended(rig) == {(READ, "left"): 1, ("thread/resume", "ok"): 1}
    rig.connect(2)
    rig.lose()
    rig.ask(2, READ)
    rig.leave(2)
    assert ended(rig)[READ, "left"] == 2


def test_who_leaves_before_there_was_a_server_has_asked_all_the_same() -> None:
    rig = HubRig(ready=False)
    rig.connect(1)
    rig.leave(1)
    assert rig.hub.counts.requests == {("initialize", "left"): 1}


def test_overload_and_impatience_are_errors_on_which_clients_try_again() -> None:
    rig = HubRig(HubLimits(client_requests=1, wait_s=5.0))
    rig.connect(1)
    rig.lose()
    rig.ask(1, READ)
    rig.ask(1, READ)
    assert ended(rig) == {(READ, "-32001"): 1}
    rig.tick(6.0)
    assert ended(rig) == {(READ, "-32001"): 2}
    assert durations(rig, READ) == (2, 6.0)


def turn(status: Any, **more: Any) -> dict[str, Any]:
    return {"id": "u1", "items": [], "status": status, **more}


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_a_turn_is_counted_when_it_ends(status: str) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    assert rig.hub.counts.turns == {}
    rig.tick(20.0)
    for _ in range(2):
        rig.tell("turn/completed", threadId="t1", turn=turn(status))
    assert rig.hub.counts.turns == {status: 1}
    assert rig.hub.counts.turn_durations.sum == 20.0


def test_the_server_knows_best_how_long_a_turn_took() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    rig.tick(20.0)
    rig.tell("turn/completed", threadId="t1", turn=turn("completed", durationMs=18_500))
    assert rig.hub.counts.turn_durations.sum == 18.5


def test_a_duration_of_nothing_is_one() -> None:
    counts = HubCounts()
    counts.turn_ended(turn("completed", durationMs=0), 4.0)
    assert (counts.turn_durations.sum, sum(counts.turn_durations.counts)) == (0.0, 1)


@pytest.mark.parametrize("told", [-1, 2**53, 2**80, "12", None, 1.5, []])
def test_a_duration_that_is_none_is_not_believed(told: Any) -> None:
    counts = HubCounts()
    counts.turn_ended(turn("completed", durationMs=told), 4.0)
    assert counts.turn_durations.sum == 4.0


@pytest.mark.parametrize("status", [None, "inProgress", "x" * 100, 7, ["completed"], {}])
def test_a_status_that_is_not_known_is_other(status: Any) -> None:
    counts = HubCounts()
    counts.turn_ended(turn(status), None)
    assert counts.turns == {OTHER: 1}
    assert sum(counts.turn_durations.counts) == 0


def test_a_turn_that_a_death_cuts_is_interrupted_once() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    rig.tick(7.0)
    rig.lose()
    rig.ready()
    assert rig.hub.counts.turns == {"interrupted": 1}
    assert rig.hub.counts.turn_durations.sum == 7.0


def test_how_long_a_turn_took_that_began_before_this_hub_nobody_knows() -> None:
    rig = HubRig()
    rig.connect(1)
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active"})
    rig.tell("item/agentMessage/delta", threadId="t1", turnId="u1", delta="x")
    rig.tick(5.0)
    rig.tell("turn/completed", threadId="t1", turn=turn("completed"))
    assert rig.hub.counts.turns == {"completed": 1}
    assert sum(rig.hub.counts.turn_durations.counts) == 0


def test_there_are_never_more_numbers_than_words() -> None:
    rig = HubRig()
    rig.connect(1)
    for number in range(300):
        method = f"made/up/{number}"
        rig.ask(1, method)
        rig.answer(method, error={"code": number, "message": json.dumps(number)})
    assert set(rig.hub.counts.requests) == {("initialize", "ok"), (OTHER, OTHER)}
    assert {code_of(code) for code in range(-40_000, 10)} == {*CODES.values(), OTHER}
    assert all(str(code) == word for code, word in CODES.items())
    assert OTHER not in REQUESTS


def test_clients_are_told_by_name_once_they_have_said_it() -> None:
    rig = HubRig()
    for client in (1, 2):
        rig.connect(client)
    for client in (3, 4):
        rig.do(rig.hub.client_opened(client, 0))
    info = {"clientInfo": {"name": "c2", "version": "1"}}
    rig.say(3, {"id": 0, "method": "initialize", "params": info})
    rig.say(3, {"method": "initialized"})
    told = rig.hub.snapshot()
    assert (told["clients"], told["clientNames"]) == (4, {"c2": 2, "c1": 1})
    for client in range(5, 40):
        rig.connect(client)
    # There are no more names than somebody reads.
    assert len(rig.hub.snapshot()["clientNames"]) == 20
