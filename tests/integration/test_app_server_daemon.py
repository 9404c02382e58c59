"""`codex app-server daemon VERB`, answered by codexd as the vendor's codex answers it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.support.checkout import ROOT
from tests.support.client import AppClient
from tests.support.codex import codex_path, short_directory
from tests.support.daemon import DaemonBox, daemon_box

pytestmark = pytest.mark.real

# The members that codex 0.163 and 0.169 print, in their order.
SERVER = ["managedCodexPath", "managedCodexVersion", "socketPath", "cliVersion"]
RUNNING = [*SERVER, "appServerVersion"]
REMOTE = ["remoteControlEnabled", "socketPath", "cliVersion", "appServerVersion"]
VERSION = "0.163.0"


class Shim:
    """`codex` as tools find it, in a box of its own."""

    def __init__(self, box: DaemonBox) -> None:
        self.box = box
        self.codex = box.root / "shims/codex"
        self.codex.parent.mkdir()
        self.codex.symlink_to(ROOT / "ops/codex-shim")
        box.env["PATH"] = f"{self.codex.parent}:{box.env['PATH']}"
        box.env["BAA_CODEXD_REPO_ROOT"] = str(box.root)
        self.control = str(box.codex_home / "app-server-control/app-server-control.sock")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.codex), "app-server", *words],
            capture_output=True,
            text=True,
            env=self.box.env,
            cwd="/",
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def verb(self, *words: str) -> dict[str, Any]:
        """What a verb prints: one line of JSON."""
        done = self.run("daemon", *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def refused(self, *words: str) -> tuple[int, str]:
        """The exit code and the one line of a verb that does not do it."""
        done = self.run("daemon", *words)
        assert done.stdout == ""
        assert done.stderr.startswith("codexd: ")
        assert done.stderr.count("\n") == 1
        return done.returncode, done.stderr


@pytest.fixture
def shim() -> Iterator[Shim]:
    with short_directory() as root, daemon_box(root) as box:
        yield Shim(box)


@pytest.fixture
def running(shim: Shim) -> Shim:
    """With a daemon that `codex app-server daemon start` has started."""
    started = shim.verb("start")
    shim.box.adopt(started["pid"])
    assert list(started) == ["status", "backend", "pid", *RUNNING]
    assert started["status"] == "started"
    return shim


def test_without_a_daemon(shim: Shim) -> None:
    idle = shim.verb("stop")
    assert list(idle) == ["status", *SERVER]
    assert idle["status"] == "notRunning"
    assert idle["managedCodexPath"] == codex_path()
    assert idle["managedCodexVersion"] == idle["cliVersion"] == VERSION
    code, said = shim.refused("version")
    assert (code, shim.control in said) == (1, True)
    assert shim.refused("enable-remote-control")[0] == 1
    assert shim.refused("bogus")[0] == 2
    # codex's own overrides are taken, and do nothing there either.
    assert shim.verb("-c", "model=x", "stop", "--enable", "y")["status"] == "notRunning"


def test_a_life_under_its_verbs(running: Shim) -> None:
    box = running.box
    child = box.wait_ready()
    again = running.verb("start")
    assert list(again) == ["status", "backend", *RUNNING]
    assert again["status"] == "alreadyRunning"
    # A tool that knows only the vendor's place finds the hub there.
    assert again["socketPath"] == running.control
    client = AppClient(running.control, "tool")
    try:
        told = running.verb("version")
        assert list(told) == ["status", "backend", *RUNNING]
        assert (told["status"], told["appServerVersion"]) == ("running", VERSION)
        restarted = running.verb("restart")
        assert list(restarted) == ["status", "backend", "pid", *RUNNING]
        (daemon,) = box.started
        assert (restarted["status"], restarted["pid"]) == ("restarted", daemon.pid)
        assert box.wait_ready(other_than=child["pid"])
        # Its clients are still there.
        assert client.call("thread/loaded/list")["data"] == []
    finally:
        client.close()
    code, said = running.refused("enable-remote-control")
    assert (code, "requires ChatGPT authentication" in said) == (1, True)
    off = running.verb("disable-remote-control")
    assert list(off) == ["status", "backend", *REMOTE]
    assert (off["status"], off["remoteControlEnabled"]) == ("alreadyDisabled", False)
    bootstrapped = running.verb("bootstrap")
    state = ["autoUpdateEnabled", "remoteControlEnabled"]
    assert list(bootstrapped) == ["status", "backend", *state, *RUNNING]
    assert (bootstrapped["status"], bootstrapped["autoUpdateEnabled"]) == ("bootstrapped", False)
    assert "requires ChatGPT authentication" in running.refused("bootstrap", "--remote-control")[1]
    stopped = running.verb("stop")
    assert list(stopped) == ["status", "backend", *SERVER]
    assert stopped["status"] == "stopped"
    box.wait_for_nobody()
    assert not os.path.lexists(running.control)
    # What the commands ask themselves gives the server no name.
    introduced = json.loads((box.state_dir / "introduction.json").read_text())
    assert introduced["clientInfo"]["name"] == "tool"


def test_a_socket_that_the_dead_have_left(running: Shim) -> None:
    box = running.box
    box.note_processes()
    for process in box.processes():
        process.send_signal(signal.SIGKILL)
    box.wait_for_nobody()
    assert os.path.lexists(running.control)
    assert running.refused("version")[0] == 1
    assert running.verb("stop")["status"] == "notRunning"
    restarted = running.verb("restart")
    assert restarted["status"] == "restarted"
    box.adopt(restarted["pid"])
    AppClient(running.control, "tool").close()


class ProxyClient:
    """A WebSocket over the stdin and stdout of a command, as `ssh HOST codex app-server proxy`."""

    def __init__(self, shim: Shim, *words: str) -> None:
        self.process = subprocess.Popen(
            [str(shim.codex), "app-server", "proxy", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=shim.box.env,
            cwd="/",
        )
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"))
        self._protocol.send_request(self._protocol.connect())
        self._write()
        while self._protocol.state is State.CONNECTING:
            self._read()

    def _write(self) -> None:
        assert self.process.stdin is not None
        for data in self._protocol.data_to_send():
            self.process.stdin.write(data)
        self.process.stdin.flush()

    def _read(self) -> list[Frame]:
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 65536)
        assert data, "it has ended"
        self._protocol.receive_data(data)
        return [e for e in self._protocol.events_received() if isinstance(e, Frame)]

    def call(self, request: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        text = json.dumps({"id": request, "method": method, "params": params})
        self._protocol.send_text(text.encode())
        self._write()
        while True:
            for frame in self._read():
                message: dict[str, Any] = json.loads(bytes(frame.data))
                if message.get("id") == request:
                    return message

    def close(self) -> None:
        """Hang up."""
        self.process.kill()
        self.process.communicate()


def test_a_proxy_is_a_client_that_goes_on(running: Shim) -> None:
    client = ProxyClient(running, "--sock", running.control)
    try:
        info = {"clientInfo": {"name": "far", "version": "1"}}
        assert "result" in client.call(1, "initialize", info)
        running.box.plugin().kill()
        assert client.call(2, "thread/loaded/list", {})["result"]["data"] == []
        assert client.process.stdin is not None
        client.process.stdin.close()
        client.process.stdin = None
        assert client.process.wait(20) == 0
    finally:
        client.close()


def test_what_is_codexs_own_is_its_own(shim: Shim) -> None:
    out = shim.box.root / "schema"
    done = shim.run("generate-json-schema", "--out", str(out))
    assert done.returncode == 0
    assert list(out.glob("*.json"))
    # Somebody else's socket is no business of the daemon's.
    done = shim.run("proxy", "--sock", str(shim.box.root / "none.sock"))
    assert done.returncode == 1
    assert "failed to connect" in done.stderr or "No such file" in done.stderr
    assert "codexd" not in done.stderr
