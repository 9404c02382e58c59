"""Sessions, threads and turns over HTTP, on the real codex: also while the server dies."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from tests.support.http import Reply, ask, stream
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


class Api:
    def __init__(self, room: HubRoom) -> None:
        self.path = room.box.config.runtime.hub_socket_path

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        return ask(self.path, method, target, body, headers)

    def thread(self, **given: Any) -> str:
        reply = self.ask("POST", "/v1/threads", given)
        assert reply.status == 201, reply.body
        return str(reply.document["threadId"])


@pytest.fixture(scope="module")
def api(room: HubRoom) -> Api:
    return Api(room)


def test_a_turn_that_is_waited_for(room: HubRoom, api: Api) -> None:
    made = api.ask(
        "POST",
        "/v1/threads",
        {"cwd": str(room.root), "purpose": "worker", "metadata": {"job": "7"}},
    )
    assert made.status == 201, made.body
    thread_id, session_id = made.document["threadId"], made.document["sessionId"]
    assert made.headers["location"] == f"/v1/threads/{thread_id}"
    turns = f"/v1/threads/{thread_id}/turns"
    reply = api.ask("POST", f"{turns}?wait=20", {"input": "say hello"})
    turn = reply.document
    assert (reply.status, turn["status"], turn["error"]) == (200, "completed", None)
    assert turn["finalResponse"] == "Hello, world"
    assert turn["usage"]["last"]["totalTokens"] == 2
    assert turn["durationMs"] >= 0
    assert reply.headers["location"] == f"{turns}/{turn['turnId']}"

    shown = api.ask("GET", reply.headers["location"]).document
    assert {name: shown[name] for name in turn} == turn
    assert [item["type"] for item in shown["items"]] == ["userMessage", "agentMessage"]
    thread = api.ask("GET", f"/v1/threads/{thread_id}").document
    assert [entry["id"] for entry in thread["turns"]] == [turn["turnId"]]
    listed = api.ask("GET", "/v1/threads?limit=1").document
    assert [entry["id"] for entry in listed["threads"]] == [thread_id]

    session = api.ask("GET", f"/v1/sessions/{session_id}").document
    assert (session["purpose"], session["metadata"]["job"]) == ("worker", "7")
    assert session["title"] == "say hello"
    assert (session["cwd"], session["turn"]) == (str(room.root), None)
    # What people wrote is in no file of ours.
    for name in ("session-registry.json", "recent-events.json"):
        assert "say hello" not in (room.box.state_dir / name).read_text()
    assert "say hello" not in (room.box.logs_dir / "events.jsonl").read_text()


def test_a_turn_as_a_stream_is_its_notifications_and_its_end(room: HubRoom, api: Api) -> None:
    turns = f"/v1/threads/{api.thread(cwd=str(room.root))}/turns"
    for accept in ("text/event-stream", "application/x-ndjson"):
        with stream(api.path, "POST", turns, {"input": "hi"}, accept) as events:
            came = list(events)
        names = [name for name, _ in came]
        assert names[0] == "turn/started"
        assert names[-2:] == ["turn/completed", "finished"]
        assert names.count("turn/completed") == names.count("finished") == 1
        deltas = [data["params"]["delta"] for name, data in came if name.endswith("/delta")]
        assert "".join(deltas) == "Hello, world" == came[-1][1]["finalResponse"]
        assert came[-1][1]["status"] == "completed"


def test_anybody_runs_the_first_turn_of_anybodys_thread(room: HubRoom, api: Api) -> None:
    thread_id = room.client("another").start_thread()
    reply = api.ask("POST", f"/v1/threads/{thread_id}/turns?wait=20", {"input": "hi"})
    assert (reply.status, reply.document["status"]) == (200, "completed")
    assert reply.document["finalResponse"] == "Hello, world"


def test_a_turn_that_runs_is_steered_interrupted_and_waited_for(room: HubRoom, api: Api) -> None:
    thread_id = api.thread(cwd=str(room.root))
    turns = f"/v1/threads/{thread_id}/turns"
    assert api.ask("GET", f"/v1/threads/{thread_id}").document["turns"] == []
    assert api.ask("GET", f"{turns}/none").document["type"] == "urn:codexd:turn-not-found"
    # What is steered before the model has said a word is asked of it anew.
    holds = [room.hold_turn("half").hold for _ in range(2)]
    begun = api.ask("POST", f"{turns}?wait=0.2", {"input": [{"type": "text", "text": "hi"}]})
    assert (begun.status, begun.document["status"]) == (202, "inProgress")
    turn = begun.headers["location"]
    turn_id = begun.document["turnId"]
    assert turn == f"{turns}/{turn_id}"
    assert api.ask("GET", turn).document["status"] == "inProgress"
    (session,) = api.ask("GET", f"/v1/sessions?threadId={thread_id}").document["sessions"]
    assert session["turn"] == turn_id
    eventually(lambda: len(room.model.queue) < 2)
    assert session["clients"] == ["codexd_http"]
    steered = api.ask("POST", f"{turn}/steer", {"input": "faster"})
    assert (steered.status, steered.document) == (200, {"turnId": turn_id})
    interrupted = api.ask("POST", f"{turn}/interrupt")
    assert interrupted.status == 200, interrupted
    eventually(lambda: api.ask("GET", turn).document["status"] == "interrupted")
    room.model.queue.clear()
    for hold in holds:
        assert hold is not None
        hold.set()
    refused = api.ask("POST", f"{turn}/steer", {"input": "more"})
    assert (refused.status, refused.document["type"]) == (400, "urn:codexd:refused")


@pytest.mark.parametrize("how", ["wait", "stream"])
def test_a_turn_whose_server_dies_ends_once_as_interrupted(
    room: HubRoom, api: Api, how: str
) -> None:
    thread_id = api.thread(cwd=str(room.root))
    turns = f"/v1/threads/{thread_id}/turns"
    held = room.hold_turn("half")
    ends: list[dict[str, Any]] = []

    def run() -> None:
        if how == "wait":
            ends.append(api.ask("POST", f"{turns}?wait=60", {"input": "hi"}).document)
            return
        with stream(api.path, "POST", turns, {"input": "hi"}) as events:
            ends.extend(data for name, data in events if name == "finished")

    asking = threading.Thread(target=run)
    asking.start()
    room.event("turn.started", threadId=thread_id)
    eventually(lambda: held not in room.model.queue)
    os.kill(room.child_pid, signal.SIGKILL)
    asking.join(30)
    (end,) = ends
    assert end["status"] == "interrupted"
    assert "ended by signal 9" in end["error"]["message"]
    assert held.hold is not None
    held.hold.set()
    # The thread goes on, as everybody's.
    again = api.ask("POST", f"{turns}?wait=30", {"input": "again"}).document
    assert (again["status"], again["finalResponse"]) == ("completed", "Hello, world")
    shown = api.ask("GET", f"{turns}/{end['turnId']}").document
    assert shown["status"] == "interrupted"


def test_sessions_are_registered_listed_and_closed(room: HubRoom, api: Api) -> None:
    bare = api.ask("POST", "/v1/sessions", {"purpose": "worker", "metadata": {"job": "9"}})
    assert bare.status == 201
    location = bare.headers["location"]
    assert api.ask("GET", location).document["metadata"] == {"job": "9"}
    room.event("session.registered", sessionId=bare.document["sessionId"])
    thread_id = api.thread()
    taken = api.ask("POST", "/v1/sessions", {"purpose": "worker", "threadId": thread_id}).document
    # A thread has one session.
    (listed,) = api.ask("GET", f"/v1/sessions?threadId={thread_id}").document["sessions"]
    assert (listed["sessionId"], listed["purpose"]) == (taken["sessionId"], "worker")

    first = api.ask("GET", "/v1/sessions?status=active&limit=1").document
    assert [entry["sessionId"] for entry in first["sessions"]] == [taken["sessionId"]]
    second = api.ask("GET", f"/v1/sessions?status=active&limit=1&after={first['next']}").document
    assert [entry["sessionId"] for entry in second["sessions"]] == [bare.document["sessionId"]]
    for session_id in (taken["sessionId"], bare.document["sessionId"]):
        closed = api.ask("DELETE", f"/v1/sessions/{session_id}")
        assert (closed.status, closed.document["status"]) == (200, "closed")
        room.event("session.closed", sessionId=session_id)
    assert api.ask("DELETE", location).document["status"] == "closed"
    assert len(room.box.events("session.closed")) >= 2


def test_what_was_registered_is_there_after_the_plugin_and_the_daemon_have_died(
    room: HubRoom, api: Api
) -> None:
    thread_id = api.thread(purpose="worker", metadata={"job": "11"})
    turns = f"/v1/threads/{thread_id}/turns"
    assert api.ask("POST", f"{turns}?wait=30", {"input": "remember"}).status == 200
    bare = api.ask("POST", "/v1/sessions", {"purpose": "duplex", "metadata": {"a": "b"}}).document
    plugin = room.box.plugin()
    plugin.kill()
    eventually(lambda: room.box.plugin().pid != plugin.pid)

    def there() -> bool:
        try:
            return api.ask("GET", f"/v1/sessions/{bare['sessionId']}").status == 200
        except OSError:
            return False

    eventually(there)
    (kept,) = api.ask("GET", f"/v1/sessions?threadId={thread_id}").document["sessions"]
    assert (kept["purpose"], kept["metadata"], kept["status"]) == (
        "worker",
        {"job": "11"},
        "active",
    )
    again = api.ask("POST", f"{turns}?wait=30", {"input": "again"})
    assert again.document["status"] == "completed"
    (kept,) = api.ask("GET", f"/v1/sessions?threadId={thread_id}").document["sessions"]
    assert (kept["title"], kept["purpose"]) == ("remember", "worker")


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "what"),
    [
        ("GET", "/v1/threads/none", None, 404, "thread-not-found"),
        ("POST", "/v1/threads/none/turns", {"input": "x"}, 404, "thread-not-found"),
        (
            "POST",
            "/v1/threads/019a0000-0000-7000-8000-000000000000/turns",
            {"input": "x"},
            404,
            "thread-not-found",
        ),
        ("POST", "/v1/sessions", {"purpose": "worker", "threadId": "x"}, 404, "thread-not-found"),
        ("POST", "/v1/sessions", {"purpose": "odd"}, 400, "purpose"),
        ("POST", "/v1/sessions", {"purpose": "worker", "metadata": {"a": 1}}, 400, "metadata"),
        (
            "POST",
            "/v1/sessions",
            {"purpose": "worker", "metadata": {"runningTurn": "x"}},
            400,
            "metadata.runningTurn",
        ),
        ("POST", "/v1/threads", {"cwd": "here"}, 400, "cwd"),
        ("POST", "/v1/threads", {"nothing": 1}, 400, "nothing"),
        ("POST", "/v1/threads", {"sandbox": "none-such"}, 400, "none-such"),
        ("POST", "/v1/threads/x/turns", {"input": 7}, 400, "input"),
        ("POST", "/v1/threads/x/turns", {"input": "x", "cwd": "here"}, 400, "cwd"),
        ("GET", "/v1/threads?cwd=here", None, 400, "cwd"),
        ("POST", "/v1/threads/x/turns?wait=-1", {"input": "x"}, 400, "wait"),
        ("GET", "/v1/sessions/none", None, 404, "session-not-found"),
        ("DELETE", "/v1/sessions/none", None, 404, "session-not-found"),
        ("GET", "/v1/sessions?after=none", None, 400, "after"),
        ("GET", "/v1/sessions?limit=0", None, 400, "limit"),
    ],
)
def test_what_is_wrong_is_told_by_name(
    api: Api, method: str, target: str, body: Any, status: int, what: str
) -> None:
    reply = api.ask(method, target, body)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.document
    named = problem["type"].removeprefix("urn:codexd:"), problem.get("field", "")
    assert what in named or what in problem["detail"]
