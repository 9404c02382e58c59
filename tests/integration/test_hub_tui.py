"""The vendor's terminal UI on the hub, in a real terminal."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest

from tests.support.codex import codex_path
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.screen import Screen, screen
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room("--hub-default-socket", "true")


@pytest.fixture
def terminal(room: HubRoom) -> Iterator[Screen]:
    with screen(room.root / "tmux.sock") as made:
        yield made


def _start(room: HubRoom, terminal: Screen, *arguments: str) -> None:
    env = {**room.box.env, "TERM": "xterm-256color"}
    terminal.start([codex_path(), *arguments], env, room.root)
    terminal.shows("mock default")
    eventually(lambda: room.live()["initializedClients"] == 1)


def _answer_with(
    room: HubRoom, *deltas: str, hold: threading.Event | None = None
) -> threading.Event | None:
    """What the model says from now on: the terminal UI has questions of its own, too."""
    room.model.default = lambda: Reply(deltas=list(deltas), hold=hold)
    return hold


def test_it_goes_on_over_the_death_of_the_server(room: HubRoom, terminal: Screen) -> None:
    _start(room, terminal, "--remote", f"unix://{room.hub_socket}")
    _answer_with(room, "The first ", "answer.")
    terminal.enter("a first question", "The first answer.")
    held = _answer_with(room, "This will not ", hold=threading.Event())
    terminal.enter("a second question", "This will not")
    pid = room.kill_child()
    assert held is not None
    held.set()
    room.box.wait_ready(other_than=pid)
    terminal.shows("interrupted")
    _answer_with(room, "All is ", "well again.")
    terminal.enter("a third question", "All is well again.")
    # It has not noticed: this is the connection of the beginning.
    assert len(room.box.events("client.connected")) == 1
    assert not room.box.events("client.disconnected")


def test_a_plain_codex_attaches_to_the_hub(room: HubRoom, terminal: Screen) -> None:
    eventually(lambda: room.live()["clients"] == 0)
    _start(room, terminal)
    terminal.enter("/status", "Local background server")
    _answer_with(room, "From the ", "hub.")
    terminal.enter("and a question", "From the hub.")
    assert room.live()["activeSessions"] >= 1
