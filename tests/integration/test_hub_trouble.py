"""What clients see where the real server comes back in the middle of trouble."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import psutil
import pytest

from tests.support.client import AppClient
from tests.support.faults import freeze
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

# An MCP server that begins to answer once a file is there.
SLOW_MCP = """
import json, os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
for line in sys.stdin:
    message = json.loads(line)
    result = {"tools": []}
    if message.get("method") == "initialize":
        version = message["params"]["protocolVersion"]
        server = {"name": "slow", "version": "1"}
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
    if "id" in message:
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


def _turn(client: AppClient, thread_id: str) -> str:
    turn_id = client.start_turn(thread_id)
    client.notification("turn/completed", threadId=thread_id)
    return turn_id


def _kill(room: HubRoom) -> None:
    pid = room.kill_child()
    room.box.wait_ready(other_than=pid)


def test_a_config_that_is_half_saved_at_a_restart_costs_no_session(room: HubRoom) -> None:
    client = room.client()
    thread_id = client.start_thread()
    _turn(client, thread_id)
    config = room.box.codex_home / "config.toml"
    good = config.read_text("utf-8")
    config.write_text(good + "\n[half", "utf-8")
    try:
        _kill(room)
        eventually(lambda: room.live()["resumingThreads"])
        request = client.ask("turn/start", {"threadId": thread_id, "input": []})
        assert "error" in client.answer_to(client.ask("thread/resume", {"threadId": thread_id}))
    finally:
        config.write_text(good, "utf-8")
    assert "result" in client.answer_to(request)
    client.notification("turn/completed", threadId=thread_id)
    assert not client.seen_of("thread/closed", threadId=thread_id)
    assert room.box.events("session.lost") == []


def test_a_thread_with_a_slow_server_of_tools_holds_up_nobody_else(room: HubRoom) -> None:
    script, go = room.root / "slow.py", room.root / "go"
    script.write_text(SLOW_MCP, "utf-8")
    go.touch()
    slow = {"command": sys.executable, "args": [str(script), str(go)], "required": True}
    config = {"mcp_servers": {"slow": {**slow, "startup_timeout_sec": 60}}}
    one, two = room.client("one"), room.client("two")
    params = {"cwd": str(room.root), "config": config}
    held = one.call("thread/start", params)["thread"]["id"]
    free = two.start_thread()
    for client, thread_id in ((one, held), (two, free)):
        _turn(client, thread_id)
    go.unlink()
    try:
        _kill(room)
        waits = one.ask("turn/start", {"threadId": held, "input": []})
        assert two.call("model/list")
        _turn(two, free)
        live = room.live()
        assert (live["server"], live["resumingThreads"]) == ("up", 1)
        assert not [message for message in one.seen if message.get("id") == waits]
    finally:
        go.touch()
    assert "result" in one.answer_to(waits)
    one.notification("turn/completed", threadId=held)


def test_a_thread_without_a_turn_is_what_it_was_after_a_crash(room: HubRoom) -> None:
    client = room.client()
    before = client.call("thread/list")["data"]
    params: dict[str, Any] = {
        "cwd": str(room.root),
        "approvalPolicy": "never",
        "developerInstructions": "Be kind.",
    }
    opened = client.call("thread/start", params)
    thread_id = opened["thread"]["id"]
    client.call("thread/settings/update", {"threadId": thread_id, "effort": "high"})
    # Nothing is told of its being written down, and nothing shows it.
    assert [item["id"] for item in client.call("thread/list")["data"]] == [
        item["id"] for item in before
    ]
    eventually(lambda: list(room.box.codex_home.rglob(f"rollout-*{thread_id}.jsonl")))
    for _ in range(2):
        _kill(room)
        room.event("session.recovered", threadId=thread_id)
    assert not client.seen_of("thread/closed", threadId=thread_id)
    count = len(room.model.requests)
    _turn(client, thread_id)
    assert len(room.model.requests) == count + 1
    asked = room.model.requests[-1]
    texts = [
        part["text"]
        for item in asked["input"]
        if item.get("role") == "developer"
        for part in item["content"]
    ]
    assert "Be kind." in texts
    resumed = client.call("thread/resume", {"threadId": thread_id})
    assert resumed["approvalPolicy"] == "never"
    assert resumed["reasoningEffort"] == "high"


def test_a_turn_that_the_dead_server_has_not_read_is_begun_by_the_next_one(room: HubRoom) -> None:
    client = room.client()
    thread_id = client.start_thread()
    _turn(client, thread_id)
    count = len(room.model.requests)
    pid = room.child_pid
    freeze(psutil.Process(pid))
    request = client.ask("turn/start", {"threadId": thread_id, "input": []})
    eventually(lambda: room.live()["waitingRequests"])
    os.kill(pid, signal.SIGKILL)
    turn_id = client.answer_to(request)["result"]["turn"]["id"]
    completed = client.notification("turn/completed", threadId=thread_id)
    assert (completed["turn"]["id"], completed["turn"]["status"]) == (turn_id, "completed")
    assert len(room.model.requests) == count + 1


def test_what_a_client_has_switched_on_stays_on(room: HubRoom) -> None:
    client = room.client()
    client.call("environment/add", {"environmentId": "far", "execServerUrl": "ws://127.0.0.1:1/"})

    def status() -> str:
        answer = client.call("environment/status", {"environmentId": "far"})
        return str(answer["status"])

    # It is not there, and is connected to again and again: only that it is known stays the same.
    assert status() != "unknown"
    _kill(room)
    assert status() != "unknown"


def test_a_flood_on_stdio_is_answered_whole(room: HubRoom) -> None:
    one, two = room.client("flood"), room.client("calm")
    server = room.child_pid
    os.kill(server, signal.SIGSTOP)
    try:
        asked = [one.ask("thread/loaded/list") for _ in range(2000)]
        eventually(lambda: room.live()["waitingRequests"] > 0, what="requests that wait")
    finally:
        os.kill(server, signal.SIGCONT)
    # Not behind two thousand others.
    two.call("thread/loaded/list")
    for request in asked:
        assert "result" in one.answer_to(request)
    eventually(lambda: room.live()["waitingRequests"] == 0, what="nothing that waits")


@pytest.mark.parametrize("who", ["plugin and server", "daemon"])
def test_a_turn_that_was_open_when_they_died_ends_once_on_record(
    make_room: MakeRoom, who: str
) -> None:
    room = make_room()
    client = room.client()
    thread_id = client.start_thread()
    room.hold_turn()
    turn_id = client.start_turn(thread_id)
    room.event("turn.started", turnId=turn_id)
    if who == "daemon":
        result = room.box.run("stop", "--now")
        assert result.returncode == 0, result.stderr
    else:
        child = psutil.Process(room.child_pid)
        for process in (room.box.plugin(), child):
            process.kill()
        room.box.wait_ready(other_than=child.pid)
    room.event("turn.interrupted", turnId=turn_id)
    ends = room.box.events("turn.interrupted", "turn.completed")
    assert [event["detail"]["turnId"] for event in ends] == [turn_id]
