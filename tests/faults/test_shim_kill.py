"""Tools that know only `codex`, through `ops/codex-shim`, while what is behind it dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai_codex import Codex, CodexConfig

from tests.support.checkout import ROOT
from tests.support.client import AppClient
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

DRAINING = "Server is draining; retry after reconnecting"


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


@pytest.fixture(scope="module")
def environ(room: HubRoom) -> dict[str, str]:
    """That of a tool, where `codex` is the shim."""
    shims = room.root / "shims"
    shims.mkdir()
    (shims / "codex").symlink_to(ROOT / "ops/codex-shim")
    return {
        **room.box.env,
        "PATH": f"{shims}:{room.box.env['PATH']}",
        "BAA_CODEXD_REPO_ROOT": str(room.root),
    }


class Server:
    """`codex app-server --listen ws://127.0.0.1:0`, as a tool starts it."""

    def __init__(self, environ: dict[str, str], cwd: Path) -> None:
        self.errors = cwd / "errors"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                ["codex", "app-server", "--listen", "ws://127.0.0.1:0"],
                executable=f"{environ['PATH'].partition(':')[0]}/codex",
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )

    @property
    def url(self) -> str:
        found = eventually(
            lambda: re.search(r"listening on: (ws://\S+)", self.errors.read_text()),
            what="where it listens",
        )
        assert isinstance(found, re.Match)
        return found[1]


@pytest.fixture
def server(environ: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    made = Server(environ, tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def client_of(room: HubRoom, server: Server) -> AppClient:
    client = AppClient(server.url, "tool")
    room.clients.append(client)
    return client


def kill_plugin(room: HubRoom) -> None:
    plugin = room.box.plugin()
    os.kill(plugin.pid, signal.SIGKILL)
    eventually(lambda: room.box.plugin().pid != plugin.pid, what="another plugin")


def kill_child(room: HubRoom) -> None:
    pid = room.kill_child()
    room.box.wait_ready(other_than=pid)


def test_a_client_on_its_websocket_goes_on_over_both_deaths(
    room: HubRoom, server: Server, tmp_path: Path
) -> None:
    other, client = room.client("other"), client_of(room, server)
    # It is alone, as with a server of its own, and that would work where it was started.
    thread = client.call("thread/start", {})["thread"]
    assert thread["cwd"] == os.path.realpath(tmp_path)
    thread_id: str = thread["id"]
    foreign = other.start_thread()
    held = room.hold_turn("half a ")
    turn_id = client.start_turn(thread_id)
    client.notification("item/agentMessage/delta", turnId=turn_id)
    kill_plugin(room)
    assert thread_id in client.call("thread/loaded/list")["data"]
    assert held.hold is not None
    held.hold.set()
    ended = client.notification("turn/completed", threadId=thread_id)["turn"]
    assert (ended["id"], ended["status"]) == (turn_id, "completed")
    room.hold_turn("half a ")
    turn_id = client.start_turn(thread_id)
    client.notification("item/agentMessage/delta", turnId=turn_id)
    kill_child(room)
    ended = client.notification("turn/completed", threadId=thread_id)["turn"]
    assert (ended["id"], ended["status"]) == (turn_id, "interrupted")
    client.start_turn(thread_id)
    ended = client.notification("turn/completed", threadId=thread_id)["turn"]
    assert ended["status"] == "completed"
    assert not [m for m in client.seen if foreign in str(m.get("params"))]


def test_told_to_end_it_lets_the_running_turn_end_and_nothing_begin(
    room: HubRoom, server: Server
) -> None:
    client = client_of(room, server)
    thread_id = client.start_thread()
    held = room.hold_turn("half a ")
    turn_id = client.start_turn(thread_id)
    client.notification("item/agentMessage/delta", turnId=turn_id)
    server.process.send_signal(signal.SIGTERM)

    def refused() -> bool:
        answer = client.answer_to(client.ask("thread/start"))
        return bool(answer.get("error", {}).get("message") == DRAINING)

    eventually(refused, what="a refusal")
    assert client.call("thread/loaded/list")["data"]
    late = client_of(room, server)
    request = late.ask("turn/start", {"threadId": thread_id, "input": []})
    assert late.answer_to(request)["error"]["data"] == {"reason": "serverShuttingDown"}
    assert server.process.poll() is None
    assert held.hold is not None
    held.hold.set()
    assert client.notification("turn/completed", threadId=thread_id)["turn"]["id"] == turn_id
    assert server.process.wait(20) == 0


def test_told_twice_it_ends_at_once(room: HubRoom, server: Server) -> None:
    client = client_of(room, server)
    thread_id = client.start_thread()
    held = room.hold_turn("half a ")
    turn_id = client.start_turn(thread_id)
    client.notification("item/agentMessage/delta", turnId=turn_id)
    server.process.send_signal(signal.SIGINT)
    eventually(lambda: "error" in client.answer_to(client.ask("thread/start")), what="a refusal")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    assert held.hold is not None
    held.hold.set()


def test_the_vendors_sdk_runs_on_it_over_both_deaths(
    room: HubRoom, environ: dict[str, str], tmp_path: Path
) -> None:
    codex_bin = f"{room.root}/shims/codex"
    config = CodexConfig(codex_bin=codex_bin, env=environ, cwd=str(tmp_path))
    with Codex(config) as codex:
        thread = codex.thread_start()
        assert thread.run("How is it?").final_response == "Hello, world"
        for kill in (kill_child, kill_plugin):
            kill(room)
            assert thread.run("And now?").final_response == "Hello, world"
    assert room.event("client.connected", name="codex_python_sdk")
