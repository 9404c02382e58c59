"""watcher.json and who writes it: steps that are told, files that are taken away, full disks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexd.child import steps
from codexd.child.ledger import Ledger
from codexd.child.steps import Step, Supervision
from codexd.platform.process import ProcessId, identify

CHILD = ProcessId(pid=71, token="x")


class Circus:
    """The event stream and the timers."""

    def __init__(self, ledger: Ledger) -> None:
        self.told: list[dict[str, Any]] = []
        self.timers: list[Callable[[], None]] = []
        ledger.attach(self.publish, self.call_later)

    def publish(self, topic: str, message: dict[str, Any]) -> None:
        assert topic == "step"
        self.told.append(message)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        assert seconds == 1.0
        self.timers.append(callback)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "watcher.json")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of the newest step each time that the file is written."""
    written: list[int] = []
    save = steps.save

    def note(path: str, record: Supervision) -> None:
        save(path, record)
        written.append(record.last_number)

    monkeypatch.setattr(steps, "save", note)
    return written


def test_the_child_of_the_daemon_before_is_no_child_of_this_one(path: str) -> None:
    old = Supervision(child=CHILD, generation=4, steps=[step(8)])
    steps.save(path, old)
    ledger = Ledger(path)
    assert not ledger.has_child
    assert ledger.generation == 4
    assert ledger.next_generation() == 5
    Circus(ledger)
    record = steps.load(path)
    assert (record.child, record.daemon) == (None, identify(os.getpid()))
    assert record.steps == old.steps


def test_numbers_leave_room_for_all_that_was_told_and_not_written(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 5.0)
    steps.save(path, Supervision(steps=[step(8)]))
    ledger = Ledger(path)
    circus = Circus(ledger)
    ledger.note("stopped")
    ledger.tell()
    assert [message["number"] for message in circus.told] == [1009]
    # Told once.
    ledger.tell()
    assert len(circus.told) == 1


def test_the_child_is_on_record_while_it_lives(path: str) -> None:
    ledger = Ledger(path)
    Circus(ledger)
    for attempt in (1, 2):
        ledger.spawned(CHILD, ("/bin/x", 1, 2), pid=71)
        ledger.save()
        assert ledger.has_child
        record = steps.load(path)
        assert (record.child, record.executable) == (CHILD, ("/bin/x", 1, 2))
        assert record.steps[-1].attempt == attempt
        ledger.ended(pid=71, code=0)
        ledger.save()
        assert not ledger.has_child
        assert steps.load(path).child is None


def test_what_is_written_already_is_not_written_again(path: str, writes: list[int]) -> None:
    ledger = Ledger(path)
    Circus(ledger)
    assert len(writes) == 1
    ledger.save()
    ledger.keep()
    assert len(writes) == 1
    ledger.note("stopped")
    ledger.save()
    ledger.save()
    assert len(writes) == 2
    assert ledger.unsaved is None


def test_a_file_that_is_taken_away_or_written_by_others_is_written_again(
    path: str, writes: list[int]
) -> None:
    ledger = Ledger(path)
    Circus(ledger)
    os.unlink(path)
    ledger.keep()
    assert len(writes) == 2
    Path(path).write_text("{}")
    ledger.keep()
    assert len(writes) == 3
    assert steps.load(path).daemon == identify(os.getpid())


def test_on_a_full_disk_one_timer_tries_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path)
    circus = Circus(ledger)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(steps, "save", full)
        ledger.note("stopped")
        ledger.save()
        ledger.save()
        assert len(circus.timers) == 1
        circus.timers.pop()()
        assert len(circus.timers) == 1
        unsaved = msgspec.convert(ledger.unsaved, Supervision)
        assert [entry.kind for entry in unsaved.steps] == ["stopped"]
        # Circus made its watcher anew, and forgot the timer of the one before.
        circus = Circus(ledger)
        assert len(circus.timers) == 1
    circus.timers.pop()()
    assert [entry.kind for entry in steps.load(path).steps] == ["stopped"]
    assert ledger.unsaved is None
    assert circus.timers == []


def step(number: int) -> Step:
    return Step(number=number, kind="stopped", at=1.0, generation=4)


def test_the_executable_is_read_again_only_where_the_file_was_written_anew(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_record = steps.ExecutableOnRecord(path)
    assert on_record.now() is None
    steps.save(path, Supervision(executable=("/a", 1, 2), steps=[step(8)]))
    reads: list[str] = []

    def noted(path: str) -> bytes:
        reads.append(path)
        return Path(path).read_bytes()

    monkeypatch.setattr("codexd.child.steps.read_whole", noted)
    assert [on_record.now() for _ in range(9)] == [("/a", 1, 2)] * 9
    assert len(reads) == 1
    steps.save(path, Supervision(executable=("/b", 3, 4), steps=[step(8), step(9)]))
    assert on_record.now() == ("/b", 3, 4)
    os.unlink(path)
    assert on_record.now() is None
