"""The page of metrics: what is on it, that Prometheus can read it, and that it stays small."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.contracts import ChildState
from codexd.eventlog.types import TYPES
from codexd.histogram import Histogram
from codexd.hub.counts import CODES, LEFT, OK, OTHER, HubCounts
from codexd.hub.request_methods import REQUESTS
from codexd.keeper import server_process
from codexd.keeper.exposition import render
from codexd.keeper.metric_table import METRICS, PREFIX, Row, Scrape
from codexd.keeper.restarts import Restarts
from codexd.keeper.server_process import Reading, read_server
from codexd.platform.process import ProcessId, identify
from tests.support.metric_lint import faults
from tests.support.metrics import page, promtool, samples, scrape, value

# Others build on these: a name or a label that goes breaks their dashboards.
CONTRACT: dict[str, tuple[str, set[str]]] = {
    "info": ("gauge", {"version", "node", "daemon"}),
    "server_ready": ("gauge", set()),
    "server_state": ("gauge", {"state"}),
    "server_start_time_seconds": ("gauge", set()),
    "server_restarts_total": ("counter", {"reason"}),
    "server_recovery_seconds": ("histogram", set()),
    "server_resident_memory_bytes": ("gauge", set()),
    "server_cpu_seconds_total": ("counter", set()),
    "server_open_fds": ("gauge", set()),
    "server_processes": ("gauge", set()),
    "health_checks_total": ("counter", {"result"}),
    "hub_clients": ("gauge", set()),
    "hub_clients_cut_total": ("counter", set()),
    "hub_requests_waiting": ("gauge", set()),
    "hub_requests_total": ("counter", {"method", "code"}),
    "hub_request_duration_seconds": ("histogram", {"method"}),
    "hub_messages_total": ("counter", {"direction"}),
    "sessions": ("gauge", {"purpose", "status"}),
    "turns_running": ("gauge", set()),
    "turns_total": ("counter", {"status"}),
    "turn_duration_seconds": ("histogram", set()),
    "approvals_waiting": ("gauge", set()),
    "events_total": ("counter", {"type"}),
    "events_dropped_total": ("counter", set()),
    "output_bytes_total": ("counter", {"stream"}),
}


def types(text: str) -> dict[str, str]:
    """The type of each metric that a page names."""
    lines = [line.split() for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len({name for _, _, name, _ in lines}) == len(lines)
    return {name: kind for _, _, name, kind in lines}


def used() -> HubCounts:
    """Something of everything has gone through."""
    counts = HubCounts()
    counts.request_ended("thread/start", OK, 0.2)
    counts.request_ended("no/such", "-32601", 0.0)
    counts.turn_ended({"status": "completed"}, 12.0)
    return counts


def test_every_metric_that_others_build_on_is_there() -> None:
    text = page(scrape(counts=used()))
    told = types(text)
    for name, (kind, labels) in CONTRACT.items():
        assert told[PREFIX + name] == kind
        plain = [s for s in samples(text) if s.name.startswith(PREFIX + name)]
        assert plain, name
        found = {label for s in plain for label in s.labels} - {"le"}
        assert found >= labels, name
        assert name == "info" or found == labels, name
    assert told.keys() == {PREFIX + row.name for row in METRICS}


def test_who_it_is_stands_in_one_place() -> None:
    text = page(scrape())
    (info,) = [s for s in samples(text) if s.name == "codexd_info"]
    assert info.value == 1
    assert info.labels["node"] == "mini-main"
    assert info.labels["daemon"] == "2f0c"
    assert text.count("mini-main") == text.count("2f0c") == 1


@pytest.mark.parametrize("status", ["external", "failed", "idle", "running", "starting", "stopped"])
def test_the_server_is_in_one_state(status: Any) -> None:
    child = ChildState(strategy="spawn", mode="app-server", endpoint="x", status=status)
    text = page(scrape(child=child, is_ready=False))
    states = {s.labels["state"]: s.value for s in samples(text) if s.name == "codexd_server_state"}
    assert [state for state, there in states.items() if there] == [status]
    assert len(states) == 6
    assert value(text, "codexd_server_ready") == 0
    assert value(text, "codexd_server_start_time_seconds") is None


def test_the_numbers_are_those_that_were_counted() -> None:
    restarts = Restarts()
    restarts.by_reason["died"] = 2
    restarts.recovery.observe(0.2)
    text = page(
        scrape(
            restarts=restarts,
            counts=used(),
            checks={"answered": 9},
            hub={"clients": 3, "waitingRequests": 4, "runningTurns": 1, "waitingApprovals": 2},
            sessions={("duplex", "active"): 5},
            events={"child.exited": 2},
            events_dropped=7,
            clients_cut=6,
            output={"stdout": 1 << 40, "stderr": 3},
        )
    )
    told = {
        "codexd_server_start_time_seconds": 1795629600.5,
        "codexd_server_resident_memory_bytes": 10 << 20,
        "codexd_server_family_resident_memory_bytes": 30 << 20,
        "codexd_server_cpu_seconds_total": 1.5,
        "codexd_server_open_fds": 12,
        "codexd_server_processes": 3,
        "codexd_server_recovery_seconds_sum": 0.2,
        "codexd_server_recovery_seconds_count": 1,
        "codexd_hub_clients": 3,
        "codexd_hub_requests_waiting": 4,
        "codexd_turns_running": 1,
        "codexd_approvals_waiting": 2,
        "codexd_events_dropped_total": 7,
        "codexd_hub_clients_cut_total": 6,
        "codexd_turn_duration_seconds_sum": 12.0,
    }
    assert {name: value(text, name) for name in told} == told
    assert value(text, "codexd_server_restarts_total", reason="died") == 2
    assert value(text, "codexd_server_restarts_total", reason="memory") == 0
    assert value(text, "codexd_health_checks_total", result="answered") == 9
    assert value(text, "codexd_sessions", purpose="duplex", status="active") == 5
    assert value(text, "codexd_sessions", purpose="worker", status="closed") == 0
    assert value(text, "codexd_events_total", type="child.exited") == 2
    assert value(text, "codexd_output_bytes_total", stream="stdout") == 1 << 40
    assert value(text, "codexd_hub_requests_total", method="thread/start", code="ok") == 1
    assert value(text, "codexd_hub_requests_total", method="other", code="-32601") == 1
    name = "codexd_hub_request_duration_seconds_bucket"
    assert value(text, name, method="thread/start", le="0.1") == 0
    assert value(text, name, method="thread/start", le="1.0") == 1
    assert value(text, name, method="thread/start", le="+Inf") == 1


def test_what_nobody_can_tell_is_left_out() -> None:
    text = page(scrape(process=None))
    assert value(text, "codexd_server_resident_memory_bytes") is None
    assert value(text, "codexd_server_processes") is None
    # Of a dead one it is known that there is none.
    text = page(scrape(process=Reading()))
    assert value(text, "codexd_server_open_fds") is None
    assert value(text, "codexd_server_processes") == 0


@pytest.mark.parametrize("started_at", ["", "yesterday", "9" * 400, "2026-11-25"])
def test_a_time_that_is_none_ends_nothing(started_at: str) -> None:
    child = msgspec.structs.replace(scrape().child, started_at=started_at)
    seen = value(page(scrape(child=child)), "codexd_server_start_time_seconds")
    assert seen is None or seen > 1.79e9


@given(st.text(st.characters(), max_size=40))
def test_a_node_may_be_called_anything(node: str) -> None:
    text = page(scrape(node=node))
    (info,) = [s for s in samples(text) if s.name == "codexd_info"]
    assert info.labels["node"] == node.encode("utf-8", "replace").decode()


def test_the_page_is_not_larger_than_the_words_allow() -> None:
    counts = HubCounts()
    for method in [*REQUESTS, *(f"made/up/{number}" for number in range(1000))]:
        for code in (OK, LEFT, OTHER, *CODES.values()):
            counts.request_ended(method, code, 1.0)
    text = page(scrape(counts=counts, events=dict.fromkeys(TYPES, 1)))
    methods = {s.labels["method"] for s in samples(text) if "method" in s.labels}
    assert methods == REQUESTS | {OTHER}
    assert len(samples(text)) < 5_000


# -- promtool ---------------------------------------------------------------------------------


def test_promtools_rules_are_kept() -> None:
    assert [fault for row in METRICS for fault in faults(row)] == []


def row(name: str, kind: Any = "gauge", labels: tuple[str, ...] = (), help_: str = "So.") -> Row:
    return Row(name, kind, labels, help_, lambda _scrape: [])


@pytest.mark.parametrize(
    "bad",
    [
        row("serverReady"),
        row("server_ready", help_=""),
        row("server_ready", help_="no sentence"),
        row("restarts", "counter"),
        row("clients_total"),
        row("clients_info"),
        row("clients_count"),
        row("clients_gauge"),
        row("wait_ms", "histogram"),
        row("wait_milliseconds", "histogram"),
        row("memory_mb"),
        row("requests_total", "counter", ("le",)),
        row("requests_total", "counter", ("clientName",)),
        row("requests_total", "counter", ("method", "method")),
    ],
    ids=lambda bad: f"{bad.name} {bad.kind} {' '.join(bad.labels)}",
)
def test_a_metric_that_promtool_would_not_like_is_found(bad: Row) -> None:
    assert len(list(faults(bad))) == 1


def test_promtool_has_nothing_to_say() -> None:
    assert promtool(page(scrape(counts=used()))) == "0"


def test_promtool_has_something_to_say_of_what_is_wrong() -> None:
    bad = render([row("wait_milliseconds")._replace(read=lambda _: [((), 1)])], scrape()).decode()
    assert promtool(bad).startswith("3 ")


# -- what it costs ----------------------------------------------------------------------------

NOBODY_ASKS = """
import sys
import codexd.circus_ext.plugin
print("prometheus_client" in sys.modules)
"""


def test_prometheus_client_is_loaded_by_who_asks_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOBODY_ASKS], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


# -- histograms -------------------------------------------------------------------------------


@given(st.lists(st.floats(min_value=-5, max_value=200)))
def test_a_histogram_loses_nothing(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 60.0))
    for number in values:
        histogram.observe(number)
    exact = [max(number, 0.0) for number in values]
    bounds = (0.1, 1.0, 60.0, math.inf)
    assert sum(histogram.counts) == len(values)
    for index, bound in enumerate(bounds):
        assert sum(histogram.counts[: index + 1]) == sum(number <= bound for number in exact)
    assert histogram.sum == pytest.approx(sum(exact))


# -- the server's process ---------------------------------------------------------------------


def family(path: Path, *members: ProcessId | None) -> str:
    path.write_bytes(msgspec.json.encode({"members": members}))
    return str(path)


def test_a_process_and_its_family_are_looked_at(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            gone = ProcessId(4_000_001, "x")
            own = os.getpid()
            path = family(tmp_path / "family.json", identify(child.pid), identify(own), gone)
            found = read_server(own, path)
        finally:
            child.kill()
    assert found is not None
    assert found.processes == 2
    assert found.resident is not None
    assert found.family_resident is not None
    assert found.family_resident > found.resident > 10 << 20
    assert found.processor_s is not None
    assert found.processor_s > 0
    assert found.open_files is not None
    assert found.open_files >= 3


def test_a_dead_process_is_nobody(tmp_path: Path) -> None:
    assert read_server(4_000_001, str(tmp_path / "family.json")) == Reading()
    # Ended, and not reaped yet.
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = read_server(child.pid, str(tmp_path / "family.json"))
        assert found is not None
        assert not found.resident


def test_a_process_that_hides_its_files_is_told_without_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied(self: psutil.Process) -> int:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "num_fds", denied)
    found = read_server(os.getpid(), str(tmp_path / "family.json"))
    assert found is not None
    assert found.open_files is None
    assert found.processor_s is not None


def test_where_no_file_can_be_opened_nothing_is_said_to_be_dead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(pid: int) -> int:
        raise OSError(errno.EMFILE, f"no file for {pid}")

    monkeypatch.setattr(server_process, "resident_bytes", full)
    assert read_server(os.getpid(), str(tmp_path / "family.json")) is None


def test_scrapes_are_told_apart_by_nothing_but_what_changed() -> None:
    def lines(of: Scrape) -> Counter[str]:
        return Counter(page(of).splitlines())

    changed = lines(scrape(events={"child.exited": 1})) - lines(scrape())
    assert list(changed) == ['codexd_events_total{type="child.exited"} 1.0']
