"""A scrape without a plugin, and what a page of metrics holds."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from codexd.config import resolve
from codexd.contracts import ChildState, Identity
from codexd.hub.counts import HubCounts
from codexd.keeper.exposition import render
from codexd.keeper.metric_table import METRICS, Scrape
from codexd.keeper.restarts import Restarts
from codexd.keeper.server_process import Reading

QUIET = {"clients": 0, "waitingRequests": 0, "runningTurns": 0, "waitingApprovals": 0}
READING = Reading(10 << 20, 30 << 20, 1.5, 12, 3)


def scrape(node: str = "mini-main", **parts: Any) -> Scrape:
    """A scrape of a daemon that has just started, but for ``parts``."""
    child = ChildState(
        strategy="spawn",
        mode="app-server",
        endpoint="stdio://codex-app-server",
        status="running",
        pid=71,
        started_at="2026-11-25T18:00:00.500Z",
    )
    quiet: dict[str, Any] = {
        "identity": Identity(
            daemon_id="2f0c", node_id=node, repo_root="/", created_at="2026-11-25T18:00:00.000Z"
        ),
        "server": resolve({}, {}, cwd="/").server,
        "child": child,
        "is_ready": True,
        "process": READING,
        "restarts": Restarts(),
        "checks": {},
        "hub": QUIET,
        "counts": HubCounts(),
        "clients_cut": 0,
        "sessions": {},
        "events": {},
        "events_dropped": 0,
        "output": {},
    }
    return Scrape(**{**quiet, **parts})


def page(of: Scrape) -> str:
    """What is told of it."""
    return render(METRICS, of).decode()


def samples(text: str) -> list[Sample]:
    """Every sample of a page, as prometheus_client's own parser reads it."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def promtool(text: str) -> str:
    """What `promtool check metrics` says of a page, behind its exit code."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    command = [tool, "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    return f"{done.returncode} {done.stdout}{done.stderr}".strip()


def value(text: str, name: str, **labels: str) -> float | None:
    """The value of the one sample of this name and these labels; None for none."""
    found = [s.value for s in samples(text) if s.name == name and s.labels == labels]
    assert len(found) < 2, f"{name} {labels} is there {len(found)} times"
    return found[0] if found else None
