"""`codexd doctor` on a real daemon: well, and then broken."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def doctor(room: HubRoom) -> tuple[int, dict[str, Any]]:
    """The exit code, and each check by its name."""
    done = room.box.run("doctor", "--json")
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["healthy"] is (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in document["checks"]}


def test_a_daemon_that_is_well_and_then_is_not(make_room: MakeRoom) -> None:
    room = make_room()
    room.box.wait_quiet()
    code, checks = doctor(room)
    assert {name for name, check in checks.items() if check["status"] == "failed"} == set()
    assert code == 0
    assert "needs no login" in checks["login"]["detail"]
    assert f"pid {room.box.plugin().pid}" in checks["plugin"]["detail"]
    assert checks["crash"]["status"] == "ok"

    child = room.box.child()
    assert child is not None
    os.kill(child["pid"], signal.SIGABRT)
    room.box.wait_ready(other_than=child["pid"])
    eventually(
        lambda: "SIGABRT" in doctor(room)[1]["crash"]["detail"], what="the crash in the events"
    )
    _, checks = doctor(room)
    assert checks["crash"]["status"] == "warn"

    plugin = room.box.plugin()
    plugin.suspend()
    try:
        code, checks = doctor(room)
    finally:
        plugin.resume()
    assert code == 1
    assert checks["hub"]["status"] == "failed"
    assert "codexd stop" in checks["hub"]["mend"]

    lines = room.box.run("doctor").stdout.splitlines()
    assert [line.split("\t")[1] for line in lines] == list(checks)
    assert {len(line.split("\t")) for line in lines} == {4}
