"""Files of the first version, whose daemon was killed while there was a server with a thread."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from codexd.child import steps as supervision
from codexd.config import Config
from codexd.eventlog.reader import read_events
from codexd.records.records import open_as_daemon
from codexd.runtime import make_directories
from codexd.store.snapshot import read_snapshot
from tests.support.memory import config_at

WRITTEN = Path(__file__).with_name("of_first_version")
DAEMON, CHILD = 5319, 5399
THREAD = "01a213c7-90e3-7c02-9947-744a5852da31"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)
    for path in WRITTEN.iterdir():
        where = config.paths.logs_dir if path.suffix == ".jsonl" else config.paths.state_dir
        shutil.copy(path, where)
    return config


def test_a_status_reads_them(config: Config) -> None:
    snapshot = read_snapshot(config)
    assert snapshot.identity is not None
    assert snapshot.identity.daemon_id == "8e5905c3-7216-4067-9dca-29e0eddf0648"
    assert snapshot.daemon is not None
    assert (snapshot.daemon.pid, snapshot.daemon.child.pid) == (DAEMON, CHILD)
    threads = {entry.thread_id: entry.status for entry in snapshot.sessions.sessions}
    assert threads == {None: "closed", THREAD: "active"}


def test_the_next_start_finds_the_child_that_was_left_behind(config: Config) -> None:
    record = supervision.load(supervision.path_of(config.paths.state_dir))
    assert record.child is not None
    assert (record.child.pid, record.generation, record.last_number) == (CHILD, 4, 310)
    assert record.spawns == 1


def test_the_next_daemon_records_its_end_and_goes_on(config: Config) -> None:
    with open_as_daemon(config) as records:
        records.daemon_begins(os.getpid())
        records.recorder.starting()
        active = [entry for entry in records.state.sessions.values() if entry.status == "active"]
        assert [entry.thread_id for entry in active] == [THREAD]
    events = list(read_events(config.paths.structured_event_log_path))
    assert [event.seq for event in events] == list(range(1, 34))
    assert [event.type for event in events[30:]] == [
        "child.exited",
        "daemon.stopped",
        "daemon.started",
    ]
    assert (events[30].detail or {})["pid"] == CHILD
    # Nothing of it had to be set right.
    assert {path.name for path in Path(config.paths.state_dir).iterdir()} - {"run"} == {
        *("identity.json", "daemon-state.json", "session-registry.json", "recent-events.json"),
        *("watcher.json", "writer.lock", ".gitignore"),
    }


def test_its_steps_are_recorded_once(config: Config) -> None:
    with open_as_daemon(config) as records:
        records.catch_up()
    with open_as_daemon(config) as records:
        records.catch_up()
    types = [event.type for event in read_events(config.paths.structured_event_log_path)]
    assert types[30:] == ["child.exited"]
