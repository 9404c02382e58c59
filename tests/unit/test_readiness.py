"""What is on record of a child that has ended says nothing of the next one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codexd.child.outcome import Outcome
from codexd.store.snapshot import read_daemon
from codexd.supervisor import readiness
from codexd.supervisor.readiness import wait_for_process
from tests.support.memory import config_at

PID = 7
BEFORE = {
    "strategy": "spawn",
    "mode": "app-server",
    "endpoint": "stdio://codex-app-server",
    "status": "running",
    "pid": 70,
    "ready": True,
}


class Rig:
    """A daemon whose state file is written here; each look advances time."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = config_at(root)
        self.looks = 0
        self.writes: dict[int, dict[str, Any]] = {}
        self.write(BEFORE)
        clock = SimpleNamespace(monotonic=lambda: float(self.looks), sleep=lambda _: None)
        monkeypatch.setattr(readiness, "time", clock)

    def write(self, child: dict[str, Any]) -> None:
        path = Path(self.config.paths.daemon_state_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {"started": True, "updatedAt": "", "pid": PID, "child": child}
        path.write_text(json.dumps(state))

    def wait(self) -> Outcome | None:
        record = read_daemon(self.config.paths)
        assert record is not None
        return wait_for_process(self.config, PID, self._look, after=record.child)

    def _look(self) -> bool:
        self.looks += 1
        if self.looks in self.writes:
            self.write({**BEFORE, **self.writes[self.looks]})
        return False


def test_a_restart_is_over_when_the_next_child_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    rig.writes = {2: {"ready": False, "status": "failed", "pid": None}, 4: {"pid": 71}}
    outcome = rig.wait()
    assert outcome is not None
    assert (outcome.kind, rig.looks) == ("up", 4)


def test_the_record_of_the_one_before_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    failed = {"status": "failed", "pid": None, "ready": False, "lastError": "no such program"}
    rig.writes = {2: {**failed, "nextRestartAt": "2026-01-01T00:00:00.000Z"}}
    outcome = rig.wait()
    assert outcome == Outcome("failed", "no such program")


@pytest.mark.parametrize(("answers", "kind"), [(True, "up"), (False, "failed")])
def test_where_nothing_can_be_recorded_the_hub_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool, kind: str
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    monkeypatch.setattr(readiness, "_hub_is_ready", lambda _: answers)
    outcome = rig.wait()
    assert outcome is not None
    assert outcome.kind == kind
