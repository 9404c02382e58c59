"""What clients see of a server, or of a plugin, that dies under them."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

from tests.support.client import AppClient
from tests.support.faults import freeze
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import ENDPOINTS, HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=ENDPOINTS)
def room(request: pytest.FixtureRequest, make_room: MakeRoom) -> HubRoom:
    return make_room(endpoint=request.param)


def _used_thread(client: AppClient) -> str:
    thread_id = client.start_thread()
    client.start_turn(thread_id)
    client.notification("turn/completed", threadId=thread_id)
    return thread_id


def _ends(client: AppClient, turn_id: str) -> list[str]:
    """How a turn has ended, as often as it did, once everything on the way is there."""
    client.call("thread/loaded/list")
    ended = [
        message["params"]["turn"]
        for message in client.seen
        if message.get("method") == "turn/completed"
    ]
    return [turn["status"] for turn in ended if turn["id"] == turn_id]


def test_clients_threads_and_turns_outlive_the_server(room: HubRoom) -> None:
    one, two = room.client("one"), room.client("two")
    used, unused = _used_thread(one), one.start_thread()
    room.event("session.registered", threadId=unused)
    ephemeral = one.call("thread/start", {"cwd": str(room.root), "ephemeral": True})["thread"]["id"]
    two.call("thread/resume", {"threadId": used, "excludeTurns": True})
    held = room.hold_turn("half a ")
    turn_id = one.start_turn(used)
    for client in (one, two):
        client.notification("item/agentMessage/delta", turnId=turn_id)

    # In flight at a server that cannot answer any more: one reads, the other changes.
    pid = room.child_pid
    freeze(psutil.Process(pid))
    reads = two.ask("thread/loaded/list")
    changes = two.ask("thread/name/set", {"threadId": used, "name": "x"})
    eventually(lambda: room.live()["waitingRequests"] >= 2)
    os.kill(pid, signal.SIGKILL)

    changed = two.answer_to(changes)
    if room.endpoint == "stdio":
        # It is still in the pipe, so the dead server has not read it: the next one got it.
        assert changed["result"] == {}
    else:
        error = changed["error"]
        assert error["code"] == -32050
        reason = {"reason": "server_restarted", "method": "thread/name/set"}
        assert error["data"]["codexd"] == reason
        assert "It may have been done" in error["message"]
    assert "result" in two.answer_to(reads)
    for client in (one, two):
        error = client.notification("error", threadId=used)
        assert (error["turnId"], error["willRetry"]) == (turn_id, False)
        completed = client.notification("turn/completed", threadId=used)
        assert (completed["turn"]["id"], completed["turn"]["status"]) == (turn_id, "interrupted")
        assert completed["turn"]["error"] == error["error"]
        assert client.notification("thread/closed")["threadId"] == ephemeral
    assert held.hold is not None
    held.hold.set()
    assert room.child_pid != pid

    assert room.event("session.closed", threadId=ephemeral)["level"] == "info"
    recovered = room.event("session.recovered", threadId=used)["detail"]["sessionId"]
    room.event("turn.interrupted", turnId=turn_id, sessionId=recovered)
    eventually(lambda: (room.session(used) or {}).get("childPid") == room.live()["childPid"])

    # Both are still subscribed, and both of one thread's clients go on.
    next_turn = two.start_turn(used)
    for client in (one, two):
        completed = client.notification("turn/completed", threadId=used)
        assert (completed["turn"]["id"], completed["turn"]["status"]) == (next_turn, "completed")
        assert _ends(client, turn_id) == ["interrupted"]
    # Nobody can tell that the one without a turn was in a server that is dead.
    first_turn = one.start_turn(unused)
    completed = one.notification("turn/completed", threadId=unused)
    assert (completed["turn"]["id"], completed["turn"]["status"]) == (first_turn, "completed")
    assert room.box.events("session.lost") == []


def test_requests_wait_for_a_server_that_is_away(room: HubRoom) -> None:
    client = room.client()
    thread_id = _used_thread(client)
    room.control("stop")
    eventually(lambda: room.live()["server"] == "away")
    turn: dict[str, Any] = {"threadId": thread_id, "input": [{"type": "text", "text": "hi"}]}
    request = client.ask("turn/start", turn)
    # One that comes now waits for the server's answer to `initialize`.
    late = room.client("late", initialize=False)
    greeting = late.ask("initialize", {"clientInfo": {"name": "late", "version": "1"}})
    eventually(lambda: room.live()["clients"] > room.live()["initializedClients"])
    assert not room.live()["ready"]
    room.control("start")
    told = late.answer_to(greeting)["result"]["userAgent"]
    assert told == client.initialized["userAgent"]
    turn_id = client.answer_to(request)["result"]["turn"]["id"]
    completed = client.notification("turn/completed", threadId=thread_id)
    assert (completed["turn"]["id"], completed["turn"]["status"]) == (turn_id, "completed")
    assert _ends(client, turn_id) == ["completed"]


def test_a_new_plugin_finds_sessions_child_and_running_turn(room: HubRoom) -> None:
    before = room.client("before")
    thread_id = _used_thread(before)
    session = room.event("session.registered", threadId=thread_id)["detail"]["sessionId"]
    unused = before.start_thread()
    held = room.hold_turn("first ", "second ")
    turn_id = before.start_turn(thread_id)
    before.notification("item/agentMessage/delta", turnId=turn_id)
    child = room.child_pid

    plugin = room.box.plugin()
    plugin.kill()
    plugin.wait(10)
    after = room.client("after")
    resumed = after.call("thread/resume", {"threadId": thread_id})
    assert resumed["thread"]["status"]["type"] == "active"
    assert resumed["thread"]["turns"][-1]["id"] == turn_id
    assert held.hold is not None
    held.hold.set()
    completed = after.notification("turn/completed", threadId=thread_id)
    assert (completed["turn"]["id"], completed["turn"]["status"]) == (turn_id, "completed")
    assert after.start_turn(thread_id)
    after.notification("turn/completed", threadId=thread_id)
    # One that has not had a turn yet is joined like any other, also by somebody else.
    assert (room.session(unused) or {}).get("status") == "active"
    for client, young in ((after, unused), (room.client("another"), after.start_thread())):
        assert client.call("thread/resume", {"threadId": young})["thread"]["turns"] == []
        client.start_turn(young)
        client.notification("turn/completed", threadId=young)
    lost = [event["detail"]["threadId"] for event in room.box.events("session.lost")]
    assert unused not in lost
    assert room.live()["childPid"] == child
    found = room.session(thread_id)
    assert found is not None
    assert (found["sessionId"], found["status"]) == (session, "active")
    assert len(room.box.events("child.started")) == len(room.box.events("child.exited")) + 1
