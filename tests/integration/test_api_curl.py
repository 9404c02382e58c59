"""HTTP as other programs speak it: the tutorial's curl, word for word, and httpx."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

COMMAND = str(Path(sys.executable).parent / "codexd")
TUTORIAL = Path(__file__).resolve().parents[2] / "docs/tutorial/first-hour.md"


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


def blocks(heading: str) -> list[str]:
    """The shell commands below a heading of the tutorial."""
    section = TUTORIAL.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class Terminal:
    """A shell in which the tutorial's first lines were entered."""

    def __init__(self, room: HubRoom) -> None:
        self._room = room
        self._begin = blocks("A turn from curl")[0].partition("\n\n")[0]

    def run(self, commands: str) -> str:
        text = f"{self._begin}\n{commands}".replace("ops/codexd", COMMAND)
        done = subprocess.run(
            ["sh", "-euc", text],
            cwd=self._room.root,
            env=self._room.box.env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tutorials_turn_and_its_kill(room: HubRoom) -> None:
    terminal = Terminal(room)
    first, stream, again = blocks("A turn from curl")
    said = terminal.run(first.partition("\n\n")[2])
    assert '"finalResponse":"Hello, world"' in said
    thread = re.search(r'"threadId":"([^"]+)"', said)
    newest = httpx_get(room, "/v1/threads?limit=1")["threads"][0]["id"]
    assert thread is None or thread[1] == newest
    held = room.hold_turn("1", "2")
    came: list[str] = []
    streaming = threading.Thread(
        target=lambda: came.append(terminal.run(f"thread={newest}\n{stream}"))
    )
    streaming.start()
    eventually(lambda: room.box.events("turn.started")[1:])
    eventually(lambda: held not in room.model.queue)
    os.kill(room.child_pid, signal.SIGKILL)
    streaming.join(60)
    assert held.hold is not None
    held.hold.set()
    last = came[0].strip().splitlines()[-1].removeprefix("data: ")
    assert json.loads(last)["status"] == "interrupted"
    assert '"status":"completed"' in terminal.run(f"thread={newest}\n{again}")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tutorials_approval(room: HubRoom) -> None:
    terminal = Terminal(room)
    asks, answers = blocks("An approval from another terminal")
    call = {
        "cmd": "true",
        "login": False,
        "sandbox_permissions": "require_escalated",
        "justification": "why",
    }
    room.model.queue.append(Reply(call=("exec_command", call)))
    came: list[str] = []
    asking = threading.Thread(target=lambda: came.append(terminal.run(asks)))
    asking.start()
    eventually(lambda: httpx_get(room, "/v1/approvals")["approvals"])
    assert '"decision":"accept"' in terminal.run(answers)
    asking.join(60)
    assert '"status":"completed"' in came[0]


def client(room: HubRoom) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=room.box.config.runtime.hub_socket_path)
    return httpx.Client(transport=transport, base_url="http://codexd", timeout=60)


def httpx_get(room: HubRoom, target: str) -> Any:
    with client(room) as asking:
        return asking.get(target).raise_for_status().json()


def test_httpx_on_one_connection(room: HubRoom) -> None:
    with client(room) as asking:
        thread_id = asking.post("/v1/threads", json={"cwd": str(room.root)}).json()["threadId"]
        turns = f"/v1/threads/{thread_id}/turns"
        sent = {"input": "hi"}
        accept = {"Accept": "text/event-stream"}
        with asking.stream("POST", turns, json=sent, headers=accept) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("event: ")]
        assert lines[-1] == "event: finished"
        problem = asking.post(turns, json={"input": "hi", "odd": 1})
        assert (problem.status_code, problem.json()["field"]) == (400, "odd")
        assert asking.head("/healthz").status_code == 200
        assert asking.get("/v1/openapi.json").json()["openapi"] == "3.1.0"
        chunks = (piece for piece in (b'{"input"', b':"hi"}'))
        ended = asking.post(f"{turns}?wait=60", content=chunks)
        assert ended.json()["status"] == "completed"


def test_without_a_listener_there_is_no_page_and_it_says_how_to_have_one(room: HubRoom) -> None:
    done = room.box.run("dashboard")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "--hub-listen 127.0.0.1:0" in done.stderr
