"""How much goes to the child at once, how much may wait, and whose turn it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub import notifications, window
from codexd.hub.hub import HubLimits
from codexd.hub.queues import Load, Room
from tests.support.hub import HubRig


def _flood(rig: HubRig, client: int, count: int, method: str = "thread/list") -> list[Any]:
    return [rig.ask(client, method) for _ in range(count)]


def _rig(limits: HubLimits | None = None, clients: int = 3) -> HubRig:
    rig = HubRig(limits)
    for client in range(1, clients + 1):
        rig.connect(client)
    return rig


def _open(rig: HubRig, answered: set[str]) -> list[dict[str, Any]]:
    return [entry for entry in rig.to_child if entry["id"] not in answered]


def test_what_the_hub_itself_asks_waits_for_room_and_then_goes() -> None:
    rig = HubRig()
    rig.connect(1)
    watches = window.ONE_CLIENT + 8
    for number in range(watches):
        rig.ask(1, "fs/watch", {"watchId": str(number), "path": "/a"})
        rig.answer("fs/watch")
    rig.to_child.clear()
    rig.leave(1)
    assert len(rig.to_child) == window.ONE_CLIENT
    # None of them is answered: as time passes they are not in its queue any more.
    for _ in range(8):
        if rig.hub.next_tick(rig.now) is not None:
            rig.tick(0.25)
    assert len(rig.to_child) == watches


@pytest.mark.parametrize(
    ("clients", "at_once"), [((1,), window.ONE_CLIENT), ((1, 2, 3), window.ALL)]
)
def test_a_flood_is_answered_whole_and_never_too_much_of_it_is_on_its_way(
    clients: tuple[int, ...], at_once: int
) -> None:
    rig = _rig()
    asked = {client: _flood(rig, client, 1000) for client in clients}
    answered: set[str] = set()
    while under_way := _open(rig, answered):
        assert len(under_way) <= at_once
        for entry in under_way[::-1]:
            answered.add(entry["id"])
            rig.child({"id": entry["id"], "result": {}})
    for client, requests in asked.items():
        assert all(len(rig.answers(client, request)) == 1 for request in requests)
    assert rig.hub.snapshot()["waitingRequests"] == 0


def test_who_asks_little_does_not_wait_behind_who_asks_much() -> None:
    rig = _rig()
    _flood(rig, 1, 10_000)
    assert len(rig.to_child) == window.ONE_CLIENT
    rig.ask(2, "model/list")
    assert rig.to_child[-1]["method"] == "model/list"
    # Also where two have taken all the room: the third is next but two.
    _flood(rig, 3, 10_000)
    late = rig.ask(2, "account/read")
    for number in range(3):
        rig.child({"id": rig.to_child[number]["id"], "result": {}})
    rig.answer("account/read")
    assert rig.answers(2, late)


def test_the_requests_of_one_client_keep_their_order() -> None:
    rig = _rig()
    asked = _flood(rig, 1, 200)
    done = 0
    while done < len(rig.to_child):
        rig.child({"id": rig.to_child[done]["id"], "result": {}})
        done += 1
    answers = [entry["id"] for entry in rig.to_client[1] if "result" in entry][1:]
    assert answers == asked


def test_requests_that_run_for_long_take_nobodys_place() -> None:
    rig = _rig()
    _flood(rig, 1, 100, "command/exec")
    rig.tick(1)
    assert len(rig.to_child) == window.ONE_CLIENT
    for _ in range(4):
        rig.tick(1.25)
    assert len(rig.to_child) == 100
    rig.ask(1, "model/list")
    assert rig.to_child[-1]["method"] == "model/list"
    # Answered in the end, it is answered as ever.
    rig.child({"id": rig.to_child[0]["id"], "result": {"exitCode": 0}})
    assert rig.to_client[1][-1]["result"] == {"exitCode": 0}


def test_the_server_may_die_in_the_middle_of_a_flood() -> None:
    rig = _rig()
    reads = _flood(rig, 1, 100)
    writes = _flood(rig, 2, 100, "config/value/write")
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    done = 0
    while done < len(rig.to_child):
        rig.child({"id": rig.to_child[done]["id"], "result": {}})
        done += 1
    assert all("result" in rig.answers(1, request)[0] for request in reads)
    codes = [rig.answers(2, request)[0].get("error", {}).get("code") for request in writes]
    assert codes == [-32050] * window.ONE_CLIENT + [None] * (100 - window.ONE_CLIENT)


def test_who_fills_the_room_is_refused_and_who_has_little_is_not() -> None:
    limits = HubLimits(client_requests=80, waiting_requests=100)
    rig = _rig(limits)
    rig.lose()
    first = _flood(rig, 1, 90)
    refused = [request for request in first if rig.answers(1, request)]
    assert refused == first[80:]
    assert {rig.answers(1, request)[0]["error"]["code"] for request in refused} == {-32001}
    second = _flood(rig, 2, 60)
    # Together they may have a hundred; the second its half of it, whatever the first has.
    assert [bool(rig.answers(2, request)) for request in second] == [False] * 50 + [True] * 10
    third = _flood(rig, 3, 10)
    assert not any(rig.answers(3, request) for request in third)


def test_the_bytes_that_wait_are_bounded_too() -> None:
    rig = _rig(HubLimits(client_bytes=10_000, waiting_bytes=15_000))
    rig.lose()
    big = "x" * 4000
    for client, fit in ((1, 2), (2, 1), (3, 1)):
        requests = [rig.ask(client, "thread/read", {"x": big}) for _ in range(4)]
        assert [bool(rig.answers(client, request)) for request in requests].count(False) == fit


def test_room_is_used_to_the_last_byte_and_the_last_request() -> None:
    load = Load(Room(client_requests=3, client_bytes=10, requests=4, bytes=16))
    assert [load.has_room(1, size) for size in (10, 11)] == [True, False]
    load.add(1, 6)
    assert [load.has_room(1, size) for size in (4, 5)] == [True, False]
    load.add(2, 6)
    # Together they may have four more; beyond that, each its half of all.
    assert [load.has_room(2, size) for size in (4, 5)] == [True, False]
    load.add(2, 4)
    assert [load.has_room(1, size) for size in (2, 3)] == [True, False]
    assert [load.has_room(3, size) for size in (5, 8, 9)] == [True, True, False]
    load.add(1, 0)
    assert [load.has_room(client, 0) for client in (1, 2, 3)] == [False, False, True]
    load.remove(1, 6)
    assert [load.has_room(1, 8), load.has_room(1, 9), load.has_room(2, 0)] == [True, False, True]
    load.remove(1, 0)
    assert (load.total, load.of(1), load.of(2)) == (2, 0, 2)
    # Whoever has nothing there any more does not share the room.
    assert [load.has_room(1, size) for size in (10, 11)] == [True, False]


def test_a_client_that_leaves_takes_what_waits_with_it_and_gives_back_its_room() -> None:
    rig = _rig(HubLimits(client_requests=100, waiting_requests=100))
    _flood(rig, 1, 100)
    rig.leave(1)
    assert rig.hub.snapshot()["waitingRequests"] == 0
    answers = {entry["id"] for entry in rig.to_child}
    _flood(rig, 2, 100)
    assert len([entry for entry in rig.to_child if entry["id"] not in answers]) == 32
    for request in answers:
        rig.child({"id": request, "result": {}})
    assert rig.hub.snapshot()["waitingRequests"] == 100


def test_a_turn_whose_client_has_left_is_followed_without_its_text() -> None:
    rig = _rig()
    rig.open_thread(1)
    rig.join_thread(2)
    rig.ask(1, "turn/start", {"threadId": "t1", "input": [{"type": "text", "text": "x"}]})
    rig.leave(1)
    rig.answer("turn/start", {"turn": {"id": "u1", "items": [], "status": "inProgress"}})
    assert rig.hub.snapshot()["runningTurns"] == 1


@pytest.mark.parametrize(("depth", "passes"), [(126, True), (127, False)])
def test_what_the_server_would_never_answer_is_refused(depth: int, passes: bool) -> None:
    rig = _rig()
    nested = b'{"a":' * depth + b'"{[{["' + b"}" * depth
    rig.say(1, b'{"id":9,"method":"thread/list","params":' + nested + b"}")
    assert bool(rig.to_child) is passes
    assert [answer["error"]["code"] for answer in rig.answers(1, 9)] == ([] if passes else [-32600])
    # Brackets in texts are none.
    rig.ask(1, "model/list", {"text": "{" * 500 + '\\"['})
    assert rig.to_child[-1]["method"] == "model/list"


def test_a_repeated_request_has_its_whole_patience_again() -> None:
    rig = _rig(HubLimits(wait_s=60))
    request = rig.ask(1, "thread/list")
    rig.tick(100)
    rig.lose()
    rig.tick(30)
    assert not rig.answers(1, request)
    rig.ready()
    rig.answer("thread/list")
    assert "result" in rig.answers(1, request)[0]


def test_what_the_dead_server_has_not_read_has_its_whole_patience_again_once() -> None:
    rig = _rig(HubLimits(wait_s=60))
    request = rig.ask(1, "thread/start")
    rig.tick(100)
    rig.lose(rig.asked("thread/start"))
    rig.tick(50)
    assert not rig.answers(1, request)
    rig.ready()
    rig.lose(rig.asked("thread/start"))
    rig.tick(11)
    assert rig.answers(1, request)[0]["error"]["data"]["codexd"]["reason"] == "away"


def test_those_who_wait_are_looked_through_once_a_second() -> None:
    rig = _rig(HubLimits(wait_s=10))
    rig.lose()
    first = rig.ask(1, "thread/list")
    rig.tick(0.5)
    second = rig.ask(1, "thread/list")
    refused = []
    for seconds in (9.6, 0.5, 0.5):
        rig.tick(seconds)
        refused.append([bool(rig.answers(1, request)) for request in (first, second)])
    assert refused == [[True, False], [True, False], [True, True]]


def test_what_the_dead_server_has_not_read_goes_to_the_next_one() -> None:
    rig = _rig()
    rig.open_thread(1)
    read, unread = (rig.ask(1, "turn/start", {"threadId": "t1", "n": n}) for n in range(2))
    name = rig.ask(2, "thread/name/set", {"threadId": "t1", "name": "x"})
    rig.lose(*rig.to_child[-2:])
    assert rig.answers(1, read)[0]["error"]["data"]["codexd"]["reason"] == "server_restarted"
    assert not rig.answers(1, unread)
    rig.to_child.clear()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1"}})
    assert [entry["method"] for entry in rig.to_child][-2:] == ["turn/start", "thread/name/set"]
    assert rig.asked("turn/start")["params"]["n"] == 1
    rig.answer("thread/name/set")
    rig.answer("turn/start", {"turn": {"id": "u1"}})
    assert "result" in rig.answers(1, unread)[0]
    assert "result" in rig.answers(2, name)[0]


DELTA = {
    "method": "item/agentMessage/delta",
    "params": {"threadId": "t9", "delta": "0"},
    "emittedAtMs": 5,
}


@pytest.mark.parametrize(
    ("limit", "value"), [("_EARLY_MESSAGES", 5), ("_EARLY_BYTES", 5 * len(json.dumps(DELTA)))]
)
def test_what_comes_early_is_bounded(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(notifications, limit, value)
    rig = _rig()
    rig.ask(1, "thread/start")
    for _ in range(6):
        assert not rig.got(2, "item/agentMessage/delta")
        rig.child(DELTA)
    # It is no beginning of a thread any more, so it is told as of one that nobody opened.
    assert len(rig.got(2, "item/agentMessage/delta")) == 6


def test_many_requests_of_the_server_cost_the_same_each() -> None:
    """Ten times as many take about ten times as long, not a hundred times."""
    import time

    def cost(count: int) -> float:
        rig = _rig()
        rig.open_thread(1)
        begun = time.process_time()
        for number in range(count):
            rig.child(
                {
                    "id": number,
                    "method": "item/fileChange/requestApproval",
                    "params": {"threadId": "t1"},
                }
            )
        assert rig.hub.snapshot()["waitingApprovals"] == count
        rig.tell("turn/completed", threadId="t1", turn={"id": "u", "status": "completed"})
        assert rig.hub.snapshot()["waitingApprovals"] == 0
        return time.process_time() - begun

    cost(100)
    assert cost(5000) < 40 * cost(500) + 0.1


@pytest.mark.parametrize("queue", ["server", "thread", "drain", "settings"])
def test_whatever_is_waited_for_who_asks_little_is_among_the_first(queue: str) -> None:
    rig = _rig()
    rig.open_thread(1, "t1")
    rig.join_thread(2, "t1")
    rig.ask(1, "skills/extraRoots/set", {"extraRoots": ["/x"]})
    rig.answer("skills/extraRoots/set")
    method, params = "turn/start", {"threadId": "t1", "input": []}
    if queue == "drain":
        rig.hub.drain()
    else:
        rig.lose()
    rig.to_child.clear()
    if queue == "thread":
        rig.ready()
        rig.answer("skills/extraRoots/set")
    elif queue == "settings":
        rig.ready()
        method, params = "model/list", {}
    for _ in range(1000):
        rig.ask(1, method, params)
    late = rig.ask(2, method, {**params, "late": True})
    if queue == "drain":
        rig.do(rig.hub.undrain(rig.now))
    elif queue == "server":
        rig.ready()
    if queue in ("server", "settings"):
        rig.answer("skills/extraRoots/set")
    if queue in ("server", "thread"):
        rig.answer("thread/resume", {"thread": {"id": "t1"}})
    sent = [entry for entry in rig.to_child if entry["method"] == method]
    assert any(entry["params"].get("late") for entry in sent[:2]), sent[:3]
    rig.child({"id": sent[1]["id"], "result": {}})
    assert len(rig.answers(2, late)) == 1
