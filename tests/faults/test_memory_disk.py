"""A disk that is full or read-only, on a real small file system."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codexd.config import Config
from codexd.contracts import RecentEvents
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture
from codexd.eventlog.reader import read_events
from codexd.platform.files import explain
from codexd.records.records import StillWritten, open_records
from codexd.runtime import make_directories
from codexd.store.state import Flusher, StateStore
from tests.support.memory import (
    config_at,
    fill,
    open_log,
    pipe,
    record_many,
    remount,
    seqs,
    small_disk,
)
from tests.support.waiting import eventually


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_kib=256):
        yield tmp_path / "disk"


def tick_until(tick: Callable[[], object], well: Callable[[], bool]) -> None:
    """Tick as the plugin does, until all is well."""

    def look() -> bool:
        tick()
        return well()

    eventually(look)


class Captured:
    """A capture on the disk, fed by hand."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "stdout.log"
        self.bursts: list[Burst] = []
        self.lost: list[int] = []
        self.log = AppendLog(str(self.path), max_bytes=0, backups=0)
        self.capture = OutputCapture(
            self.log, on_burst=self.bursts.append, on_lost=self.lost.append
        )

    def told(self) -> int:
        burst = self.capture.take_burst()
        self.bursts += [burst] if burst else []
        return sum(burst.bytes for burst in self.bursts)


def test_output_on_a_full_disk(disk: Path) -> None:
    rig = Captured(disk)
    flood = bytes(range(256)) * 200
    with pipe() as (reading, writing):
        for _ in range(60):
            os.write(writing, flood)
            while rig.capture.pump(reading):
                pass
        written = 60 * len(flood)
        assert rig.log.trouble == "No space left on device"
        on_disk = rig.path.stat().st_size
        assert rig.told() == on_disk < written
        # The disk is well again, but only the log's own file may have grown meanwhile.
        remount(disk, "size=8192k")
        tick_until(rig.capture.tick, lambda: bool(rig.lost))
        os.write(writing, b"after")
        rig.capture.pump(reading)
    data = rig.path.read_bytes()
    assert rig.lost == [written + 5 - len(data)]
    assert data == (flood * 60)[: len(data) - 5] + b"after"
    assert rig.told() == len(data)
    rig.capture.close()


def test_a_short_time_without_space_loses_no_output(disk: Path) -> None:
    rig = Captured(disk)
    filler = fill(disk)
    with pipe() as (reading, writing):
        os.write(writing, b"x" * 50_000)
        while rig.capture.pump(reading):
            pass
        assert rig.log.trouble is not None
        filler.unlink()
        tick_until(rig.capture.tick, lambda: rig.log.trouble is None)
    assert rig.path.read_bytes() == b"x" * 50_000
    assert rig.told() == 50_000
    assert rig.lost == []
    rig.capture.close()


def test_events_on_a_full_disk(disk: Path) -> None:
    log = open_log(disk)
    record_many(log, 10)
    filler = fill(disk)
    record_many(log, 200, begin=10)
    assert len(seqs(disk)) < 210
    for line in (disk / "events.jsonl").read_bytes().splitlines():
        json.loads(line)
    filler.unlink()
    log.tick()
    record_many(log, 1, begin=210)
    assert seqs(disk) == list(range(1, 212))
    log.close()


def test_everything_on_a_read_only_disk(disk: Path) -> None:
    log, rig = open_log(disk), Captured(disk)
    record_many(log, 1)
    # A file that is open for writing keeps a real remount from happening; let go as after a crash.
    log.close()
    rig.capture.close()
    remount(disk, "ro")
    log, rig = open_log(disk), Captured(disk)
    record_many(log, 2, begin=1)
    assert seqs(disk) == [1]
    with pipe() as (reading, writing):
        os.write(writing, b"while read-only\n")
        assert rig.capture.pump(reading) == 16
        remount(disk, "rw")
        tick_until(log.tick, lambda: seqs(disk) == [1, 2, 3])
        tick_until(rig.capture.tick, lambda: rig.log.trouble is None)
    assert seqs(disk) == [1, 2, 3]
    assert rig.path.read_bytes() == b"while read-only\n"
    log.close()
    rig.capture.close()


def config_on(disk: Path, tmp_path: Path) -> Config:
    return config_at(tmp_path, state_dir=str(disk))


