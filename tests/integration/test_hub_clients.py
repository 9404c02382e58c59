"""Several clients on one real server, on every kind of endpoint."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest

from tests.support.client import AppClient
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import ENDPOINTS, HubRoom

MEGABYTE = 1 << 20

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=ENDPOINTS)
def room(request: pytest.FixtureRequest, make_room: MakeRoom) -> HubRoom:
    return make_room(endpoint=request.param)


def _all_there_is(client: AppClient) -> list[dict[str, Any]]:
    """Everything that was on its way: what the server sends later is behind an answer."""
    client.call("thread/loaded/list")
    return client.seen


def _methods_of(client: AppClient, thread_id: str) -> set[str]:
    found = set()
    for message in _all_there_is(client):
        params = message.get("params", {})
        if params.get("threadId", params.get("thread", {}).get("id")) == thread_id:
            found.add(message["method"])
    return found


def test_each_client_has_its_own_ids_and_hears_its_own_threads(room: HubRoom) -> None:
    one, two, quiet = room.client("one"), room.client("two"), room.client(initialize=False)
    quiet.initialize("quiet", optOutNotificationMethods=["thread/started", "item/started"])
    # What goes to the model's API is the same for both, and both are told so.
    assert one.initialized["userAgent"] == two.initialized["userAgent"]
    threads = {client: client.start_thread() for client in (one, two)}
    for client, thread_id in threads.items():
        client.start_turn(thread_id)
        client.notification("turn/completed", threadId=thread_id)
    others = {"thread/started", "thread/status/changed"}
    assert _methods_of(one, threads[two]) == others
    assert _methods_of(two, threads[one]) == others
    assert {"turn/started", "item/agentMessage/delta"} < _methods_of(one, threads[one])
    assert _methods_of(quiet, threads[one]) == {"thread/status/changed"}

    quiet.call("thread/resume", {"threadId": threads[one]})
    one.start_turn(threads[one])
    quiet.notification("turn/completed", threadId=threads[one])
    heard = _methods_of(quiet, threads[one])
    assert "item/completed" in heard
    assert "item/started" not in heard

    request_ids: list[int | str] = ["a string", 2**53, -1, "hub-1"]
    for request_id in request_ids:
        one.send({"id": request_id, "method": "thread/loaded/list", "params": {}})
        answer = one.answer_to(request_id)
        assert set(threads.values()) <= set(answer["result"]["data"])


def test_only_the_last_to_leave_a_thread_unsubscribes(room: HubRoom) -> None:
    one, two = room.client("one"), room.client("two")
    thread_id = one.start_thread()
    one.start_turn(thread_id)
    one.notification("turn/completed")
    two.call("thread/resume", {"threadId": thread_id})
    leave = {"threadId": thread_id}
    assert one.call("thread/unsubscribe", leave) == {"status": "unsubscribed"}
    assert one.call("thread/unsubscribe", leave) == {"status": "notSubscribed"}
    mark = len(one.seen)
    two.start_turn(thread_id)
    two.notification("turn/completed")
    heard = {message.get("method") for message in _all_there_is(one)[mark:]}
    assert not heard & {"turn/started", "turn/completed", "item/agentMessage/delta"}

    # In the middle of a turn the last one may go too: how it ends is learnt all the same.
    held = room.hold_turn("one")
    turn_id = two.start_turn(thread_id)
    two.notification("item/agentMessage/delta")
    assert two.call("thread/unsubscribe", leave) == {"status": "unsubscribed"}
    assert held.hold is not None
    held.hold.set()
    room.event("turn.completed", turnId=turn_id)
    assert two.call("thread/unsubscribe", leave) == {"status": "notSubscribed"}
    assert room.live()["runningTurns"] == 0


def test_what_is_malformed_or_unknown_gets_the_servers_own_answers(room: HubRoom) -> None:
    client, other = room.client(), room.client("other")
    for text in ("nonsense", "[1]", "{}", '{"id":1}', '{"id":null,"method":"x"}', "\u00e9", ""):
        client.socket.send(text)
    client.socket.send(b"binary")
    unknown = client.answer_to(client.ask("no/such/method"))
    assert unknown["error"]["code"] == -32600
    assert "unknown variant `no/such/method`" in unknown["error"]["message"]
    bad = client.answer_to(client.ask("turn/start", {"threadId": 5}))
    assert bad["error"]["message"].startswith("Invalid request: ")
    client.send({"id": "x", "method": "thread/loaded/list", "params": {"new": [1]}, "new": {}})
    assert "result" in client.wait_for(lambda message: message.get("id") == "x")
    # Nobody else has noticed, and nothing came that was not asked for.
    assert other.call("thread/loaded/list")["data"] is not None
    assert not [message for message in client.seen if message.get("id") == 1 and "error" in message]


def test_messages_of_tens_of_megabytes_pass_both_ways(room: HubRoom) -> None:
    client, other = room.client(), room.client("other")
    path = str(room.root / "big")
    data = base64.b64encode(os.urandom(MEGABYTE) * 30).decode()
    client.call("fs/writeFile", {"path": path, "dataBase64": data})
    assert os.path.getsize(path) == 30 * MEGABYTE
    reading = client.ask("fs/readFile", {"path": path})
    assert other.call("thread/loaded/list") is not None
    assert client.answer_to(reading)["result"]["dataBase64"] == data


def test_what_is_too_long_for_the_server_is_refused_and_harms_nobody(room: HubRoom) -> None:
    client, other = room.client(), room.client("other")
    pid = room.child_pid
    answer = client.answer_to(client.ask("thread/loaded/list", {"x": "x" * (70 * MEGABYTE)}))
    if "--server-endpoint" in room.box.flags:
        # Codex itself breaks off a WebSocket that brings it more than 64 MiB.
        assert "more than the 67108864" in answer["error"]["message"]
    else:
        assert "result" in answer
    assert "data" in other.call("thread/loaded/list")
    assert room.child_pid == pid
