"""Threads on the real server: those that it opens itself, and what a crash leaves of the others."""

from __future__ import annotations

import pytest

from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room(endpoint="unix")


@pytest.mark.parametrize("which", ["codex", "hub"])
def test_everybody_who_is_there_hears_of_a_subagent(room: HubRoom, which: str) -> None:
    path = room.child_socket if which == "codex" else room.hub_socket
    parent, bystander = room.client("parent", path=path), room.client("bystander", path=path)
    task = {"message": "do it", "agent_type": "default"}
    room.model.queue.append(Reply(call=("multi_agent_v1.spawn_agent", task)))
    thread_id = parent.start_thread()
    parent.start_turn(thread_id)
    heard = bystander.notification("turn/started")
    assert heard["threadId"] != thread_id
    sub = {"threadId": heard["threadId"]}
    for client in (parent, bystander):
        assert client.notification("turn/completed", **sub)["turn"]["id"] == heard["turn"]["id"]
        assert client.seen_of("item/agentMessage/delta", **sub)


def test_a_crash_undoes_no_setting_and_loses_no_override(room: HubRoom) -> None:
    client = room.client()
    config = {"model_reasoning_summary": "detailed"}
    params = {"cwd": "/", "approvalPolicy": "never", "config": config}
    thread_id = client.call("thread/start", params)["thread"]["id"]
    client.start_turn(thread_id)
    client.notification("turn/completed", threadId=thread_id)
    later = {"approvalPolicy": "on-request", "cwd": "/usr"}
    client.call("thread/settings/update", {"threadId": thread_id, **later})
    client.notification("thread/settings/updated", threadId=thread_id)
    room.kill_child()
    room.event("session.recovered", threadId=thread_id)
    client.start_turn(thread_id)
    client.notification("turn/completed", threadId=thread_id)
    assert room.model.requests[-1]["reasoning"]["summary"] == "detailed"
    now = client.call("thread/resume", {"threadId": thread_id, "excludeTurns": True})
    assert {key: now[key] for key in later} == later
