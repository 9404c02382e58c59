"""The event log: numbers without a gap, through everything that happens to the file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.contracts import Event, RecentEvents
from codexd.encoding import encode_json
from codexd.eventlog import log as log_module
from codexd.eventlog.log import EventLog
from codexd.eventlog.newest import Newest
from tests.support.memory import all_events, open_log, record_many, seqs


def test_an_event_is_one_line_as_contracted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    event = log.record("warn", "child.stderr", "stderr: ü", {"bytes": 2})
    (line,) = (tmp_path / "events.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "seq": 1,
        "createdAt": event.created_at if event else None,
        "level": "warn",
        "type": "child.stderr",
        "message": "stderr: ü",
        "detail": {"bytes": 2},
    }


def test_an_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    record_many(log, 1)
    writes: list[int] = []
    real_write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    record_many(log, 100)
    assert len(writes) == 100
    assert max(writes) < 200


def test_numbers_go_on_over_restarts_and_rotation(tmp_path: Path) -> None:
    for begin in range(0, 60, 20):
        log = open_log(tmp_path, max_bytes=1000, backups=50)
        assert log.repairs == []
        record_many(log, 20, begin=begin)
        log.close()
    assert seqs(tmp_path) == list(range(1, 61))
    assert (tmp_path / "events.jsonl.5").exists()


def test_numbers_go_on_where_every_old_file_is_dropped(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=300, backups=0)
    record_many(log, 30)
    log.close()
    log = open_log(tmp_path, max_bytes=300, backups=0)
    event = log.record("info", "test", "next")
    assert event is not None
    assert event.seq == 31


def test_recent_holds_the_last_events_of_all_files(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=500, backups=9, cache_size=10)
    record_many(log, 25)
    log.close()
    again = open_log(tmp_path, max_bytes=500, backups=9, cache_size=10)
    assert [event.seq for event in again.recent()] == list(range(16, 26))
    assert again.recent_record().events == again.recent() == log.recent()
    assert again.recent_record().max_entries == 10


def test_a_cache_of_none_still_counts(tmp_path: Path) -> None:
    record_many(open_log(tmp_path, cache_size=0), 3)
    log = open_log(tmp_path, cache_size=0)
    record_many(log, 1)
    assert seqs(tmp_path) == [1, 2, 3, 4]
    assert log.recent() == []


@given(cut=st.integers(0, 400), junk=st.binary(max_size=40))
@settings(max_examples=60)
def test_a_torn_last_line_costs_no_whole_one(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    path = directory / "events.jsonl"
    record_many(open_log(directory), 3)
    whole = path.read_bytes()
    cut = min(cut, len(whole))
    path.write_bytes(whole[:cut] + junk.replace(b"\n", b"\0"))
    complete = whole[:cut].count(b"\n")
    # A last line that lacks only its newline is whole, too.
    if not junk and cut and whole[cut : cut + 1] == b"\n":
        complete += 1
    log = open_log(directory)
    record_many(log, 2)
    assert seqs(directory) == list(range(1, complete + 3))
    for line in path.read_bytes().splitlines():
        json.loads(line)


def test_garbage_lines_are_passed_over_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    record_many(open_log(tmp_path), 2)
    garbage = b"\xff\xfe\n{}\n[]\nnull\n\n" + b"[" * 5000 + b'\n{"seq": 0}\n'
    path.write_bytes(path.read_bytes() + garbage)
    record_many(open_log(tmp_path), 2)
    assert seqs(tmp_path) == [1, 2, 3, 4]
    assert garbage in path.read_bytes()


def test_a_file_without_lines_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexd.eventlog.repair.MAX_LINE", 1000)
    (tmp_path / "events.jsonl").write_bytes(b"\0" * 5000)
    log = open_log(tmp_path)
    record_many(log, 1)
    assert "was no event log; it is kept as events.jsonl.bad-" in log.repairs[0]
    assert seqs(tmp_path) == [1]


def write_cache(directory: Path, events: list[Any]) -> None:
    document = {"maxEntries": 50, "updatedAt": None, "events": events}
    (directory / "recent-events.json").write_bytes(msgspec.json.encode(document))


def test_a_deleted_log_is_put_back_from_the_cache(tmp_path: Path) -> None:
    log = open_log(tmp_path, cache_size=5)
    record_many(log, 8)
    write_cache(tmp_path, log.recent())
    (tmp_path / "events.jsonl").unlink()
    log = open_log(tmp_path, cache_size=5)
    assert log.repairs == ["5 events were only in the cache and were put back."]
    record_many(log, 1)
    assert seqs(tmp_path) == [4, 5, 6, 7, 8, 9]
    assert [event.seq for event in log.recent()] == [5, 6, 7, 8, 9]


def test_events_that_a_power_cut_took_are_put_back(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    record_many(log, 4)
    write_cache(tmp_path, log.recent())
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines[:2]))
    record_many(open_log(tmp_path), 1, begin=9)
    assert [event.detail for event in all_events(tmp_path)] == [
        {"number": number} for number in (0, 1, 2, 3, 9)
    ]
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


def test_a_cache_of_another_history_counts_for_nothing(tmp_path: Path) -> None:
    record_many(open_log(tmp_path), 2)
    foreign = Event(seq=999, created_at="x", level="info", type="t", message="m")
    write_cache(tmp_path, [foreign, {"seq": "no"}, 7])
    log = open_log(tmp_path)
    record_many(log, 1)
    assert seqs(tmp_path) == [1, 2, 3]
    assert [event.seq for event in log.recent()] == [1, 2, 3]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b'{"events": 1}', b"[" * 10000])
def test_a_damaged_cache_is_no_hindrance(tmp_path: Path, damage: bytes) -> None:
    record_many(open_log(tmp_path), 2)
    (tmp_path / "recent-events.json").write_bytes(damage)
    record_many(open_log(tmp_path), 1)
    assert seqs(tmp_path) == [1, 2, 3]


def test_the_clock_may_jump_back(tmp_path: Path) -> None:
    times = iter(["2026-05-05T10:00:00.000Z", "2020-01-01T00:00:00.000Z"])
    log = EventLog(
        str(tmp_path / "events.jsonl"),
        str(tmp_path / "recent-events.json"),
        max_bytes=0,
        backups=0,
        cache_size=5,
        clock=lambda: next(times),
    )
    record_many(log, 2)
    log.close()
    again = open_log(tmp_path)
    record_many(again, 1)
    assert seqs(tmp_path) == [1, 2, 3]
    assert [event.seq for event in again.recent()] == [1, 2, 3]


def test_text_that_is_no_utf8_is_written_readably(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.record("info", "test", "no file \udcff", {"\udc80": ["\udc81", 1]})
    (event,) = all_events(tmp_path)
    assert event.message.startswith("no file ")
    assert event.detail is not None


def test_subscribers_hear_what_is_in_the_file(tmp_path: Path) -> None:
    log, heard = open_log(tmp_path), []

    def callback(event: Event) -> None:
        assert seqs(tmp_path)[-1] == event.seq
        heard.append(event.seq)

    log.subscribe(callback)
    record_many(log, 2)
    assert heard == [1, 2]


class FullDisk:
    """os.write that takes nothing while ``full``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor: int, data: bytes) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, data)


