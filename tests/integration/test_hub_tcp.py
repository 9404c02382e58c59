"""The hub on TCP: a daemon that was told to listen, its token, the vendor's terminal UI."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.codex import codex_path
from tests.support.daemon import DaemonBox
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.screen import screen
from tests.support.settled import settled
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room("--hub-listen", "127.0.0.1:0")


def tcp(room: HubRoom) -> dict[str, Any]:
    """Where the daemon says that it listens."""
    told: dict[str, Any] = eventually(
        lambda: (room.live().get("tcp") or {}).get("url") and room.live()
    )
    return dict(told["tcp"])


def port_of(room: HubRoom) -> int:
    return int(tcp(room)["address"].rpartition(":")[2])


def token(room: HubRoom, *words: str) -> str:
    done = room.box.run("token", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(port: int, token: str | None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", "/v1/status", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def client(port: int, token: str) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}"}
    return connect(f"ws://127.0.0.1:{port}", additional_headers=headers, compression=None)


def test_it_says_where_it_listens_and_only_who_has_the_token_gets_in(room: HubRoom) -> None:
    told = tcp(room)
    assert told["listen"] == "127.0.0.1:0"
    assert (told["url"], told["tls"]) == (f"ws://{told['address']}", False)
    (event,) = room.box.events("hub.listening")
    assert event["detail"] == {key: told[key] for key in ("address", "url", "tls")}
    eventually(lambda: told["url"] in (room.root / "start.err").read_text(), what="a word at start")
    ours = token(room)
    assert len(ours) == 43
    assert token(room, "--path") == told["tokenFile"]
    assert os.stat(told["tokenFile"]).st_mode & 0o777 == 0o600
    port = port_of(room)
    assert [status(port, given) for given in (None, "x" * 43, ours)] == [401, 401, 200]
    # Nowhere but in its file.
    assert ours not in json.dumps(room.live())
    for path in settled(room.box.logs_dir, room.box.state_dir):
        if path.is_file():
            assert ours.encode() not in path.read_bytes(), path
    for process in room.box.processes():
        assert ours not in " ".join(process.cmdline())


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_the_vendors_terminal_ui_goes_on_over_the_death_of_the_server(room: HubRoom) -> None:
    env = {**room.box.env, "TERM": "xterm-256color", "HUB_TOKEN": token(room)}
    words = ["--remote", tcp(room)["url"], "--remote-auth-token-env", "HUB_TOKEN"]
    with screen(room.root / "tmux.sock") as terminal:
        terminal.start([codex_path(), *words], env, room.root)
        terminal.shows("mock default")
        room.model.default = lambda: Reply(deltas=["The first ", "answer."])
        terminal.enter("a first question", "The first answer.")
        held = threading.Event()
        room.model.default = lambda: Reply(deltas=["This will not "], hold=held)
        terminal.enter("a second question", "This will not")
        pid = room.kill_child()
        held.set()
        room.box.wait_ready(other_than=pid)
        terminal.shows("interrupted")
        room.model.default = lambda: Reply(deltas=["All is ", "well again."])
        terminal.enter("a third question", "All is well again.")
        assert len(room.box.events("client.connected")) == 1
        assert not room.box.events("client.disconnected")


def test_a_new_token_is_in_force_when_the_command_returns(room: HubRoom) -> None:
    old, port = token(room), port_of(room)
    with client(port, old) as connected:
        new = token(room, "--rotate")
        assert new != old
        assert [status(port, given) for given in (old, new)] == [401, 200]
        with pytest.raises(ConnectionClosed) as caught:
            connected.recv(20)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
    assert len(room.box.events("hub.token.changed")) == 1


def test_a_token_file_that_is_gone_is_told_with_what_to_do(room: HubRoom) -> None:
    path, port, old = Path(tcp(room)["tokenFile"]), port_of(room), token(room)
    path.unlink()
    event = room.event("hub.token.failed", path=str(path))
    assert "codexd token --rotate" in event["message"]
    assert status(port, old) == 503
    done = room.box.run("token")
    # It does not make one behind the back of those who have the old one.
    said = room.box.run("status").stdout
    assert done.returncode == 1
    assert "codexd token --rotate" in done.stderr
    assert "nobody new gets in over TCP" in said
    new = token(room, "--rotate")
    assert status(port, new) == 200
    assert len(room.box.events("hub.token.failed")) == 1


def test_the_port_is_the_same_after_the_death_of_the_plugin(room: HubRoom) -> None:
    port, ours, plugin = port_of(room), token(room), room.box.plugin()
    plugin.send_signal(signal.SIGKILL)
    eventually(lambda: room.box.plugin().pid != plugin.pid)
    eventually(lambda: _status_or_none(port, ours) == 200, what="the same port and token")


def _status_or_none(port: int, ours: str) -> int | None:
    try:
        return status(port, ours)
    except OSError:
        return None


# -- what cannot be -------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path) -> Iterator[DaemonBox]:
    made = DaemonBox(tmp_path)
    yield made
    made.clean_up()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--hub-listen", "0.0.0.0:0"], "--hub-allow-plaintext"),
        (
            ["--hub-listen", "[::]:0", "--hub-tls-cert", "no.pem", "--hub-tls-key", "no.key"],
            "no.pem",
        ),
        (["--hub-listen", "127.0.0.1:0", "--hub-token-file", "others"], "others"),
        (
            ["--hub-listen", "127.0.0.1:0", "--hub-token-file", "t", "--hub-read-token-file", "t"],
            "--hub-read-token-file",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    box: DaemonBox, flags: list[str], named: str
) -> None:
    (box.root / "others").write_text("a-token-that-others-can-read")
    (box.root / "others").chmod(0o644)
    done = box.run("start", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("codexd: ")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
    assert "a-token" not in done.stderr


def test_a_port_that_somebody_has_is_told_and_taken_when_it_is_free(box: DaemonBox) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        where = f"127.0.0.1:{other.getsockname()[1]}"
        box.start("--hub-listen", where)
        (event,) = box.events("hub.socket.failed")
        assert where in event["message"]
        said = f"the hub does not listen on TCP so far: Address already in use: {where}"
        eventually(lambda: said in (box.root / "start.err").read_text(), what="a word at start")
        assert box.run("status", "--check").returncode == 3
    eventually(lambda: box.events("hub.listening"), what="the port, once it is free")
    assert box.run("status", "--check").returncode == 0
    assert len(box.events("hub.socket.failed")) == 1


def test_without_a_listener_the_command_says_how_to_have_one(box: DaemonBox) -> None:
    done = box.run("token")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--hub-listen" in done.stderr
    done = box.run("token", "--read", "--hub-listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "--hub-read-token-file" in done.stderr
    # Before the first start, for a client that is told it now.
    first = box.run("token", "--hub-listen", "127.0.0.1:0")
    assert (first.returncode, first.stderr, len(first.stdout)) == (0, "", 44)
    assert box.run("token", "--hub-listen", "127.0.0.1:0").stdout == first.stdout
