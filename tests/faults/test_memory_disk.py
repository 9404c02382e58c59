"""A disk that is full or read-only, on a real small file system."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from codexd.config import Config
from codexd.contracts import RecentEvents
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture
from codexd.store.state import Flusher, StateStore
from tests.support.memory import (
    config_at,
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


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        for piece in (4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue
    return filler


class Ticking(Protocol):
    def tick(self) -> None: ...


def tick_until(ticking: Ticking, well: Callable[[], bool]) -> None:
    """Tick as the plugin does, until all is well."""

    def look() -> bool:
        ticking.tick()
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
        tick_until(rig.capture, lambda: bool(rig.lost))
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
        tick_until(rig.capture, lambda: rig.log.trouble is None)
    assert rig.path.read_bytes() == b"x" * 50_000
    assert rig.told() == 50_000
    assert rig.lost == []
    rig.capture.close()


def test_events_on_a_full_disk(disk: Path) -> None:
    log = open_log(disk)
    record_many(log, 10)
    filler = fill(disk)
    record_many(log, 200, begin=10)
    assert log.trouble == "No space left on device"
    for line in (disk / "events.jsonl").read_bytes().splitlines():
        json.loads(line)
    filler.unlink()
    log.tick()
    record_many(log, 1, begin=210)
    assert log.trouble is None
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
    assert log.trouble == "Read-only file system"
    with pipe() as (reading, writing):
        os.write(writing, b"while read-only\n")
        assert rig.capture.pump(reading) == 16
        remount(disk, "rw")
        tick_until(log, lambda: log.trouble is None)
        tick_until(rig.capture, lambda: rig.log.trouble is None)
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


def test_a_state_directory_removed_under_the_daemon(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    store = StateStore.open(config, recent=lambda: RecentEvents(max_entries=1))
    flusher = Flusher(store)
    flusher.start()
    path = Path(config.paths.daemon_state_path)
    eventually(path.exists)
    shutil.rmtree(config.paths.state_root_dir)
    store.update_daemon(pid=42)
    eventually(path.exists)
    assert json.loads(path.read_bytes())["pid"] == 42
    flusher.stop()
