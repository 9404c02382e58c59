"""The page is put together from those who count, while they live and after the server's death."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from codexd.child.steps import Step
from codexd.clock import now_iso
from codexd.contracts import SessionRecord
from codexd.hub.counts import HubCounts
from codexd.keeper import metrics
from codexd.keeper.metrics import Metrics
from codexd.keeper.restarts import Restarts
from codexd.records.records import Records, open_records
from codexd.runtime import make_directories
from tests.support.memory import config_at
from tests.support.metrics import QUIET, value


class Colleagues:
    """Everybody who is asked: driver, health and outputs."""

    def __init__(self) -> None:
        self.is_usable = True
        self.counts = HubCounts()
        self.checks = Counter({"answered": 3})
        self.moved = {"stdout": 5, "stderr": 6}

    def snapshot(self) -> dict[str, Any]:
        return {**QUIET, "clients": 2}


class Room:
    """Metrics of a daemon whose server is any process."""

    def __init__(self, root: Path, records: Records, strategy: str) -> None:
        self.records = records
        self.people = Colleagues()
        anybody = cast("Any", self.people)
        self.metrics = Metrics(
            config_at(root, server_strategy=strategy).server,
            records,
            str(root / "family.json"),
            driver=anybody,
            health=anybody,
            outputs=anybody,
            restarts=Restarts(),
            clients_cut=lambda: 4,
        )

    def page(self) -> str:
        return asyncio.run(self.metrics.page()).decode()

    def step(self, kind: Any, number: int, pid: int) -> None:
        self.records.recorder.step(
            Step(number=number, kind=kind, at=1e9, generation=1, pid=pid, attempt=1)
        )


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)
    with open_records(config, timeout_s=0) as records:
        yield records


def test_everybody_is_asked(tmp_path: Path, records: Records) -> None:
    room = Room(tmp_path, records, "spawn")
    now = now_iso()
    for status in ("active", "active", "closed"):
        session = SessionRecord(
            session_id=f"session-{len(records.state.sessions)}",
            purpose="worker",
            status=cast("Any", status),
            endpoint="x",
            created_at=now,
            updated_at=now,
        )
        records.state.put_session(session)
    for _ in range(2):
        records.recorder.event("info", "client.connected", "A client connected.")
    room.people.counts.from_clients = 7
    text = room.page()
    told = {
        "codexd_server_ready": 1,
        "codexd_hub_clients": 2,
        "codexd_hub_clients_cut_total": 4,
    }
    assert {name: value(text, name) for name in told} == told
    assert value(text, "codexd_sessions", purpose="worker", status="active") == 2
    assert value(text, "codexd_sessions", purpose="worker", status="closed") == 1
    assert value(text, "codexd_events_total", type="client.connected") == 2
    assert value(text, "codexd_events_total", type="other") == 0
    assert value(text, "codexd_health_checks_total", result="answered") == 3
    assert value(text, "codexd_output_bytes_total", stream="stderr") == 6
    assert value(text, "codexd_hub_messages_total", direction="from_client") == 7


def test_what_makes_the_page_is_loaded_once_and_beside_the_loop(
    tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path, records, "spawn")
    loaded_in: list[int] = []
    monkeypatch.setattr(metrics, "load", lambda: loaded_in.append(threading.get_ident()))
    assert room.page() == room.page()
    assert len(loaded_in) == 1
    assert threading.get_ident() not in loaded_in


def test_a_server_that_dies_takes_its_numbers_with_it(tmp_path: Path, records: Records) -> None:
    room = Room(tmp_path, records, "spawn")
    assert value(room.page(), "codexd_server_processes") == 0
    with subprocess.Popen(["sleep", "60"]) as server:
        try:
            room.step("spawned", 1, server.pid)
            text = room.page()
            assert value(text, "codexd_server_state", state="running") == 1
            assert value(text, "codexd_server_start_time_seconds") == 1e9
            assert value(text, "codexd_server_processes") == 1
            assert (value(text, "codexd_server_resident_memory_bytes") or 0) > 0
            assert (value(text, "codexd_server_open_fds") or 0) >= 3
        finally:
            server.kill()
        server.wait()
        # Nobody has recorded it yet.
        assert value(room.page(), "codexd_server_processes") == 0
        assert value(room.page(), "codexd_server_resident_memory_bytes") is None
        room.step("ended", 2, server.pid)
    text = room.page()
    assert value(text, "codexd_server_state", state="running") == 0
    assert value(text, "codexd_server_start_time_seconds") is None


def test_of_anothers_server_no_process_is_known(tmp_path: Path, records: Records) -> None:
    room = Room(tmp_path, records, "external")
    records.state.update_child(pid=os.getpid())
    assert value(room.page(), "codexd_server_processes") is None
