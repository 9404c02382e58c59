"""`codexd smoke`: the whole daemon under the real circus, with no codex."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox

CHECKS = [
    "structured_event_log",
    "stdout_log",
    "stderr_log",
    "daemon_state",
    "recent_event_cache",
    "session_registry",
]


def test_it_tells_what_works(make_box: MakeBox) -> None:
    box = make_box()
    done = box.run("smoke")
    assert (done.returncode, done.stderr) == (0, "")
    first, *checks, status = done.stdout.splitlines()
    assert first == f"smoke daemon={_identity(box)['daemonId']}"
    assert [line.partition(":")[0] for line in checks] == [f"- ok {name}" for name in CHECKS]
    assert " daemon=stopped child=stopped " in status
    assert (box.logs_dir / "stdout.log").read_text() == "codexd smoke ready\ncodexd smoke done\n"
    assert (box.logs_dir / "stderr.log").read_text() == "codexd smoke stderr\n"

    registry = box.read("session-registry.json")
    assert registry is not None
    (session,) = registry["sessions"]
    assert (session["purpose"], session["status"]) == ("smoke", "closed")
    assert session["metadata"] == {"source": "embedded-smoke"}
    outputs = ("child.stdout", "child.stderr")
    events = [event for event in box.events() if event["type"] not in outputs]
    pid, session_id = session["childPid"], session["sessionId"]
    # Types, levels, messages and their order are those of the original.
    assert [(event["type"], event["level"], event["message"]) for event in events] == [
        ("daemon.started", "info", "codexd started in app-server mode."),
        ("child.started", "info", f"Started Codex child process {pid}."),
        ("session.registered", "info", f"Registered smoke session {session_id}."),
        ("child.exited", "info", "Codex child exited."),
        ("session.closed", "info", f"Closed session {session_id}."),
        ("daemon.stopped", "info", "codexd stopped."),
    ]
    details = [event["detail"] or {} for event in events]
    assert {"endpoint", "strategy"} <= set(details[0])
    assert {"command", "args"} <= set(details[1])
    assert details[2] == {"sessionId": session_id, "threadId": None}
    assert (details[3]["code"], details[3]["signal"]) == (0, None)
    assert details[4] == {"sessionId": session_id}
    told = " ".join(event["message"] for event in box.events("child.stdout"))
    assert re.fullmatch(r"stdout: codexd smoke ready( stdout:)? codexd smoke done", told)
    (error,) = box.events("child.stderr")
    assert (error["level"], error["message"]) == ("warn", "stderr: codexd smoke stderr")
    sizes = {kind: 0 for kind in outputs}
    for event in box.events(*outputs):
        sizes[event["type"]] += event["detail"]["bytes"]
    assert sizes == {"child.stdout": 37, "child.stderr": 20}
    box.wait_for_nobody()


def test_json_and_an_environment_full_of_settings(make_box: MakeBox) -> None:
    env = {
        "BAA_CODEXD_SERVER_ENDPOINT": "unix://",
        "BAA_CODEXD_SERVER_STRATEGY": "external",
        "BAA_CODEXD_SERVER_COMMAND": "no-such-program",
        "BAA_CODEXD_SERVER_ARGS": '["a b", "c"]',
        "BAA_CODEXD_SERVER_CWD": "/no/such/place",
        "BAA_CODEXD_RESTART": "always",
        # The one of the daemon, which may run: nobody is to come in here.
        "BAA_CODEXD_HUB_LISTEN": "127.0.0.1:0",
        "BAA_CODEXD_MODE": "exec",
        "BAA_CODEXD_DAEMON_ID": "someone",
        "BAA_NODE_ID": "node 7",
        # No codex, nor anything else, is needed.
        "PATH": "/nowhere",
    }
    box = make_box(env=env)
    done = box.run("smoke", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert [(check["name"], check["status"]) for check in document["checks"]] == [
        (name, "ok") for name in CHECKS
    ]
    assert all(check["detail"] for check in document["checks"])
    snapshot = document["snapshot"]
    assert snapshot["identity"]["nodeId"] == "node 7"
    assert snapshot["daemon"]["child"]["exitCode"] == 0
    assert snapshot["daemon"]["child"]["endpoint"] == "stdio://embedded-smoke-child"
    assert not box.events("hub.listening")


def test_a_cache_of_no_events_is_no_fault(make_box: MakeBox) -> None:
    box = make_box("--event-cache-size", "0")
    done = box.run("smoke")
    assert (done.returncode, done.stderr) == (0, "")
    assert "- ok recent_event_cache: 0 cached events" in done.stdout.splitlines()


@pytest.mark.real
def test_it_leaves_a_running_daemon_alone(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    child = box.wait_ready()
    box.wait_quiet()
    before = _contents(box)
    done = box.run("smoke", "--json")
    assert done.returncode == 0
    assert box.process is not None
    assert done.stderr.splitlines() == [
        f"codexd: pid {box.process.pid} runs here; the smoke test runs aside"
    ]
    snapshot = json.loads(done.stdout)["snapshot"]
    assert snapshot["identity"]["daemonId"] != _identity(box)["daemonId"]
    aside = Path(snapshot["config"]["paths"]["stateDir"])
    assert not aside.exists()
    assert box.wait_ready() == child
    assert _contents(box) == before
    box.stop_cleanly()


def test_a_second_run_goes_on_in_the_same_files(make_box: MakeBox) -> None:
    box = make_box()
    assert box.run("smoke").returncode == 0
    # However soon the daemon could end: what it tests needs its time.
    again = box.run("smoke", "--mode", "exec", "--smoke-lifetime-ms", "1")
    assert again.returncode == 0, again.stdout
    registry = box.read("session-registry.json")
    assert registry is not None
    assert [session["status"] for session in registry["sessions"]] == ["closed", "closed"]
    events = box.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def _identity(box: DaemonBox) -> dict[str, Any]:
    identity = box.read("identity.json")
    assert identity is not None
    return identity


def _contents(box: DaemonBox) -> dict[str, bytes]:
    places = (box.state_dir, box.logs_dir)
    return {
        path.name: path.read_bytes()
        for place in places
        for path in place.iterdir()
        if path.is_file()
    }
