"""The ini of `codexd render-circus` under a plain `circusd`, in a fresh directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeBox
from tests.support.codex import CodexServer, short_directory
from tests.support.daemon import DaemonBox
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

CIRCUSD = [sys.executable, "-c", "from circus.circusd import main; main()"]


def circusd(box: DaemonBox) -> subprocess.Popen[bytes]:
    """Render the ini and run circusd with it."""
    rendered = box.run("render-circus")
    assert (rendered.returncode, rendered.stderr) == (0, "")
    ini = box.root / "circus.ini"
    ini.write_text(rendered.stdout, "utf-8")
    return box.launch(*CIRCUSD, str(ini))


def test_it_does_what_codexd_start_does(make_box: MakeBox) -> None:
    box = make_box()
    daemon = circusd(box)
    first = box.wait_ready()
    assert box.run("status", "--check").returncode == 0
    runtime = Path(box.config.runtime.runtime_dir)
    assert {path.stat().st_mode & 0o777 for path in (box.state_dir, runtime)} == {0o700}

    os.kill(first["pid"], signal.SIGKILL)
    second = box.wait_ready(other_than=first["pid"])
    box.order("stop")
    eventually(lambda: _status(box) == "stopped", what="a stopped child")
    box.order("start")
    box.wait_ready(other_than=second["pid"])

    refused = box.run("start")
    assert refused.returncode == 1
    assert f"as pid {daemon.pid}" in refused.stderr

    box.stop_cleanly()
    state = box.read("daemon-state.json")
    assert state is not None
    assert (state["started"], state["pid"]) == (False, None)
    child = state["child"]
    assert (child["status"], child["exitCode"], child["pid"]) == ("stopped", 0, None)
    kept = [event["type"] for event in box.events()]
    kept = [kind for kind in kept if kind.startswith("daemon.") or kind == "child.exited"]
    assert kept == ["daemon.started", *["child.exited"] * 3, "daemon.stopped"]
    assert not runtime.exists()
    assert "Traceback" not in box.errors()

    # codexd goes on from there.
    assert box.run("start", "--run-once").returncode == 0
    assert len(box.events("daemon.stopped")) == 2


def test_an_external_server_is_watched(make_box: MakeBox) -> None:
    with short_directory() as directory:
        server = CodexServer(directory)
        flags = ("--server-strategy", "external", "--server-endpoint", server.endpoint)
        box = make_box(*flags)
        try:
            server.start_ready()
            circusd(box)
            assert box.wait_ready()["status"] == "external"
            box.stop_cleanly()
        finally:
            server.kill()
        assert [event["type"] for event in box.events()] == [
            "daemon.started",
            "child.external",
            "child.ready",
            "daemon.stopped",
        ]


def test_it_leaves_a_daemon_that_runs_alone(make_box: MakeBox) -> None:
    box = make_box()
    first = box.start()
    child = box.wait_ready()
    second = circusd(box)
    assert second.wait(30) == 1
    said = box.output() + box.errors()
    assert f"codexd already runs on this state directory, as pid {first.pid}" in said
    # Its sockets are still its own.
    assert "codex-app-server: active" in box.run("ctl", "status").stdout
    assert box.child() == child
    box.process = first
    box.stop_cleanly()


def _status(box: DaemonBox) -> str | None:
    child = box.child()
    return None if child is None else child["status"]
