"""`codexd attach` in place of a server of one's own, while plugin and server die behind it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.attach_client import AttachClient
from tests.support.daemon import CODEXD
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


@pytest.fixture
def tool(room: HubRoom, tmp_path: Path) -> Iterator[AttachClient]:
    client = attach(room, tmp_path)
    try:
        yield client
    finally:
        client.close()


def attach(room: HubRoom, cwd: Path, *options: str) -> AttachClient:
    command = [*CODEXD, *options, "app-server", *room.box.flags]
    client = AttachClient(command, room.box.env, cwd)
    room.clients.append(client)
    return client


def kill_plugin(room: HubRoom) -> None:
    plugin = room.box.plugin()
    os.kill(plugin.pid, signal.SIGKILL)
    eventually(lambda: room.box.plugin().pid != plugin.pid, what="another plugin")


def status_of(client: AttachClient, thread_id: str, turn_id: str) -> str:
    """How a turn ended; fails if its end was told twice."""
    client.notification("turn/completed", threadId=thread_id)
    client.call("thread/loaded/list")
    ends = [
        message["params"]["turn"]["status"]
        for message in client.seen
        if message.get("method") == "turn/completed" and message["params"]["turn"]["id"] == turn_id
    ]
    (status,) = ends
    return str(status)


def test_a_turn_goes_on_over_the_death_of_the_plugin(room: HubRoom, tool: AttachClient) -> None:
    thread_id = tool.start_thread()
    held = room.hold_turn("half a ")
    turn_id = tool.start_turn(thread_id)
    tool.notification("item/agentMessage/delta", turnId=turn_id)
    kill_plugin(room)
    assert thread_id in tool.call("thread/loaded/list")["data"]
    assert held.hold is not None
    held.hold.set()
    assert status_of(tool, thread_id, turn_id) == "completed"
    tool.start_turn(thread_id)
    tool.notification("turn/completed", threadId=thread_id)


def test_a_turn_that_ends_while_no_plugin_is_there_is_told(
    room: HubRoom, tool: AttachClient
) -> None:
    thread_id = tool.start_thread()
    held = room.hold_turn("half a ")
    turn_id = tool.start_turn(thread_id)
    tool.notification("item/agentMessage/delta", turnId=turn_id)
    plugin = room.box.plugin()
    plugin.suspend()
    assert held.hold is not None
    held.hold.set()
    path = room.box.codex_home / "sessions"
    eventually(
        lambda: any("task_complete" in file.read_text() for file in path.rglob(f"*{thread_id}*")),
        what="the end of the turn on disk",
    )
    plugin.kill()
    assert status_of(tool, thread_id, turn_id) == "completed"
    texts = [
        message["params"]["item"].get("text")
        for message in tool.seen
        if message.get("method") == "item/completed"
    ]
    assert any(text and text.startswith("half a ") for text in texts)


def test_plugin_and_server_die_together_and_it_goes_on(room: HubRoom, tool: AttachClient) -> None:
    thread_id = tool.start_thread()
    tool.start_turn(thread_id)
    tool.notification("turn/completed", threadId=thread_id)
    room.hold_turn("half a ")
    turn_id = tool.start_turn(thread_id)
    tool.notification("item/agentMessage/delta", turnId=turn_id)
    plugin, child = room.box.plugin(), room.child_pid
    os.kill(child, signal.SIGKILL)
    os.kill(plugin.pid, signal.SIGKILL)
    assert status_of(tool, thread_id, turn_id) == "interrupted"
    tool.start_turn(thread_id)
    tool.notification("turn/completed", threadId=thread_id)


def test_a_thread_of_another_is_not_heard_of_before_and_after(
    room: HubRoom, tool: AttachClient
) -> None:
    other = room.client("other")
    for _ in range(2):
        seen = len(tool.seen)
        other.start_turn(thread := other.start_thread())
        other.notification("turn/completed", threadId=thread)
        tool.call("thread/loaded/list")
        told = [m for m in tool.seen[seen:] if "method" in m]
        assert [m for m in told if thread in str(m)] == []
        kill_plugin(room)
        tool.call("thread/loaded/list")
        other = room.client("other")


def test_its_directory_and_overrides_hold_for_its_threads_after_a_death_too(
    room: HubRoom, tmp_path: Path
) -> None:
    options = ("-c", 'sandbox_mode="read-only"', "-a", "never", "-C", "sub")
    (tmp_path / "sub").mkdir()
    client = attach(room, tmp_path, *options)
    try:
        for _ in range(2):
            opened = client.call("thread/start")
            assert os.path.realpath(opened["cwd"]) == os.path.realpath(tmp_path / "sub")
            assert opened["sandbox"]["type"] == "readOnly"
            assert opened["approvalPolicy"] == "never"
            kill_plugin(room)
    finally:
        client.close()


def test_what_it_has_set_and_opened_outlives_plugin_and_server(
    room: HubRoom, tool: AttachClient, tmp_path: Path
) -> None:
    skill = tmp_path / "skills" / "mine" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("---\nname: mine-alone\ndescription: mine\n---\nx\n")
    watched = tmp_path / "watched"
    watched.mkdir()
    tool.call("fs/watch", {"watchId": "w", "path": str(watched)})
    tool.call("process/spawn", {"processHandle": "p", "command": ["sleep", "600"], "cwd": "/"})
    # Last: nothing but the answer says that it is written down.
    tool.call("skills/extraRoots/set", {"extraRoots": [str(tmp_path / "skills")]})
    kill_plugin(room)
    tool.notification("process/exited", processHandle="p")
    tool.call("thread/loaded/list")

    def hears() -> bool:
        (watched / "file").write_text(str(len(tool.seen)))
        tool.call("thread/loaded/list")
        return bool(tool.seen_of("fs/changed", watchId="w"))

    eventually(hears, what="word of a change")
    os.kill(room.child_pid, signal.SIGKILL)
    assert "mine-alone" in str(tool.call("skills/list", {"cwds": [str(tmp_path)]}))
    eventually(lambda: not _sleepers(room), what="an end of what nobody can stop any more")


def _sleepers(room: HubRoom) -> list[int]:
    found = []
    for process in room.box.leftovers():
        with contextlib.suppress(psutil.Error):
            found += [process.pid] if process.cmdline()[:2] == ["sleep", "600"] else []
    return found
