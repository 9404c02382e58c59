from __future__ import annotations

import time
from typing import Any

import pytest

from codexd.child.told import Report, Told
from codexd.contracts import ChildState, DaemonState
from codexd.supervisor.status_text import status_text

PID = 4


def text(report: dict[str, Any] | None = None, *, pid: int = PID, **child: Any) -> str:
    told = Told(lambda _: True)
    if report is not None:
        told.take(Report(plugin=1, child=2, **report), time.monotonic())
    facts = {"strategy": "spawn", "mode": "app-server", "endpoint": "stdio://x", **child}
    state = DaemonState(updated_at="", pid=pid, child=ChildState(**facts))
    return status_text(state, told, PID)


UP = {"server": "up"}


@pytest.mark.parametrize(
    ("report", "child", "expected"),
    [
        (UP, {"status": "running", "ready": True}, "ready"),
        ({**UP, "turns": 1}, {"status": "running", "ready": True}, "ready, 1 turn running"),
        ({**UP, "turns": 2}, {"status": "external", "ready": True}, "ready, 2 turns running"),
        (None, {"status": "running", "ready": True}, "the plugin does not answer"),
        ({"server": "recovering"}, {"status": "running", "ready": True}, "are being resumed"),
        (UP, {"status": "running", "last_error": "It hangs."}, "not ready: It hangs."),
        (
            None,
            {"status": "failed", "last_error": "Code 3.", "next_restart_at": "12:00"},
            "the server is failed: Code 3. Next try at 12:00.",
        ),
        (None, {"status": "stopped"}, "the server is stopped"),
        ({}, {"status": "running", "mode": "exec"}, "running"),
    ],
)
def test_it_says_what_a_client_would_find(
    report: dict[str, Any] | None, child: dict[str, Any], expected: str
) -> None:
    assert expected in text(report, **child)


def test_the_record_of_an_earlier_daemon_says_nothing() -> None:
    assert text(UP, pid=5, status="running", ready=True) == "starting"
    assert status_text(None, Told(lambda _: True), PID) == "starting"
