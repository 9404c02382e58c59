"""A daemon with a spare, on the real codex: whatever dies, one server has the threads."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.faults.test_kill_matrix import play_in_short
from tests.support.client import AppClient
from tests.support.hub_room import HubRoom
from tests.support.schema import Schemas
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(schemas: Schemas) -> Iterator[HubRoom]:
    room = HubRoom(schemas, "--spare", "true", "--restart-backoff-ms", "50")
    yield room
    room.close()


def ready_spare(room: HubRoom, *, other_than: int | None = None) -> int:
    """The spare that circusd would promote now."""

    def look() -> int | None:
        spare = (room.box.read("watcher.json") or {}).get("spare")
        if spare is None or not spare["ready"] or spare["process"]["pid"] == other_than:
            return None
        return int(spare["process"]["pid"])

    return eventually(look, within_s=30, what="a spare")


def said(room: HubRoom, *words: str) -> str:
    result = room.box.run(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def turn(client: AppClient, thread_id: str) -> None:
    """A turn from its beginning to its end."""
    client.start_turn(thread_id)
    client.notification("turn/completed", threadId=thread_id)


def ended(room: HubRoom, pid: int) -> dict[str, Any]:
    return room.event("spare.ended", pid=pid)


def test_it_takes_the_place_of_a_server_that_dies(room: HubRoom) -> None:
    client = room.client()
    thread_id = client.start_thread()
    turn(client, thread_id)
    spare = ready_spare(room)
    assert " spare=ready" in said(room, "status")
    assert "codex-spare: active" in said(room, "ctl", "status")
    before = room.kill_child()
    child = room.box.wait_ready(other_than=before)
    assert child["pid"] == spare
    promoted = room.event("child.promoted", pid=spare)
    assert room.event("child.started", pid=spare)["detail"]["step"] == promoted["detail"]["step"]
    turn(client, thread_id)
    following = ready_spare(room, other_than=spare)
    assert following != spare
    assert room.child_pid == spare
    live = json.loads(said(room, "status", "--json"))["live"]["spare"]
    assert live == {"pid": following, "ready": True, "promotions": 1}
    metrics = said(room, "metrics").splitlines()
    assert "codexd_spare_ready 1.0" in metrics
    assert "codexd_spare_promotions_total 1.0" in metrics


def test_one_that_dies_is_replaced_and_nobody_notices(room: HubRoom) -> None:
    child, spare = room.child_pid, ready_spare(room)
    os.kill(spare, signal.SIGKILL)
    assert ended(room, spare)["level"] == "warn"
    ready_spare(room, other_than=spare)
    assert room.child_pid == child


@pytest.mark.parametrize("name", ["config.toml", "auth.json"])
def test_what_it_has_read_has_changed(room: HubRoom, name: str) -> None:
    spare = ready_spare(room)
    path = room.box.codex_home / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"{}") + b"\n")
    assert ended(room, spare)["detail"]["reason"] == f"{name} has changed"
    ready_spare(room, other_than=spare)


def test_an_order_gets_a_fresh_server_and_a_fresh_spare(room: HubRoom) -> None:
    child, spare = room.child_pid, ready_spare(room)
    said(room, "restart")
    fresh = room.box.wait_ready(other_than=child)["pid"]
    assert fresh not in (child, spare)
    ended(room, spare)
    ready_spare(room, other_than=spare)


def test_both_die_at_once(room: HubRoom) -> None:
    child, spare = room.child_pid, ready_spare(room)
    for pid in (spare, child):
        os.kill(pid, signal.SIGKILL)
    fresh = room.box.wait_ready(other_than=child)["pid"]
    assert fresh not in (child, spare)
    ready_spare(room, other_than=spare)


def test_one_that_hangs_is_found_out_as_soon_as_it_is_needed(room: HubRoom) -> None:
    spare = ready_spare(room)
    os.kill(spare, signal.SIGSTOP)
    child = room.kill_child()
    room.event("child.unhealthy", pid=spare)
    fresh = eventually(
        lambda: (c := room.box.child()) and c["ready"] and c["pid"] not in (child, spare) and c,
        within_s=30,
        what="a server that answers",
    )
    client = room.client()
    turn(client, client.start_thread())
    assert room.child_pid == fresh["pid"]
    ready_spare(room, other_than=spare)


def test_the_plugin_is_killed(room: HubRoom) -> None:
    child, spare = room.child_pid, ready_spare(room)
    assert room.box.process is not None
    plugin = next(
        process
        for process in psutil.Process(room.box.process.pid).children()
        if any("plugins.main()" in word for word in process.cmdline())
    )
    plugin.kill()
    # Nobody could go on where the one that greeted it left off.
    ready_spare(room, other_than=spare)
    assert not psutil.pid_exists(spare)
    assert room.box.wait_ready()["pid"] == child


def test_none_outlives_its_daemon(room: HubRoom) -> None:
    ready_spare(room)
    assert room.box.process is not None
    room.box.note_processes()
    room.box.process.kill()
    room.box.process.wait(10)
    room.box.wait_for_nobody()


def test_on_a_socket_it_takes_the_endpoint_too(schemas: Schemas) -> None:
    room = HubRoom(schemas, "--spare", "true", "--restart-backoff-ms", "50", endpoint="unix")
    try:
        beside, leads_to = _takes_it_again_and_again(room)
        # What is asked for gets a fresh server, which starts where the promoted one was.
        child, spare = room.child_pid, ready_spare(room)
        said(room, "restart")
        assert room.box.wait_ready(other_than=child)["pid"] != spare
        _server_at(room)
        ready_spare(room, other_than=spare)
        # Both at once: the next one has to cope with what is left of them.
        child, spare = room.child_pid, ready_spare(room)
        for pid in (spare, child):
            os.kill(pid, signal.SIGKILL)
        room.box.wait_ready(other_than=child)
        ready_spare(room, other_than=spare)
        _server_at(room)
        beside |= _spares_sockets(room)
        room.box.stop()
        assert not [
            path for path in {room.child_socket, leads_to, *beside} if os.path.lexists(path)
        ]
    finally:
        room.close()


def _takes_it_again_and_again(room: HubRoom) -> tuple[set[str], str]:
    """The server is killed, then told to end; the names of sockets that there were."""
    # No client has come so far: the spare is looked after, too, and still takes any name.
    spare = ready_spare(room)
    assert room.box.wait_ready(other_than=room.kill_child())["pid"] == spare
    client = room.client("the first")
    thread = client.call("thread/start", {"cwd": str(room.root)})["thread"]
    assert thread["originator"] == "the first"
    thread_id = thread["id"]
    turn(client, thread_id)
    leads_to, beside = os.path.realpath(room.child_socket), set()
    for signum in (signal.SIGKILL, signal.SIGTERM):
        child, spare = room.child_pid, ready_spare(room)
        beside |= _spares_sockets(room)
        os.kill(child, signum)
        assert room.box.wait_ready(other_than=child)["pid"] == spare
        room.event("child.promoted", pid=spare)
        turn(client, thread_id)
        assert _server_at(room) == {thread_id}
        # As a server of its own would have it, so that the next one finds what it expects.
        assert os.path.realpath(room.child_socket) == leads_to
    return beside, leads_to


def _spares_sockets(room: HubRoom) -> set[str]:
    path = (room.box.read("watcher.json") or {})["spare"]["socket"]
    return {path, os.path.realpath(path)}


def _server_at(room: HubRoom) -> set[str]:
    """The threads of the server that another client finds at the endpoint."""
    other = room.client("other", path=room.child_socket)
    try:
        return set(other.call("thread/loaded/list", {})["data"])
    finally:
        other.close()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_everything_holds_after_whatever_was_done() -> None:
    # Each signal to the spare, and to the server beside it.
    assert play_in_short(seed="20261126", kills=6, spare=True) >= 6
