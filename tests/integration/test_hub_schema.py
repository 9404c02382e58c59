"""Beside the server's own socket: the hub says what the server says, in the same order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.client import AppClient
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.waiting import eventually

# What is sent, and the codes of what is answered to it, by id; None for a result.
STRANGE = [
    "nonsense",
    "[1,2]",
    "{}",
    '{"id":1}',
    '{"method":5}',
    '{"method":"no/such"}',
    '{"id":null,"method":"thread/loaded/list"}',
    '{"id":1.5,"method":"thread/loaded/list","params":{}}',
    '{"id":7,"method":"thread/loaded/list"}',
    '{"id":8,"method":"no/such"}',
    '{"id":9,"method":"turn/start","params":[]}',
    '{"id":10,"method":"thread/loaded/list","params":null}',
    '{"id":"x","method":"thread/read","params":{"threadId":"bad"}}',
    '{"id":11,"result":{}}',
    '{"jsonrpc":"2.0","id":12,"method":"thread/loaded/list","params":{"new":1},"new":1}',
    '{"id":13,"method":"thread/loaded/list","params":{"x":"\\ud800"}}',
    '{"id":14,"method":"thread/loaded/list","params":{"cursor":1}}',
    '{"id":15,"method":"initialize","params":{"clientInfo":{"name":"a","version":"1"}}}',
    '{"id":16,"method":"thread/loaded/list","params":{},"result":{}}',
]
TO_STRANGE: dict[int | str, int | None] = {
    **{id_: -32600 for id_ in (7, 8, 9, 10, "x", 14, 15)},
    **{id_: None for id_ in (12, 16)},
}
# The same from who has not initialized.
STRANGERS = [
    '{"id":1,"method":"thread/loaded/list","params":{}}',
    '{"method":"initialized"}',
    '{"id":2,"method":"initialize"}',
    '{"id":3,"method":"initialize","params":{"clientInfo":{"name":"a"}}}',
    '{"id":4,"method":"initialize","params":{"clientInfo":{"name":"a\\n","version":"1"}}}',
    '{"id":6,"method":"initialize","params":{"clientInfo":{"name":"z","version":"1"}}}',
]
TO_STRANGERS: dict[int | str, int | None] = {1: -32600, 2: -32600, 3: -32600, 4: -32600, 6: None}

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room(endpoint="unix")


@pytest.fixture
def pair(room: HubRoom) -> tuple[AppClient, AppClient]:
    """A client of the server itself, and one of the hub."""
    return room.client("x", path=room.child_socket), room.client("x")


def _codes(client: AppClient, texts: list[str], count: int) -> dict[int | str, int | None]:
    """The codes of the first ``count`` answers, and of what comes before a later one."""
    for text in texts:
        client.socket.send(text)
    codes: dict[int | str, int | None] = {}
    while "last" not in codes:
        message = json.loads(client.socket.recv(20))
        if "id" in message:
            assert message["id"] not in codes
            codes[message["id"]] = message.get("error", {}).get("code")
        if len(codes) == count:
            client.send({"id": "last", "method": "thread/loaded/list", "params": {}})
    del codes["last"]
    return codes


@pytest.mark.parametrize("which", [0, 1], ids=["codex", "hub"])
def test_strange_messages_get_these_answers(pair: tuple[AppClient, AppClient], which: int) -> None:
    assert _codes(pair[which], STRANGE, len(TO_STRANGE)) == TO_STRANGE


@pytest.mark.parametrize("which", ["codex", "hub"])
def test_strangers_get_these_answers(room: HubRoom, which: str) -> None:
    path = room.child_socket if which == "codex" else room.hub_socket
    client = room.client(path=path, initialize=False)
    assert _codes(client, STRANGERS, len(TO_STRANGERS)) == TO_STRANGERS


def _shape(message: dict[str, Any]) -> str:
    """What a message is, without what differs from run to run."""
    if "method" in message:
        turn = message["params"].get("turn")
        return f"{message['method']} {turn['status']}" if turn else str(message["method"])
    return f"answer {message['id']} {'error' if 'error' in message else 'result'}"


def _a_day(room: HubRoom, client: AppClient) -> list[str]:
    room.model.queue.append(Reply(deltas=["a", "b", "c"]))
    thread_id = client.start_thread()
    client.start_turn(thread_id)
    client.notification("turn/completed", threadId=thread_id)
    client.call("thread/name/set", {"threadId": thread_id, "name": "n"})
    client.notification("thread/name/updated", threadId=thread_id)
    client.call("thread/archive", {"threadId": thread_id})
    client.notification("thread/archived", threadId=thread_id)
    return [_shape(message) for message in client.seen if _is_about(message, thread_id)]


def _is_about(message: dict[str, Any], thread_id: str) -> bool:
    params = message.get("params", {})
    return "id" in message or thread_id in (
        params.get("threadId"),
        params.get("thread", {}).get("id"),
    )


def test_a_day_in_the_life_of_a_thread_looks_the_same(
    room: HubRoom, pair: tuple[AppClient, AppClient]
) -> None:
    direct, through = (_a_day(room, client) for client in pair)
    assert len(direct) > 15
    # The server says these beside the rest: before its answer or after it.
    assert direct.count("warning") == through.count("warning")
    assert _without(direct, "warning") == _without(through, "warning")


def _without(told: list[str], word: str) -> list[str]:
    return [one for one in told if one != word]


def test_threads_opened_past_the_hub_are_sessions_and_come_back(
    room: HubRoom, pair: tuple[AppClient, AppClient]
) -> None:
    direct, through = pair
    thread_id = direct.start_thread()
    assert through.notification("thread/started")["thread"]["id"] == thread_id
    session = room.event("session.registered", threadId=thread_id)["detail"]["sessionId"]
    direct.start_turn(thread_id)
    direct.notification("turn/completed")
    room.box.wait_ready(other_than=room.kill_child())
    # Nobody here listens to it, so it comes back once somebody asks.
    through.call("thread/resume", {"threadId": thread_id, "excludeTurns": True})
    room.event("session.recovered", sessionId=session)
    pid = room.live()["childPid"]
    eventually(lambda: (room.session(thread_id) or {}).get("childPid") == pid)
    through.start_turn(thread_id)
    assert through.notification("turn/completed")["turn"]["status"] == "completed"
    through.call("thread/archive", {"threadId": thread_id})
    room.event("session.closed", sessionId=session)
    eventually(lambda: (room.session(thread_id) or {}).get("status") == "closed")
