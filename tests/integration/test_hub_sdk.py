"""The vendor's Python SDK on the hub, through `codexd attach`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from openai_codex import Codex, CodexConfig, InvalidRequestError

from tests.support.daemon import CODEXD
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


def _config(room: HubRoom, *shape: str) -> CodexConfig:
    command = (*CODEXD, shape[0], *room.box.flags, *shape[1:])
    return CodexConfig(launch_args_override=command, env=room.box.env, cwd=str(room.root))


@pytest.fixture(scope="module")
def codex(room: HubRoom) -> Iterator[Any]:
    with Codex(_config(room, "attach")) as client:
        yield client


def test_threads_are_started_named_listed_read_forked_and_archived(codex: Any) -> None:
    thread = codex.thread_start()
    assert thread.run("How is it?").final_response == "Hello, world"
    thread.set_name("a name")
    assert thread.read(include_turns=True).thread.name == "a name"
    fork = codex.thread_fork(thread.id)
    assert fork.id != thread.id
    assert fork.run("And now?").final_response == "Hello, world"
    assert {thread.id, fork.id} <= {entry.id for entry in codex.thread_list().data}
    codex.thread_archive(thread.id)
    assert thread.id not in {entry.id for entry in codex.thread_list().data}
    assert thread.id in {entry.id for entry in codex.thread_list(archived=True).data}
    assert codex.thread_unarchive(thread.id).id == thread.id


def test_a_turn_streams_is_steered_and_ends(room: HubRoom, codex: Any) -> None:
    thread = codex.thread_start()
    held = room.hold_turn("one ", "two")
    room.model.queue.append(Reply(deltas=["steered"]))
    turn = thread.turn("go")
    texts: list[str] = []
    for event in turn.stream():
        if event.method == "item/agentMessage/delta":
            texts.append(event.payload.delta)
            if len(texts) == 2:
                turn.steer("the other way")
                assert held.hold is not None
                held.hold.set()
    assert texts == ["one ", "two", "steered"]
    assert "the other way" in str(room.model.requests[-1]["input"])


def test_a_turn_is_interrupted(room: HubRoom, codex: Any) -> None:
    thread = codex.thread_start()
    room.hold_turn("one")
    turn = thread.turn("go")
    last: Any = None
    for event in turn.stream():
        last = event
        if event.method == "item/agentMessage/delta":
            turn.interrupt()
    assert last.method == "turn/completed"
    assert last.payload.turn.status.value == "interrupted"


def test_two_clients_share_a_thread_and_the_second_goes_on_after_a_crash(
    room: HubRoom, codex: Any
) -> None:
    thread = codex.thread_start()
    thread.run("first")
    with Codex(_config(room, "app-server", "--listen", "stdio://")) as other:
        again = other.thread_resume(thread.id)
        room.hold_turn("one")
        turn = again.turn("second")
        ended: list[Any] = []
        streaming = threading.Event()

        def follow() -> None:
            for event in turn.stream():
                ended.append(event)
                if event.method == "item/agentMessage/delta":
                    streaming.set()

        follower = threading.Thread(target=follow)
        follower.start()
        assert streaming.wait(20)
        pid = room.kill_child()
        follower.join(20)
        assert not follower.is_alive()
        assert ended[-1].payload.turn.status.value == "interrupted"
        assert again.run("third").final_response == "Hello, world"
        assert thread.run("fourth").final_response == "Hello, world"
        assert room.child_pid != pid


def test_errors_are_the_servers_own(codex: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no rollout found"):
        codex.thread_resume("01a20e1d-ca07-7fd3-a6f8-ceb5e4c12cd5")
