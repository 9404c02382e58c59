"""SIGKILL of the writer at any moment: nothing lost, nothing twice, everything adds up."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.config import Config
from codexd.eventlog.accounting import last_burst_detail, unaccounted
from codexd.eventlog.chain import open_chain, size
from codexd.eventlog.newest import Newest
from codexd.eventlog.reader import read_events
from codexd.store.state import StateStore
from tests.support.memory import config_at, log_bytes, open_log
from tests.support.waiting import eventually

KILLS = 12


class Child(threading.Thread):
    """Writes numbered lines into a FIFO, as a child that does not know who reads."""

    def __init__(self, fifo: Path) -> None:
        super().__init__()
        # Held open read-write, as circusd does: bytes wait in them while nobody reads.
        self._pipe = os.open(fifo, os.O_RDWR)
        self._stage = os.open(f"{fifo}-stage", os.O_RDWR)
        self._enough = threading.Event()
        self.written = 0

    def run(self) -> None:
        number = 0
        while not self._enough.is_set():
            line = b"line %d %s\n" % (number, b"\xc3\xa9" * (number % 200))
            os.write(self._pipe, line)
            self.written += len(line)
            number += 1
            if number % 50 == 0:
                time.sleep(0.001)

    def expected(self) -> bytes:
        """Everything that was written so far."""
        parts, size, number = [], 0, 0
        while size < self.written:
            parts.append(b"line %d %s\n" % (number, b"\xc3\xa9" * (number % 200)))
            size += len(parts[-1])
            number += 1
        return b"".join(parts)

    def stop(self) -> None:
        self._enough.set()
        # A full pipe nobody reads any more would hold it for ever.
        os.set_blocking(self._pipe, False)
        while self.is_alive():
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, 1 << 16)
            self.join(0.01)
        os.close(self._pipe)
        os.close(self._stage)


@contextlib.contextmanager
def writer(root: Path, fifo: Path, max_bytes: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The writing process, writing; killed at the end."""
    arguments = [str(root), str(fifo), str(max_bytes), *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.memory_writer", *arguments],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def check_state_files(config: Config) -> None:
    """Every state file is whole at the moment of a kill."""
    for path in (
        config.paths.identity_path,
        config.paths.daemon_state_path,
        config.paths.recent_events_path,
    ):
        if os.path.exists(path):
            json.loads(Path(path).read_bytes())


def told_bytes(config: Config) -> int:
    found = read_events(config.paths.structured_event_log_path, types=["child.stdout"])
    return sum((event.detail or {})["bytes"] for event in found)


@pytest.mark.skipif(not hasattr(os, "splice"), reason="without splice a kill may lose bytes")
@pytest.mark.parametrize("max_bytes", [50_000, 0])
def test_kills_at_random_moments(tmp_path: Path, max_bytes: int) -> None:
    fifo, config = tmp_path / "fifo", config_at(tmp_path)
    log_path = Path(config.paths.stdout_log_path)
    os.mkfifo(fifo)
    os.mkfifo(f"{fifo}-stage")
    chance = random.Random(max_bytes)
    child = Child(fifo)
    child.start()
    try:
        ids = set()
        for _ in range(KILLS):
            with writer(tmp_path, fifo, max_bytes) as process:
                time.sleep(chance.random() * 0.08)
                process.kill()
                process.wait()
            check_state_files(config)
            ids.add(json.loads(Path(config.paths.identity_path).read_bytes())["daemonId"])
        with writer(tmp_path, fifo, max_bytes):
            child._enough.set()
            eventually(
                lambda: not child.is_alive() and logged(log_path) == child.written,
                what="the rest in the log",
            )
    finally:
        child.stop()
    assert log_bytes(log_path) == child.expected()
    assert len(ids) == 1
    events_path = config.paths.structured_event_log_path
    assert {event.type for event in read_events(events_path)} <= {"child.stdout", "state.repaired"}
    # What this last kill left untold is found as it would be by the next writer.
    kinds = closed_again(config)
    untold, _ = unaccounted(str(log_path), last_burst_detail(kinds, events_path, "stdout"))
    assert told_bytes(config) + untold == child.written
    seqs = [event.seq for event in read_events(events_path)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) > KILLS
    check_recent(config, seqs)


def closed_again(config: Config) -> Newest:
    """What the next writer finds in the log."""
    log = open_log(Path(config.paths.logs_dir))
    log.close()
    return log.kinds


def logged(log_path: Path) -> int:
    """Bytes in the log and its rotated files."""
    with open_chain(str(log_path)) as files:
        return sum(size(file) for file in files)


def check_recent(config: Config, seqs: list[int]) -> None:
    """recent-events.json may be behind after a kill; the next writer sets it right."""
    events = open_log(Path(config.paths.logs_dir), cache_size=20)
    store = StateStore.open(config, recent=events.recent_record)
    for file in store.files:
        assert file.write()
    document = json.loads(Path(config.paths.recent_events_path).read_bytes())
    assert [entry["seq"] for entry in document["events"]] == seqs[-20:]


def test_a_kill_without_splice_leaves_whole_files(tmp_path: Path) -> None:
    fifo, config = tmp_path / "fifo", config_at(tmp_path)
    os.mkfifo(fifo)
    os.mkfifo(f"{fifo}-stage")
    child = Child(fifo)
    child.start()
    try:
        for _ in range(3):
            with writer(tmp_path, fifo, 50_000, "copy"):
                before = logged(Path(config.paths.stdout_log_path))
                eventually(
                    lambda before=before: logged(Path(config.paths.stdout_log_path)) > before  # type: ignore[misc]
                )
            check_state_files(config)
    finally:
        child.stop()
    events_path = config.paths.structured_event_log_path
    detail = last_burst_detail(closed_again(config), events_path, "stdout")
    untold, _ = unaccounted(config.paths.stdout_log_path, detail)
    logged_bytes = logged(Path(config.paths.stdout_log_path))
    assert told_bytes(config) + untold == logged_bytes
    seqs = [event.seq for event in read_events(events_path)]
    assert seqs == list(range(1, len(seqs) + 1))
