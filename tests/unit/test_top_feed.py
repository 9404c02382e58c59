"""Where `codexd top` has from what it shows."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from codexd.cli.top.feed import Feed, read_past
from codexd.cli.top.processes import Processes
from codexd.cli.top.shown import Away, Broken, Fed
from codexd.encoding import encode_json
from tests.support.memory import config_at
from tests.support.top import event
from tests.support.waiting import eventually


def _write_log(path: Path, ages_h: list[float]) -> None:
    """A server that was started so many hours ago, the oldest first."""
    now = datetime.now(UTC)
    lines = []
    for seq, age in enumerate(ages_h, start=1):
        at = (now - timedelta(hours=age)).isoformat(timespec="milliseconds")
        type_ = "child.started" if seq % 2 else "client.connected"
        lines.append(encode_json(event(seq, type_, at=at.replace("+00:00", "Z"))))
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def test_the_past_is_the_last_day_and_the_newest_events(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    _write_log(log, [30, 29, 28, 27, 23, 22, 1, 0.5])
    past = read_past(str(log))
    assert [entry.seq for entry in past.counted] == [5, 7]
    assert [entry.seq for entry in past.recent] == [1, 2, 3, 4, 5, 6, 7, 8]
    past = read_past(str(log), until=6)
    assert [entry.seq for entry in past.counted] == [5]
    assert [entry.seq for entry in past.recent] == [1, 2, 3, 4, 5, 6]
    _write_log(log, [*([30] * 300), *([1] * 250)])
    past = read_past(str(log))
    assert [entry.seq for entry in past.counted] == list(range(301, 550, 2))
    assert [entry.seq for entry in past.recent] == list(range(451, 551))
    _write_log(log, [40] * 300)
    past = read_past(str(log))
    assert (len(past.counted), len(past.recent)) == (0, 100)


def test_where_no_log_is_there_is_no_past(tmp_path: Path) -> None:
    past = read_past(str(tmp_path / "none"))
    assert (past.counted, past.recent) == ([], [])


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass", "app-server"]) as process:
        found = psutil.Process(process.pid)
        # It has begun a moment before its words can be read.
        eventually(found.cmdline)
        yield found
        process.kill()


def test_processes_are_told_with_what_they_took_since_the_last_look(busy: psutil.Process) -> None:
    processes = Processes()
    first = {one.pid: one for one in processes.read(os.getpid(), busy.pid, 10.0)}
    assert first[os.getpid()].role == "daemon"
    assert (first[busy.pid].role, first[busy.pid].name) == ("server", "codex app-server")
    assert first[busy.pid].cpu is None
    # Any other command, in mode exec, is named as it is.
    others = Processes().read(os.getppid(), os.getpid(), 10.0)
    assert [one.name for one in others if one.role == "server"] == [psutil.Process().name()]
    begun = sum(busy.cpu_times()[:2])
    eventually(lambda: sum(busy.cpu_times()[:2]) > begun + 0.1)
    second = {one.pid: one for one in processes.read(os.getpid(), busy.pid, 11.0)}
    # As if that had been a second.
    assert 9 < (second[busy.pid].cpu or 0) < 200
    assert second[busy.pid].resident > 1 << 20
    busy.kill()
    busy.wait()
    assert busy.pid not in [one.pid for one in processes.read(os.getpid(), busy.pid, 12.0)]
    assert processes.read(None, None, 13.0) == []


def test_without_a_daemon_it_is_said_how_to_start_one_and_no_failure_goes_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("codexd.cli.top.feed.find_daemon", fail)
    heard: queue.SimpleQueue[Fed] = queue.SimpleQueue()
    config = config_at(tmp_path)
    Feed(config, heard.put).start()
    told = heard.get(timeout=20)
    assert isinstance(told, Away)
    assert told.why == f"No daemon runs on {config.paths.state_dir}: start it with `codexd start`."
    # It would have been looked for where it may be by now.
    broken = heard.get(timeout=20)
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, ZeroDivisionError)