def test_events_wait_for_the_disk_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, disk = open_log(tmp_path), FullDisk(monkeypatch)
    record_many(log, 1)
    disk.full = True
    assert log.record("info", "test.numbered", "waits", {"number": 1}) is None
    record_many(log, 2, begin=2)
    log.tick()
    assert seqs(tmp_path) == [1]
    assert [event.seq for event in log.recent()] == [1]
    disk.full = False
    log.tick()
    record_many(log, 1, begin=4)
    assert [event.detail for event in all_events(tmp_path)] == [
        {"number": number} for number in range(5)
    ]
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


def test_more_events_than_can_wait_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_MAX_WAITING", 3)
    log, disk = open_log(tmp_path), FullDisk(monkeypatch)
    disk.full = True
    record_many(log, 10)
    disk.full = False
    log.tick()
    record_many(log, 1)
    types = [event.type for event in all_events(tmp_path)]
    assert types == ["test.numbered"] * 3 + ["events.dropped", "test.numbered"]
    assert log.dropped_total == 7
    assert log.counts == {"other": 4, "events.dropped": 1}
    assert all_events(tmp_path)[3].detail == {"count": 7}
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


def test_a_log_deleted_under_the_writer_goes_on(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    record_many(log, 2)
    log.tick()
    (tmp_path / "events.jsonl").unlink()
    record_many(log, 1)
    log.tick()
    record_many(log, 1)
    assert seqs(tmp_path) == [3, 4]


def test_last_number_is_that_of_the_newest_event_that_has_one(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=1000, backups=9)
    log.record("info", "test", "m", {"step": 4})
    log.record("info", "test", "m", {"step": 5})
    record_many(log, 20)
    path = str(tmp_path / "events.jsonl")
    assert Newest.scanned(path).step(path) == log.kinds.step(path) == 5
    record_many(log, 100)
    assert Newest.scanned(path).step(path) is None
    assert log.kinds.step(path) == 5
    nowhere = str(tmp_path / "nowhere")
    assert Newest.scanned(nowhere).step(nowhere) == 0


@pytest.mark.parametrize("later", [0, 1, 40])
@pytest.mark.parametrize("damage", ["", "no cache", "of an earlier version", "of another log"])
def test_the_newest_of_a_kind_is_found_again_without_reading_the_log(
    tmp_path: Path, later: int, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codexd.eventlog.log._LOOK_BACK", 50)
    log = open_log(tmp_path, cache_size=5)
    log.record("info", "daemon.started", "m", {"pid": 1})
    log.record("info", "child.started", "m", {"step": 7})
    record_many(log, 100)
    log.record("error", "child.exited", "m", {"step": 8, "code": 1})
    log.record("info", "child.started", "m", {"step": 9})
    record_many(log, 100)
    cache = json.loads(encode_json(log.recent_record()))
    if later:
        log.record("info", "daemon.stopped", "m")
    record_many(log, max(later - 1, 0))
    log.close()
    if damage == "of an earlier version":
        del cache["newest"]
    elif damage == "of another log":
        cache["events"][-1]["createdAt"] = "2001-01-01T00:00:00.000Z"
    if damage != "no cache":
        (tmp_path / "recent-events.json").write_text(json.dumps(cache))
    scans: list[str] = []
    scanned = Newest.scanned

    def noted(path: str) -> Newest:
        scans.append(path)
        return scanned(path)

    monkeypatch.setattr(Newest, "scanned", noted)
    again = open_log(tmp_path, cache_size=5)
    assert again.kinds.kept() == log.kinds.kept() == scanned(log.path).kept()
    assert [event.type for event in again.kinds.kept()] == [
        "daemon.started",
        "child.exited",
        "child.started",
        *(["daemon.stopped"] if later else []),
    ]
    assert bool(scans) == bool(damage)


def kept_numbers(record: RecentEvents) -> tuple[list[int], list[int]]:
    """Those of the last events, and of the newest of each kind."""
    cache = json.loads(encode_json(record))
    last, newest = ([event["seq"] for event in cache[key]] for key in ("events", "newest"))
    return last, newest


def test_what_comes_during_the_flush_is_not_kept_ahead_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path)
    log.record("info", "child.started", "m", {"step": 7})
    flush = log._log.flush

    def busy_flush() -> None:
        flush()
        # The power may fail before this one is on the device.
        log.record("error", "child.exited", "m", {"step": 8})

    monkeypatch.setattr(log._log, "flush", busy_flush)
    assert kept_numbers(log.recent_record()) == ([1], [1])
    assert log.newest == 2


def test_the_newest_have_every_event_that_is_among_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path)
    log.record("info", "child.started", "m", {"step": 7})
    heard = log.kinds.heard
    seen: list[tuple[list[int], list[int]]] = []

    def heard_while_another_thread_looks(event: Event) -> None:
        seen.append(kept_numbers(log.recent_record()))
        heard(event)
        seen.append(kept_numbers(log.recent_record()))

    monkeypatch.setattr(log.kinds, "heard", heard_while_another_thread_looks)
    log.record("error", "child.exited", "m", {"code": 1})
    # A later one is found again in the log.
    assert seen == [([1], [1]), ([1], [1, 2])]
    assert kept_numbers(log.recent_record()) == ([1, 2], [1, 2])


