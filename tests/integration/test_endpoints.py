"""The child in each way that it can be spoken to, on the real codex."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.codex import CodexServer, RawClient, codex_path, free_port, short_directory
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for every socket below it."""
    with short_directory() as path:
        yield path


def listening(box: DaemonBox, endpoint: str) -> dict[str, Any]:
    """Start on an endpoint that codex listens on; the child's record."""
    box.start()
    child = box.wait_ready()
    assert child["endpoint"] == endpoint
    assert child["args"] == ["app-server", "--listen", endpoint]
    return child


def comes_back(box: DaemonBox, child: dict[str, Any]) -> None:
    """Kill the child; it is ready again as another process, on the same endpoint."""
    os.kill(child["pid"], signal.SIGKILL)
    again = box.wait_ready(other_than=child["pid"])
    assert again["args"] == child["args"]
    assert [event["detail"]["signal"] for event in box.events("child.exited")] == ["SIGKILL"]


def test_a_unix_socket(directory: Path) -> None:
    endpoint = f"unix://{directory}/app.sock"
    with daemon_box(directory / "repo", "--server-endpoint", endpoint) as box:
        comes_back(box, listening(box, endpoint))
        box.stop_cleanly()


def test_the_default_control_socket_is_what_a_plain_codex_attaches_to(directory: Path) -> None:
    with daemon_box(directory / "r", "--server-endpoint", "unix://") as box:
        child = listening(box, "unix://")
        control = box.codex_home / "app-server-control" / "app-server-control.sock"
        # A thread that is started on the control socket is one of the supervised server.
        plain = RawClient(str(control))
        plain.initialize()
        thread = plain.ask("thread/start", {"cwd": "/"})["result"]["thread"]["id"]
        ours = RawClient(box.config.runtime.hub_socket_path)
        ours.initialize()
        assert thread in ours.ask("thread/loaded/list", {})["result"]["data"]
        plain.close()
        ours.close()
        comes_back(box, child)
        again = RawClient(str(control))
        assert again.initialize()["userAgent"]
        again.close()
        box.stop_cleanly()


def test_a_tcp_port_of_the_loopback(directory: Path) -> None:
    endpoint = f"ws://127.0.0.1:{free_port()}"
    with daemon_box(directory / "repo", "--server-endpoint", endpoint) as box:
        comes_back(box, listening(box, endpoint))
        box.stop_cleanly()


def test_a_tcp_port_that_asks_for_a_token(directory: Path) -> None:
    token = directory / "token"
    token.write_text("f" * 43 + "\n")
    token.chmod(0o600)
    endpoint = f"ws://127.0.0.1:{free_port()}"
    words = ("app-server", "--ws-auth", "capability-token", "--ws-token-file", str(token))
    flags = [flag for word in words for flag in ("--server-arg", word)]
    with daemon_box(directory / "repo", "--server-endpoint", endpoint, *flags) as box:
        box.start()
        assert box.wait_ready()["lastError"] is None
        box.stop_cleanly()


