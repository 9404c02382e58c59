"""Handles that clients choose, and that mean something on their own connection only."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.client import AppClient
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


def _cat(client: AppClient) -> int:
    params = {"processId": "p", "streamStdin": True, "streamStdoutStderr": True}
    return client.ask("command/exec", {"command": ["cat"], **params})


def _write(client: AppClient, text: str) -> None:
    data = base64.b64encode(text.encode()).decode()
    client.call("command/exec/write", {"processId": "p", "deltaBase64": data})


def _output(client: AppClient) -> str:
    delta = client.notification("command/exec/outputDelta", processId="p")["deltaBase64"]
    return base64.b64decode(delta).decode()


def _cats(room: HubRoom) -> int:
    """How many of them run, in codex's sandbox or not."""
    count = 0
    for child in psutil.Process(room.child_pid).children():
        with contextlib.suppress(psutil.Error):
            count += child.cmdline()[-1:] == ["cat"]
    return count


def _changes(client: AppClient, path: Path) -> bool:
    """Whether a change of the file is heard of."""
    path.write_text("x")
    with contextlib.suppress(TimeoutError):
        return bool(client.notification("fs/changed", 0.5, watchId="w")["changedPaths"])
    return False


def test_processes_of_two_clients_under_one_name_do_not_meet(room: HubRoom) -> None:
    one, two = room.client("one"), room.client("two")
    commands = {client: _cat(client) for client in (one, two)}
    _write(one, "first")
    _write(two, "second")
    assert (_output(one), _output(two)) == ("first", "second")
    again = one.answer_to(_cat(one))
    assert again["error"]["code"] == -32600
    for client, command in commands.items():
        client.call("command/exec/write", {"processId": "p", "closeStdin": True})
        assert client.answer_to(command)["result"]["exitCode"] == 0
    # The name is free again.
    command = _cat(one)
    one.call("command/exec/terminate", {"processId": "p"})
    assert one.answer_to(command)["result"]["exitCode"] != 0


def test_watches_of_two_clients_under_one_name_do_not_meet(room: HubRoom) -> None:
    clients = {name: room.client(name) for name in ("one", "two")}
    for name, client in clients.items():
        (room.root / name).mkdir()
        client.call("fs/watch", {"watchId": "w", "path": str(room.root / name)})
    for name, client in clients.items():
        (room.root / name / "file").write_text("x")
        changed = client.notification("fs/changed", watchId="w")["changedPaths"]
        assert changed == [str(room.root / name / "file")]
    clients["one"].call("fs/unwatch", {"watchId": "w"})
    (room.root / "two" / "other").write_text("x")
    assert clients["two"].notification("fs/changed")["changedPaths"][0].endswith("other")


def test_who_leaves_takes_his_processes_along(room: HubRoom) -> None:
    one, two = room.client("one"), room.client("two")
    _cat(one)
    _cat(two)
    _write(two, "x")
    _write(one, "x")
    assert _cats(room) == 2
    one.close()
    eventually(lambda: _cats(room) == 1)
    assert _output(two) == "x"
    _write(two, "still here")
    assert _output(two) == "still here"


def test_after_a_crash_processes_have_ended_and_watches_go_on(
    room: HubRoom, tmp_path: Path
) -> None:
    client = room.client()
    command = _cat(client)
    spawn: dict[str, Any] = {"command": ["sleep", "60"], "processHandle": "h", "cwd": "/"}
    client.call("process/spawn", spawn)
    client.call("fs/watch", {"watchId": "w", "path": str(tmp_path)})
    room.kill_child()
    error = client.answer_to(command)["error"]
    assert error["data"]["codexd"]["reason"] == "server_restarted"
    assert client.notification("process/exited", processHandle="h")["exitCode"] == -1
    eventually(lambda: _changes(client, tmp_path / "file"), what="the watch in the new server")
    client.call("process/spawn", spawn)
    client.call("process/kill", {"processHandle": "h"})
    assert client.notification("process/exited", processHandle="h")["exitCode"] != 0
