"""Requests of the server that clients answer: who is asked, whose answer counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import AppClient
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.waiting import eventually

APPROVAL = "item/commandExecution/requestApproval"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["stdio", "unix"])
def room(request: pytest.FixtureRequest, make_room: MakeRoom) -> HubRoom:
    return make_room(
        endpoint=request.param, approval_policy='"on-request"', sandbox_mode='"read-only"'
    )


def _ask_for_leave(room: HubRoom, client: AppClient, thread_id: str) -> str:
    # A login shell may take long, depending on whose machine it is.
    call = {
        "cmd": "true",
        "login": False,
        "sandbox_permissions": "require_escalated",
        "justification": "why",
    }
    room.model.queue.append(Reply(call=("exec_command", call)))
    return client.start_turn(thread_id)


def _request(client: AppClient) -> dict[str, Any]:
    return client.wait_for(lambda message: message.get("method") == APPROVAL)


def _waiting(room: HubRoom) -> int:
    return int(room.live()["waitingApprovals"])


def test_the_first_answer_counts_and_everybody_learns_of_it(room: HubRoom) -> None:
    one, two, stranger = room.client("one"), room.client("two"), room.client("stranger")
    # Ids are each client's own: here the second is asked for the second time, the first once.
    mine = two.start_thread()
    _ask_for_leave(room, two, mine)
    two.send({"id": _request(two)["id"], "result": {"decision": "accept"}})
    two.notification("turn/completed")

    thread_id = one.start_thread()
    one.start_turn(thread_id)
    one.notification("turn/completed")
    two.call("thread/resume", {"threadId": thread_id, "excludeTurns": True})
    turn_id = _ask_for_leave(room, one, thread_id)
    asked_one, asked_two = _request(one), _request(two)
    assert asked_one["params"] == asked_two["params"]
    assert (asked_one["id"], asked_two["id"]) == (0, 1)
    assert _waiting(room) == 1
    status = room.box.run("status", "--json")
    assert '"waitingApprovals": 1' in status.stdout

    two.send({"id": asked_two["id"], "result": {"decision": "accept"}})
    one.send({"id": asked_one["id"], "result": {"decision": "cancel"}})
    resolved = one.notification("serverRequest/resolved")
    assert resolved == {"threadId": thread_id, "requestId": asked_one["id"]}
    assert two.notification("serverRequest/resolved")["requestId"] == asked_two["id"]
    for client in (one, two):
        completed = client.notification("turn/completed")
        assert completed["turn"]["id"] == turn_id
        assert completed["turn"]["status"] == "completed"
    assert _waiting(room) == 0
    assert not [message for message in stranger.seen if "id" in message and "method" in message]
    asked = room.event("approval.requested", turnId=turn_id)
    assert set(asked["detail"]) == {"approvalId", "method", "threadId", "turnId", "itemId"}
    room.event("approval.resolved", turnId=turn_id, reason="answered")


def test_with_nobody_there_it_waits_for_whoever_comes_even_past_a_new_plugin(
    room: HubRoom,
) -> None:
    first = room.client("first")
    thread_id = first.start_thread()
    turn_id = _ask_for_leave(room, first, thread_id)
    _request(first)
    first.close()
    eventually(lambda: room.live()["clients"] == len(room.clients) - 1)
    assert _waiting(room) == 1
    child = room.child_pid

    plugin = room.box.plugin()
    plugin.kill()
    plugin.wait(10)
    second = room.client("second")
    eventually(lambda: _waiting(room) == 1, what="the approval in the new plugin")
    second.call("thread/resume", {"threadId": thread_id, "excludeTurns": True})
    second.send({"id": _request(second)["id"], "result": {"decision": "accept"}})
    completed = second.notification("turn/completed")
    assert (completed["turn"]["id"], completed["turn"]["status"]) == (turn_id, "completed")
    assert room.child_pid == child
    # Asked once of each who was there, and never again of the one who answered.
    assert len([message for message in second.seen if message.get("method") == APPROVAL]) == 1


def test_when_the_server_dies_nobody_is_to_answer_any_more(room: HubRoom) -> None:
    client = room.client()
    thread_id = client.start_thread()
    client.start_turn(thread_id)
    client.notification("turn/completed")
    turn_id = _ask_for_leave(room, client, thread_id)
    asked = _request(client)
    room.kill_child()
    assert client.notification("serverRequest/resolved")["requestId"] == asked["id"]
    completed = client.notification("turn/completed")
    assert (completed["turn"]["id"], completed["turn"]["status"]) == (turn_id, "interrupted")
    # A late answer is nobody's.
    client.send({"id": asked["id"], "result": {"decision": "accept"}})
    client.start_turn(thread_id)
    assert client.notification("turn/completed")["turn"]["status"] == "completed"
    assert _waiting(room) == 0