def test_an_external_server_that_asks_for_a_token_says_so_and_lives(directory: Path) -> None:
    token = directory / "token"
    token.write_text("f" * 43)
    port = free_port()
    command = [codex_path(), "app-server", "--listen", f"ws://127.0.0.1:{port}"]
    command += ["--ws-auth", "capability-token", "--ws-token-file", str(token)]
    home = directory / "home"
    home.mkdir()
    environment = {"CODEX_HOME": str(home), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        flags = ("--server-strategy", "external", "--server-endpoint", f"ws://127.0.0.1:{port}")
        try:
            with daemon_box(directory / "repo", *flags) as box:
                box.start(wait=False)
                (event,) = eventually(lambda: box.events("link.refused"), what="the refusal")
                assert "--ws-token-file" in event["message"]
                eventually(
                    lambda: (box.child() or {}).get("lastError") == event["message"],
                    what="the refusal in the status",
                )
                box.stop_cleanly()
            assert server.poll() is None
        finally:
            server.kill()


def test_an_external_server_comes_goes_and_comes_back(directory: Path) -> None:
    server = CodexServer(directory)
    flags = ("--server-strategy", "external", "--server-endpoint", server.endpoint)
    with daemon_box(directory / "repo", *flags) as box:
        try:
            # The daemon is up although nothing is there yet, and says so.
            box.start(wait=False)
            (line,) = eventually(lambda: box.output(), what="the status line").splitlines()
            assert " daemon=running child=external strategy=external " in line
            child = box.child()
            assert child is not None
            assert (child["status"], child["ready"], child["pid"]) == ("external", False, None)
            assert box.run("status", "--check").returncode == 3

            server.start()
            assert box.wait_ready()["status"] == "external"
            assert box.run("status", "--check").returncode == 0

            server.kill()
            gone = eventually(lambda: _not_ready(box), what="the loss to be noticed")
            assert gone["status"] == "external"
            assert gone["lastError"]
            server.start()
            assert box.wait_ready()["lastError"] is None

            box.stop_cleanly()
            assert server.process is not None
            assert server.process.poll() is None
        finally:
            server.kill()
        child = box.child()
        assert child is not None
        assert (child["status"], child["ready"]) == ("idle", False)
        types = [event["type"] for event in box.events()]
        assert types.count("child.external") == 1
        assert types.count("child.ready") == 2
        assert not {"child.started", "child.exited", "child.spawn.failed"} & set(types)
        assert types[-1] == "daemon.stopped"


def test_an_external_server_after_one_that_was_spawned(directory: Path) -> None:
    # What circusd did for an earlier daemon says nothing of this one, however this one ends.
    with daemon_box(directory / "repo") as box:
        assert box.run("start", "--run-once").returncode == 0
        flags = ("--server-strategy", "external", "--server-endpoint", f"unix://{directory}/no")
        daemon = box.start(*flags, wait=False)
        eventually(lambda: len(box.output().splitlines()) == 1, what="the status line")
        daemon.kill()
        daemon.wait(10)
        eventually(lambda: not box.leftovers(), what="the plugin to end")
        assert box.run("start", *flags, "--run-once").returncode == 0
        child = box.child()
        assert child is not None
        assert (child["status"], child["endpoint"]) == ("idle", f"unix://{directory}/no")
        last = box.run("start", "--run-once")
        assert (last.returncode, last.stderr) == (0, "")
        assert len(box.events("child.exited")) == 2


EXEC = """
import sys, time
print("end of input" if sys.stdin.read() == "" else "input", flush=True)
time.sleep(600)
"""


def python(code: str, *, mode: str = "exec") -> tuple[str, ...]:
    """Flags for a child that runs ``code``."""
    return (
        "--mode",
        mode,
        "--server-command",
        sys.executable,
        "--server-arg=-c",
        f"--server-arg={code}",
    )


def test_mode_exec_is_supervised_and_never_ready(directory: Path) -> None:
    with daemon_box(directory / "repo", *python(EXEC)) as box:
        box.start(wait=False)
        (line,) = eventually(lambda: box.output(), what="the status line").splitlines()
        assert " child=running strategy=spawn mode=exec " in line
        # Its stdin is null: it reads the end at once.
        out = box.logs_dir / "stdout.log"
        eventually(lambda: out.read_bytes() == b"end of input\n", what="the output")
        eventually(lambda: box.events("child.stdout"), what="the event of the output")
        child = box.child()
        assert child is not None
        assert (child["ready"], child["readyAt"]) == (False, None)
        assert box.run("status", "--check").returncode == 0

        os.kill(child["pid"], signal.SIGKILL)
        again = eventually(lambda: _other(box, child["pid"]), what="another child")
        assert again["ready"] is False
        box.stop_cleanly()
        assert not box.events("child.ready")
        stopped = box.child()
        assert stopped is not None
        assert (stopped["status"], stopped["signal"]) == ("stopped", "SIGTERM")


@pytest.mark.parametrize(
    ("restart", "code", "status", "error"),
    [("never", 7, "failed", "Child exited with code 7."), ("on-failure", 0, "stopped", None)],
)
def test_a_child_that_ends_for_good(
    directory: Path, restart: str, code: int, status: str, error: str | None
) -> None:
    flags = (*python(f"raise SystemExit({code})"), "--restart", restart)
    with daemon_box(directory / "repo", *flags) as box:
        box.start(wait=False)
        eventually(lambda: box.events("child.exited"), what="the end")
        child = eventually(lambda: _ended(box), what="the record of the end")
        assert (child["status"], child["exitCode"], child["signal"]) == (status, code, None)
        assert (child["lastError"], child["nextRestartAt"]) == (error, None)
        eventually(lambda: box.output(), what="the status line")
        box.stop_cleanly()
        after = box.child()
        assert after is not None
        assert (after["status"], after["lastError"]) == (status, error)
        assert len(box.events("child.started")) == 1
        exited = box.events("child.exited")[0]
        assert (exited["detail"]["code"], exited["detail"]["signal"]) == (code, None)
        assert exited["level"] == ("error" if code else "info")


BABBLE = """
import sys
sys.stdout.write("hello\\n{not json}\\n[1]\\n{}\\n" + '{"id": [], "method": 5}\\n')
sys.stdout.buffer.write(b"\\xff\\xfe\\n")
sys.stdout.flush()
for line in sys.stdin:
    sys.stdout.write(line)
    sys.stdout.flush()
"""


def test_a_child_that_does_not_speak_the_protocol(directory: Path) -> None:
    # It answers with its own question, and with much that is no message at all.
    with daemon_box(directory / "repo", *python(BABBLE, mode="app-server")) as box:
        box.start(wait=False)
        (line,) = eventually(lambda: box.output(), what="the status line").splitlines()
        assert " daemon=running child=running " in line
        child = box.child()
        assert child is not None
        assert (child["ready"], child["restarts"]) == (False, 0)
        assert box.run("status", "--check").returncode == 3
        out = box.logs_dir / "stdout.log"
        eventually(lambda: b'"initialize"' in out.read_bytes(), what="the echo")
        assert out.read_bytes().startswith(b"hello\n{not json}\n[1]\n{}\n")
        box.stop_cleanly()
        assert not box.events("child.ready", "child.unhealthy")
        assert "Traceback" not in box.errors()


def _not_ready(box: DaemonBox) -> dict[str, Any] | None:
    child = box.child()
    return child if child is not None and not child["ready"] else None


def _other(box: DaemonBox, pid: int) -> dict[str, Any] | None:
    child = box.child()
    is_other = child is not None and child["status"] == "running" and child["pid"] != pid
    return child if is_other else None


def _ended(box: DaemonBox) -> dict[str, Any] | None:
    child = box.child()
    return child if child is not None and child["exitedAt"] else None
