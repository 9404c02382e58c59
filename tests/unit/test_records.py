"""The files and their one writer: who may open them, and what is made right while they are open."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from codexd import runtime
from codexd.child import steps
from codexd.child.steps import Step, Supervision
from codexd.config import Config
from codexd.contracts import RUNNING_TURN, SessionRecord
from codexd.eventlog.reader import read_events
from codexd.platform.filelock import FileLock
from codexd.platform.process import ProcessId
from codexd.records.records import (
    Places,
    Records,
    StillWritten,
    open_as_daemon,
    open_records,
    record_end,
)
from codexd.runtime import make_directories
from codexd.store.state import StateStore
from tests.support.memory import config_at

HOLD = """
import sys, time
from codexd.platform.filelock import FileLock
lock = FileLock(sys.argv[1])
assert lock.acquire(0)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)
    return config


def types(config: Config) -> list[str]:
    return [event.type for event in read_events(config.paths.structured_event_log_path)]


def step(number: int, kind: Any, **facts: Any) -> Step:
    return Step(number=number, kind=kind, at=5.0, generation=1, **facts)


def write_steps(config: Config, *entries: Step, begin: int = 0, daemon: int = 9) -> None:
    record = Supervision(daemon=ProcessId(pid=daemon, token="x"), begin=begin, steps=list(entries))
    steps.save(steps.path_of(config.paths.state_dir), record)


def session(**facts: Any) -> SessionRecord:
    return SessionRecord(
        session_id="session-1",
        purpose="duplex",
        endpoint="stdio://x",
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z",
        **facts,
    )


# -- who writes --------------------------------------------------------------------------------


def test_there_is_one_writer(config: Config) -> None:
    path = os.path.join(config.paths.state_dir, "writer.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(StillWritten, match="Another process still writes"),
            open_records(config, timeout_s=0.05),
        ):
            pass
        assert holder.poll() is None
        # A daemon that has no plugin yet ends what an earlier one left behind.
        with open_records(config, timeout_s=0.05, evict=True) as records:
            records.recorder.daemon_started(1, config.server)
        assert holder.wait(10) != 0
    finally:
        holder.kill()
        holder.communicate()
    with open_records(config, timeout_s=0):
        pass