@pytest.mark.parametrize("cache_size", [0, 1, 2, 50])
@pytest.mark.parametrize("cached", [(), (9, 8), (7, 9, 8), (8, 9)])
def test_no_number_is_given_twice_after_an_unordered_log(
    tmp_path: Path, cache_size: int, cached: tuple[int, ...]
) -> None:
    order = (1, 2, 3, 4, 5, 6, 7, 9, 8)
    lines = {seq: encode_json(event(seq)) for seq in order}
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines[seq] + b"\n" for seq in order))
    cache = {"maxEntries": 50, "events": [event(seq) for seq in cached]}
    (tmp_path / "recent-events.json").write_bytes(encode_json(cache))
    log = open_log(tmp_path, cache_size=cache_size)
    record_many(log, 2)
    log.close()
    data = (tmp_path / "events.jsonl").read_bytes()
    assert [json.loads(line)["seq"] for line in data.splitlines()] == [*order, 10, 11]
    assert log.repairs == []


def test_events_that_only_the_cache_has_follow_an_unordered_log(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(
        b"".join(encode_json(event(seq)) + b"\n" for seq in (1, 3, 2))
    )
    cache = {"maxEntries": 50, "events": [event(seq) for seq in (1, 2, 3, 4, 5)]}
    (tmp_path / "recent-events.json").write_bytes(encode_json(cache))
    log = open_log(tmp_path)
    log.close()
    data = (tmp_path / "events.jsonl").read_bytes()
    assert [json.loads(line)["seq"] for line in data.splitlines()] == [1, 3, 2, 4, 5]


def event(seq: int) -> Event:
    return Event(seq=seq, created_at=f"time {seq}", level="info", type="t", message="m")
