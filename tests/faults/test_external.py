"""A server of somebody else: watched, used, never started and never ended."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from codex_cli_bin import bundled_codex_path

from codexd.client.circus import running_turns
from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@contextmanager
def server_on(box: DaemonBox, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(bundled_codex_path()), "app-server", "--listen", f"unix://{path}"]
    with subprocess.Popen(
        command, env=box.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _is_ready(box: DaemonBox) -> bool:
    child = box.child()
    return child is not None and bool(child["ready"])


def test_an_endpoint_that_comes_goes_and_comes_back(make_box: MakeBox) -> None:
    box = make_box()
    path = box.root / "server.sock"
    box.flags += ["--server-strategy=external", f"--server-endpoint=unix://{path}"]
    process = box.start(wait=False)
    eventually(lambda: "child=external" in box.output(), what="the status line")
    assert not _is_ready(box)
    assert box.run("status", "--check").returncode == 3
    with server_on(box, path) as server:
        eventually(lambda: _is_ready(box), what="a ready endpoint")
        assert box.run("status", "--check").returncode == 0
        client = AppClient(box.config.runtime.hub_socket_path)
        thread = client.start_thread()
        eventually(lambda: running_turns(box.config.runtime) == 0, what="word that no turn runs")
        # The daemon's strategy counts, not that of the shell.
        refused = box.run("restart", "--repo-root", str(box.root), flags=False)
        assert refused.returncode == 1
        assert "external" in refused.stderr
        assert server.poll() is None
    eventually(lambda: not _is_ready(box), what="an endpoint that is gone")
    child = box.child()
    assert child is not None
    assert (child["status"], child["pid"]) == ("external", None)
    assert child["lastError"]
    with server_on(box, path) as server:
        eventually(lambda: _is_ready(box), what="a ready endpoint")
        # Also a thread that was never used is there again.
        assert client.call("thread/read", {"threadId": thread})["thread"]["id"] == thread
        assert client.seen_of("thread/closed") == []
        assert client.start_thread() != thread
        assert box.stop() == 0
        assert server.poll() is None
    assert process.returncode == 0
    child = box.child()
    assert child is not None
    assert child["status"] == "idle"
    assert [event for event in box.events() if event["type"] == "child.started"] == []
