"""A plugin that may open hardly any files, and clients that want them all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from tests.conftest import MakeBox
from tests.support.codex import RawClient
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.faults import check_sound, runtime_dir, wait_event
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

FILES = 96


@pytest.fixture
def box(make_box: MakeBox) -> DaemonBox:
    """A daemon that may not have more open files, whatever it asks for."""
    box = make_box(*stub_flags())
    box.launch("sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh", *CODEXD, "start", *box.flags)
    box.wait_ready()
    return box


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    """Connections that end with the test."""
    with contextlib.ExitStack() as stack:
        yield stack


def connect(path: Path, crowd: contextlib.ExitStack) -> socket.socket:
    connected = crowd.enter_context(socket.socket(socket.AF_UNIX))
    connected.settimeout(10)
    connected.connect(str(path))
    return connected


def client(path: Path, crowd: contextlib.ExitStack) -> RawClient:
    made = RawClient(str(path))
    crowd.callback(made.close)
    made.initialize()
    return made


def fill(path: Path, crowd: contextlib.ExitStack) -> tuple[list[RawClient], Response]:
    """Clients until one is refused, and what that one is told."""
    clients: list[RawClient] = []
    try:
        while len(clients) < FILES:
            clients.append(client(path, crowd))
    except InvalidStatus as refused:
        return clients, refused.response
    raise AssertionError("nobody was refused")


def ask(path: Path, crowd: contextlib.ExitStack, head: str) -> tuple[int, dict[str, Any]]:
    connected = connect(path, crowd)
    connected.sendall(f"{head}\r\n\r\n".encode())
    answer = b""
    while data := connected.recv(4096):
        answer += data
    connected.close()
    status, _, body = answer.partition(b"\r\n\r\n")
    return int(status.split(b" ")[1]), json.loads(body)


def check_restart(box: DaemonBox) -> None:
    """A server that is killed is back, and the record is true."""
    old = box.wait_ready()["pid"]
    os.kill(old, signal.SIGKILL)
    check_sound(box, other_than=old)
    assert "Traceback" not in box.errors()


def test_who_says_nothing_makes_room_for_who_does(
    box: DaemonBox, crowd: contextlib.ExitStack
) -> None:
    path = runtime_dir(box) / "codexd.sock"
    good = client(path, crowd)
    mute = [connect(path, crowd) for _ in range(4 * FILES)]
    check_restart(box)
    assert "result" in good.ask("thread/loaded/list", {})
    # All that it can have stay, and the oldest of them go first for a newcomer.
    assert "result" in client(path, crowd).ask("thread/loaded/list", {})
    assert box.run("status", "--check").returncode == 0
    assert mute[0].recv(1) == b""
    assert box.plugin().num_fds() < FILES
    assert len(box.events("hub.full")) == 1


def test_who_speaks_stays_and_a_newcomer_is_told_why_it_cannot(
    box: DaemonBox, crowd: contextlib.ExitStack
) -> None:
    path = runtime_dir(box) / "codexd.sock"
    clients, response = fill(path, crowd)
    # The very answer: the next one may find the place that a file of codexd's had for a moment.
    body = json.loads(response.body or b"")
    assert (response.status_code, body["type"]) == (503, "urn:codexd:full")
    assert "limit of open files" in body["detail"]
    wait_event(box, "hub.full")
    # Whoever only asks is answered, also beside guests that say nothing.
    guests = [connect(path, crowd) for _ in range(FILES)]
    assert ask(path, crowd, "GET /readyz HTTP/1.1\r\nHost: x")[0] == 200
    check_restart(box)
    assert all("result" in one.ask("thread/loaded/list", {}) for one in clients)
    for one in clients[:10]:
        one.close()
    for guest in guests:
        guest.close()
    eventually(lambda: ask(path, crowd, "GET /readyz HTTP/1.1\r\nHost: x")[0] == 200, what="room")
    assert "result" in client(path, crowd).ask("thread/loaded/list", {})