def test_state_files_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    config = config_on(disk, tmp_path)
    store = StateStore.open(config, recent=lambda: RecentEvents(max_entries=1))
    flusher = Flusher(store)
    flusher.start()
    path = Path(config.paths.daemon_state_path)
    eventually(path.exists)
    filler = fill(disk)
    store.update_daemon(pid=42)
    assert "No space left" in eventually(lambda: flusher.trouble)
    assert json.loads(path.read_bytes())["pid"] is None
    assert not list(path.parent.glob(".*.tmp"))
    filler.unlink()
    eventually(lambda: json.loads(path.read_bytes())["pid"] == 42)
    flusher.stop()


@pytest.mark.parametrize("which", ["state_root_dir", "logs_root_dir"])
def test_a_directory_removed_under_the_plugin_comes_back_with_all_of_it(
    tmp_path: Path, which: str
) -> None:
    config = config_at(tmp_path)
    make_directories(config.paths, config.runtime)
    paths = config.paths
    with open_records(config, timeout_s=0) as records:
        records.recorder.daemon_started(42, config.server)
        session_id = "session-1"
        records.open_session(session_id, "worker", {})
        eventually(lambda: registered(paths.session_registry_path) == [session_id])
        eventually(lambda: set(os.listdir(paths.state_dir)) == everything(config))
        shutil.rmtree(getattr(paths, which))
        tick_until(
            records.look, lambda: os.path.isdir(paths.state_dir) and os.path.isdir(paths.logs_dir)
        )
        records.recorder.event("info", "test.after", "after")
        eventually(lambda: set(os.listdir(paths.state_dir)) == everything(config))
        state = json.loads(Path(paths.daemon_state_path).read_bytes())
        assert (state["pid"], registered(paths.session_registry_path)) == (42, [session_id])
        identity = json.loads(Path(paths.identity_path).read_bytes())
        assert identity["daemonId"] == records.state.identity.daemon_id
        # Nobody else gets in, though the lock's file went with the directory.
        with pytest.raises(StillWritten), open_records(config, timeout_s=0):
            pass
    events = list(read_events(paths.structured_event_log_path))
    told = [event for event in events if event.type == "state.repaired"]
    assert len(told) == (1 if which == "state_root_dir" else 0)
    assert (events[-1].type, events[-1].seq) == ("test.after", 3 + len(told))


def everything(config: Config) -> set[str]:
    """What is in a state directory while a memory is open, and no daemon runs."""
    paths = config.paths
    files = (
        paths.identity_path,
        paths.daemon_state_path,
        paths.session_registry_path,
        paths.recent_events_path,
    )
    short = {"run"} if config.runtime.runtime_dir.startswith(paths.state_dir) else set()
    return {*map(os.path.basename, files), "writer.lock", ".gitignore"} | short


def registered(path: str) -> list[str] | None:
    """The sessions on the disk."""
    try:
        return [entry["sessionId"] for entry in json.loads(Path(path).read_bytes())["sessions"]]
    except OSError:
        return None


def test_a_plugin_that_starts_on_a_full_disk_has_its_files_later(
    disk: Path, tmp_path: Path
) -> None:
    config = config_on(disk, tmp_path)
    make_directories(config.paths, config.runtime)
    Path(config.paths.state_dir, "writer.lock").touch()
    fill(disk)
    with open_records(config, timeout_s=0) as records:
        records.recorder.daemon_started(42, config.server)
        assert "the disk at" in eventually(lambda: records.flusher.trouble)
        (disk / "filler").unlink()
        eventually(lambda: registered(config.paths.session_registry_path) == [])
        eventually(lambda: records.flusher.trouble is None)
        identity = json.loads(Path(config.paths.identity_path).read_bytes())
        assert identity["daemonId"] == records.state.identity.daemon_id


def test_what_must_be_written_names_the_disk(disk: Path, tmp_path: Path) -> None:
    config = config_at(tmp_path, state_dir=str(disk), logs_dir=str(disk))
    make_directories(config.paths, config.runtime)
    with open_records(config, timeout_s=0) as records:
        records.must_be_written()
        filler = fill(disk)
        for number in range(100):
            records.recorder.event("info", "test.numbered", "x" * 100 + str(number))
        with pytest.raises(OSError, match="No space left") as caught:
            records.must_be_written()
        line = explain(caught.value)
        assert line.endswith(f"the disk at {disk}, for {config.paths.structured_event_log_path}")
        filler.unlink()
        records.must_be_written()