def test_the_lock_is_given_back_when_the_files_cannot_be_opened(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(StateStore, "open", full)
        with pytest.raises(OSError, match="No space"), open_records(config, timeout_s=0):
            pass
    assert FileLock(os.path.join(config.paths.state_dir, "writer.lock")).acquire(0)


# -- while they are open -----------------------------------------------------------------------


class Looks:
    def __init__(self) -> None:
        self.looks = 0
        self.repairs: list[str] = []
        self.is_well = True

    def look(self) -> list[str]:
        self.looks += 1
        repairs, self.repairs = self.repairs, []
        return repairs


def test_what_was_taken_away_is_made_again_and_on_record(config: Config) -> None:
    with open_records(config, timeout_s=0) as records:
        places = Looks()
        records.places = cast("Places", places)
        places.repairs.append("The state directory was taken away; it was made again.")
        assert records.look()
        (repair,) = [e for e in records.events.recent() if e.type == "state.repaired"]
        assert repair.message.startswith("The state directory was taken away")
        places.is_well = False
        assert not records.look()
        assert places.looks == 2


def test_directories_that_are_taken_away_are_made_again_or_said_once(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileLock(os.path.join(config.paths.state_dir, "writer.lock"))
    assert lock.acquire(0)
    places = Places(config.paths, config.runtime, lock)
    assert places.look() == []
    shutil.rmtree(config.paths.state_dir)
    assert "The state directory was taken away; it was made again." in places.look()
    assert os.path.exists(lock.path)
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):

        def fail(*_: object) -> list[str]:
            raise OSError("no space")

        patched.setattr(runtime, "make_directories", fail)
        assert [places.look() for _ in range(3)] == [[], [], []]
    assert len(caplog.records) == 1
    # Another process may have taken the name in the meantime.
    other = FileLock(lock.path)
    os.unlink(lock.path)
    assert other.acquire(0)
    with caplog.at_level(logging.ERROR):
        places.look()
    assert "another process has taken writer.lock" in caplog.text
    other.release()
    lock.release()


def test_a_session_is_opened_and_closed_once(config: Config) -> None:
    with open_records(config, timeout_s=0) as records:
        records.recorder.daemon_started(1, config.server)
        for _ in range(2):
            records.open_session("session-2", "smoke", {"a": "b"})
        found = records.state.sessions["session-2"]
        assert (found.purpose, found.status, found.endpoint) == (
            *("smoke", "active"),
            config.server.endpoint,
        )
        records.close_session("session-3")
        records.close_session("session-2")
        assert records.state.sessions["session-2"].status == "closed"
    assert types(config)[1:] == ["session.registered", "session.closed"]


# -- what nobody had recorded ------------------------------------------------------------------


def begin(config: Config, pid: int = 9) -> None:
    with open_records(config, timeout_s=0) as records:
        records.recorder.daemon_started(pid, config.server)


def test_the_end_records_what_the_plugin_did_not(config: Config) -> None:
    begin(config)
    write_steps(config, step(1, "spawned", pid=71, attempt=1), step(2, "ended", pid=71, code=0))
    record_end(config)
    record_end(config)
    assert types(config) == [
        "daemon.started",
        "child.started",
        "child.exited",
        "daemon.stopped",
        "daemon.stopped",
    ]


def test_a_child_whose_end_nobody_saw_ended_with_its_daemon(config: Config) -> None:
    begin(config)
    write_steps(config, step(1, "spawned", pid=71, attempt=1))
    for _ in range(2):
        with open_as_daemon(config) as records:
            records.catch_up()
            child = records.recorder.child
            assert (child.pid, child.status) == (None, "failed")
    assert types(config) == ["daemon.started", "child.started", "child.exited"]


def test_what_the_present_circusd_did_is_left_to_the_plugin(config: Config) -> None:
    begin(config)
    write_steps(
        config,
        step(1, "spawned", pid=71, attempt=1),
        step(2, "ended", pid=71, code=0),
        step(3, "spawned", pid=72, attempt=1),
        begin=2,
        daemon=10,
    )
    with open_records(config, timeout_s=0) as records:
        records.daemon_begins(10, until=2)
        assert records.recorder.recorded == 2
    assert types(config)[1:] == [
        "child.started",
        "child.exited",
        "daemon.stopped",
        "daemon.started",
    ]


@pytest.mark.parametrize(("strategy", "ends"), [("spawn", True), ("external", False)])
def test_turns_end_with_a_server_of_ours(tmp_path: Path, strategy: str, ends: bool) -> None:
    config = config_at(tmp_path, server_strategy=strategy)
    make_directories(config.paths, config.runtime)
    with open_records(config, timeout_s=0) as records:
        records.recorder.daemon_started(9, config.server)
        records.recorder.session(session(thread_id="t", metadata={RUNNING_TURN: "u"}))
    with open_as_daemon(config) as records:
        records.daemon_begins(10)
        metadata = records.state.sessions["session-1"].metadata
    assert (RUNNING_TURN not in metadata) == ends
    assert ("turn.interrupted" in types(config)) == ends


def test_why_the_last_child_ended_is_known_to_the_next_writer(config: Config) -> None:
    begin(config)
    with open_records(config, timeout_s=0) as records:
        records.recorder.step(step(1, "spawned", pid=71, attempt=1))
        records.recorder.step(step(2, "ended", pid=71, code=3, error="Error: no room"))
    # Its state was not written any more.
    os.unlink(config.paths.daemon_state_path)
    with open_records(config, timeout_s=0) as records:
        assert records.recorder.recorded == 2
        records.recorder.step(step(2, "ended", pid=71, code=3))
        assert records.recorder.child.last_error == "Child exited with code 3: Error: no room"


def test_steps_whose_events_were_rotated_away_are_not_recorded_again(config: Config) -> None:
    write_steps(config, step(4, "spawned", pid=71, attempt=1), step(5, "ended", pid=71, code=0))
    with open_records(config, timeout_s=0) as records:
        # A log that begins with the first event tells of none.
        assert records.recorder.recorded == 0
    later = '{"seq":900,"createdAt":"2026-01-01T00:00:00.000Z","level":"info","type":"x.y",'
    Path(config.paths.structured_event_log_path).write_text(
        later + '"message":"x","detail":null}\n', encoding="utf-8"
    )
    with open_records(config, timeout_s=0) as records:
        assert records.recorder.recorded == 5


def test_everything_is_written_when_they_are_closed(config: Config) -> None:
    async def main() -> None:
        with open_records(config, timeout_s=0) as records:
            tell(records)

    def tell(records: Records) -> None:
        records.recorder.daemon_started(33, config.server)
        records.recorder.session(session())

    asyncio.run(main())
    with open_records(config, timeout_s=0) as records:
        assert records.state.daemon.pid == 33
        assert list(records.state.sessions) == ["session-1"]
