"""What people are told of a server: why it ended, what is waited for, whether it is logged in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.conftest import MakeBox
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.stub import quick_health, stub_flags
from tests.support.waiting import eventually


def failed_child(box: DaemonBox) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        child = box.child()
        return child if child is not None and child["nextRestartAt"] else None

    box.start(wait=False)
    return eventually(look, what="a child that waits for its next try")


@pytest.mark.real
def test_a_crash_loop_says_why(make_box: MakeBox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        box = make_box("--server-endpoint", f"ws://127.0.0.1:{port}")
        reason = "Error: Address in use (os error 98)"
        assert failed_child(box)["lastError"] == f"Child exited with code 1: {reason}"
        (exited, *_) = box.events("child.exited")
        assert exited["message"] == "Codex child exited with code 1."
        assert exited["detail"]["reason"] == reason
        told = f"codexd: the server is not ready yet: Child exited with code 1: {reason}"
        eventually(lambda: told in box.errors(), what="the same on stderr")
        assert box.stop() == 0


@pytest.mark.real
def test_arguments_that_codex_does_not_know_are_named(make_box: MakeBox) -> None:
    box = make_box("--server-arg", "app-server", "--server-arg", "--no-such-flag")
    assert failed_child(box)["lastError"] == (
        "Child exited with code 2: error: unexpected argument '--no-such-flag' found"
    )


@pytest.mark.real
def test_a_file_that_the_server_does_not_take_is_told_by_status(make_box: MakeBox) -> None:
    box = make_box()
    path = box.codex_home / "config.toml"
    path.write_text('model = "x\n')
    box.start()
    told = f"codexd: the server says: Invalid configuration; using defaults. {path}:1:11: "
    eventually(lambda: told in box.run("status").stdout, what="word of the broken file")


@pytest.mark.real
def test_a_configuration_that_cannot_be_used_is_told(make_box: MakeBox) -> None:
    # codex 0.163 goes on with its defaults where a file is broken, and ends over an override.
    box = make_box("--server-arg=-c", "--server-arg=model_providers=7", "--server-arg=app-server")
    assert failed_child(box)["lastError"] == (
        "Child exited with code 1: Error: invalid type: integer `7`, expected a map"
    )


def test_the_line_comes_when_the_child_runs_and_then_what_is_waited_for(
    make_box: MakeBox,
) -> None:
    # It does not speak the protocol, though it is called as one that does.
    box = make_box(*stub_flags("mute"))
    box.start(wait=False)
    eventually(box.output, what="the status line")
    assert " child=running " in box.output()
    assert box.events("child.waiting") == []
    waiting = eventually(lambda: box.events("child.waiting"), what="a word of the wait")
    assert waiting[0]["message"] == "Waiting for the server to answer on stdio://codex-app-server."
    assert waiting[0]["detail"]["endpoint"] == "stdio://codex-app-server"
    told = "codexd: waiting for the server to answer on stdio://codex-app-server\n"
    eventually(lambda: told in box.errors(), what="the same on stderr")
    assert len(box.output().splitlines()) == 1
    box.stop_cleanly()


def test_missed_checks_and_the_last_answer_are_told(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("hang"), *quick_health(misses=1000, timeout_ms=100))
    box.start()

    def health() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(box.run("status", "--json").stdout)["live"]["health"]
        return found

    missed = eventually(lambda: (found := health())["misses"] > 1 and found, what="missed checks")
    assert missed["lastAnswerAt"] <= (box.child() or {})["readyAt"]
    # On a pipe the line is all there is.
    assert len(box.run("status").stdout.splitlines()) == 1
    assert "missed" in on_a_terminal(box, "status")
    box.stop_cleanly()


@pytest.mark.real
def test_an_idle_server_makes_no_events_and_its_login_is_told(make_box: MakeBox) -> None:
    box = make_box("--health-interval-ms", "50")
    box.start()

    def account() -> dict[str, Any] | None:
        found: dict[str, Any] | None = json.loads(box.run("status", "--json").stdout)["live"][
            "account"
        ]
        return found

    assert eventually(account, what="the account") == {
        "loggedIn": False,
        "required": True,
        "type": None,
    }
    assert "not logged in: run `codex login`" in on_a_terminal(box, "status")
    assert "codex login" not in box.run("status").stdout
    log = box.logs_dir / "stdout.log"
    size = log.stat().st_size
    # Twenty health checks and more.
    eventually(lambda: log.stat().st_size > size + 1000, what="answers to health checks")
    assert len(box.events("child.stdout")) <= 2
    assert "child.stdout" not in box.run("events").stdout
    # codex noted no line that it could not read.
    assert b"deserialize" not in (box.logs_dir / "stderr.log").read_bytes().lower()
    box.stop_cleanly()
    told = sum(event["detail"]["bytes"] for event in box.events("child.stdout"))
    assert told == log.stat().st_size


@pytest.mark.real
def test_a_provider_that_needs_no_login_is_not_nagged_about(make_box: MakeBox) -> None:
    box = make_box()
    (box.codex_home / "config.toml").write_text(
        'model = "m"\nmodel_provider = "mock"\n[model_providers.mock]\nname = "mock"\n'
        'base_url = "http://127.0.0.1:1/v1"\nwire_api = "responses"\n'
    )
    box.start()

    def account() -> Any:
        return json.loads(box.run("status", "--json").stdout)["live"]["account"]

    assert eventually(account, what="the account")["required"] is False
    assert "login" not in on_a_terminal(box, "status")
    box.stop_cleanly()


def test_a_daemon_whose_stdout_takes_nothing_runs_on(make_box: MakeBox) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full (Linux)")
    box = make_box(*stub_flags())
    box.launch("sh", "-c", 'exec "$@" >/dev/full', "sh", *CODEXD, "start", *box.flags)
    box.wait_ready()
    told = "codexd: the status cannot be written: No space left on device\n"
    eventually(lambda: told in box.errors(), what="a word of it")
    assert box.stop() == 0
    assert "Traceback" not in box.errors()


def on_a_terminal(box: DaemonBox, *arguments: str) -> str:
    """What one command prints on a terminal."""
    ours, theirs = os.openpty()
    command = [*CODEXD, *arguments, *box.flags]
    try:
        process = subprocess.Popen(command, stdout=theirs, env=box.env, cwd=box.root)
        os.close(theirs)
        printed = b""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            printed += piece
        assert process.wait(20) == 0
    finally:
        os.close(ours)
    return printed.decode()
