"""Output capture: every byte into the log, in order, and told in bursts that add up."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codexd.eventlog import capture as capture_module
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture, last_burst_detail, unaccounted
from codexd.eventlog.newest import Newest
from codexd.eventlog.preview import preview
from codexd.eventlog.stage import Stage
from codexd.platform import pipes
from tests.support.memory import log_bytes, open_log, pipe, record_many


class Rig:
    """A pipe, a capture, and what the capture told."""

    def __init__(self, directory: Path, *, max_bytes: int = 0, backups: int = 50) -> None:
        self.path = directory / "stdout.log"
        self.log = AppendLog(str(self.path), max_bytes=max_bytes, backups=backups)
        self.bursts: list[Burst] = []
        self.lost: list[int] = []
        self.data: list[bytes] = []
        self.capture = OutputCapture(
            self.log, on_burst=self.bursts.append, on_lost=self.lost.append
        )
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.stage: Stage | None = None

    def feed(self, data: bytes, *, listen: bool = False) -> int:
        """Write ``data`` into the pipe and pump it out."""
        moved = 0
        for start in range(0, len(data), 60_000):
            os.write(self.writing, data[start : start + 60_000])
            while count := self.capture.pump(
                self.reading, on_data=self.data.append if listen else None, stage=self.stage
            ):
                moved += count
                assert self.stage is None or not self.stage.held
        return moved

    def take(self) -> Burst:
        burst = self.capture.take_burst()
        assert burst is not None
        self.bursts.append(burst)
        return burst

    def close(self) -> None:
        self.capture.close()
        os.close(self.reading)
        os.close(self.writing)
        if self.stage is not None:
            self.stage.close()


_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has splice(2)")


@pytest.fixture(params=["splice", "copy", pytest.param("stage", marks=_LINUX)])
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    """The same with and without splice, and with all of it by way of a stage."""
    if request.param == "copy":
        monkeypatch.setattr("codexd.eventlog.appendlog.splice", no_splice)
    made = Rig(tmp_path, max_bytes=200_000)
    if request.param == "stage":
        monkeypatch.setattr(capture_module, "_MUCH_BYTES", 1)
        monkeypatch.setattr(capture_module, "_FEW_BYTES", 1)
        made.stage = open_stage(tmp_path)
    yield made
    made.close()


def open_stage(directory: Path) -> Stage:
    os.mkfifo(directory / "stage")
    return Stage(str(directory / "stage"))


def no_splice(*_: object) -> int:
    raise pipes.CannotSplice


def test_every_byte_in_order_and_told(rig: Rig) -> None:
    everything = os.urandom(777_777)
    assert rig.feed(everything, listen=True) == len(everything)
    rig.take()
    assert log_bytes(rig.path) == everything == b"".join(rig.data)
    assert sum(burst.bytes for burst in rig.bursts) == len(everything)
    assert rig.path.with_name("stdout.log.3").stat().st_size == 200_000


def test_an_empty_pipe_is_not_waited_for(rig: Rig) -> None:
    assert rig.capture.pump(rig.reading) == 0
    assert rig.capture.take_burst() is None
    os.write(rig.writing, b"x" * 5000)
    assert rig.capture.pump(rig.reading, 1000) == 1000
    assert rig.capture.pump(rig.reading) == 4000


def test_one_child_after_the_other(rig: Rig) -> None:
    rig.feed(b"first child\n")
    with pipe() as (reading, writing):
        os.write(writing, b"second child\n")
        os.close(writing)
        assert rig.capture.pump(reading) == 13
        assert rig.capture.pump(reading) == 0
    assert rig.path.read_bytes() == b"first child\nsecond child\n"
    assert rig.take().preview == "first child second child"


def test_a_burst_says_where_it_ends(rig: Rig) -> None:
    rig.feed(b"one\n")
    rig.take()
    rig.feed(b"two\n")
    detail = rig.take().detail("stdout")
    inode = rig.path.stat().st_ino
    assert detail == {"bytes": 4, "stream": "stdout", "inode": inode, "end": 8}


def test_a_burst_never_reaches_over_a_rotation(rig: Rig) -> None:
    rig.feed(b"x" * 250_000)
    last = rig.take()
    assert [(burst.bytes, burst.position.end) for burst in rig.bursts] == [
        (200_000, 200_000),
        (50_000, 50_000),
    ]
    assert last.position.inode == rig.path.stat().st_ino


def test_characters_cut_at_a_boundary_stay_whole_in_the_log(rig: Rig) -> None:
    text = "模型🚀é" * 40_000
    data = text.encode()
    for start in range(0, len(data), 50_001):
        rig.feed(data[start : start + 50_001])
        rig.take()
    assert log_bytes(rig.path).decode() == text
    assert all("\ufffd" not in burst.preview for burst in rig.bursts)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=30), st.integers(8, 500))
@example([b"abc", b"d", b"efg"], 1)
@settings(max_examples=40)
def test_any_pieces_and_any_size_of_file(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], max_bytes: int
) -> None:
    made = Rig(tmp_path_factory.mktemp("pieces"), max_bytes=max_bytes, backups=10_000)
    try:
        for number, piece in enumerate(pieces):
            made.feed(piece, listen=True)
            burst = made.capture.take_burst() if number % 3 == 0 else None
            made.bursts += [burst] if burst else []
    finally:
        made.close()
    everything = b"".join(pieces)
    assert log_bytes(made.path) == everything == b"".join(made.data)
    assert sum(burst.bytes for burst in made.bursts) == len(everything)


# -- the stage -------------------------------------------------------------------------------


@_LINUX
def test_much_goes_by_the_stage_and_a_message_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Rig(tmp_path)
    made.stage = open_stage(tmp_path)
    filled: list[int] = []
    fill = made.stage.fill

    def counted(pipe_fd: int, max_bytes: int) -> int:
        filled.append(fill(pipe_fd, max_bytes))
        return filled[-1]

    monkeypatch.setattr(made.stage, "fill", counted)
    fcntl.fcntl(made.writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    for _ in range(3):
        os.write(made.writing, b"a message\n")
        assert made.capture.pump(made.reading, stage=made.stage) == 10
    assert filled == []
    os.write(made.writing, b"x" * 500_000)
    for _ in range(4):
        made.capture.pump(made.reading, 1 << 17, stage=made.stage)
    assert filled == [1 << 17] * 2 + [500_000 - 3 * (1 << 17)]
    assert made.path.stat().st_size == 500_030
    made.close()


@_LINUX
def test_what_an_earlier_process_left_on_the_stage_comes_first(tmp_path: Path) -> None:
    made = Rig(tmp_path)
    stage = open_stage(tmp_path)
    os.write(made.writing, b"first,")
    stage.fill(made.reading, 100)
    made.stage = Stage(str(tmp_path / "stage"))
    stage.close()
    assert made.feed(b"then", listen=True) == 10
    assert made.path.read_bytes() == b"first,then" == b"".join(made.data)
    made.close()


@_LINUX
def test_a_stage_that_has_less_than_was_thought_does_not_stop_the_child(tmp_path: Path) -> None:
    made = Rig(tmp_path)
    made.stage = open_stage(tmp_path)
    os.write(made.writing, b"one,")
    made.stage.fill(made.reading, 100)

    def fails(data: bytes) -> None:
        raise ValueError(data)

    # It has left the stage, and whoever listens has a fault.
    with pytest.raises(ValueError, match="one"):
        made.capture.pump(made.reading, on_data=fails, stage=made.stage)
    # And somebody else has read from the stage.
    os.write(made.writing, b"two,")
    made.stage.fill(made.reading, 100)
    made.stage.held += 5
    assert made.capture.pump(made.reading, stage=made.stage) == 4
    assert made.feed(b"three") == 5
    assert made.path.read_bytes() == b"one,two,three"
    made.close()


# -- previews --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "is_cut", "expected"),
    [
        (b" a\r\n\tb  c\n", False, "a b c"),
        (b"x" * 160, False, "x" * 160),
        (b"x" * 161, False, "x" * 157 + "..."),
        (b"short", True, "short..."),
        ("🚀".encode()[2:] + b"after", False, "after"),
        (b"before" + "🚀".encode()[:3], False, "before"),
        (b"a\xffb", False, "a\ufffdb"),
        (b"", False, ""),
        (b"\x80", False, ""),
    ],
)
def test_a_preview(sample: bytes, is_cut: bool, expected: str) -> None:
    assert preview(sample, is_cut=is_cut) == expected


@given(st.text(max_size=500), st.integers(0, 5))
@settings(max_examples=60)
def test_a_preview_is_short_and_one_line(text: str, cut: int) -> None:
    shown = preview(text.encode("utf-8", "surrogatepass")[cut:], is_cut=False)
    assert len(shown) <= 160
    assert "\n" not in shown
    assert shown == shown.strip()


def test_a_long_burst_shows_its_beginning(rig: Rig) -> None:
    rig.feed(b"begin ")
    rig.feed(b"y" * 10_000)
    assert rig.take().preview == "begin " + "y" * 151 + "..."


# -- trouble ---------------------------------------------------------------------------------


class Disk:
    """Makes the log's writes fail while ``full``, and the clock of the retries stand still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.now = 1000.0
        self._write, self._splice = os.write, pipes.splice
        self._log_fds: set[int] = set()
        monkeypatch.setattr("codexd.eventlog.appendlog.splice", self.splice)
        monkeypatch.setattr("codexd.eventlog.appendlog.os.write", self.write)
        monkeypatch.setattr("codexd.eventlog.capture.time.monotonic", lambda: self.now)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.full and os.path.isfile(f"/dev/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, data)

    def splice(self, pipe_fd: int, file_fd: int, max_bytes: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._splice(pipe_fd, file_fd, max_bytes)


def test_a_full_disk_does_not_stop_the_child(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    rig.feed(b"before,", listen=True)
    disk.full = True
    assert rig.feed(b"while,", listen=True) == 6
    assert rig.log.trouble == "No space left on device"
    disk.now += 1
    rig.capture.tick()
    assert rig.path.read_bytes() == b"before,"
    disk.full = False
    disk.now += 1
    assert rig.feed(b"after", listen=True) == 5
    rig.take()
    assert rig.path.read_bytes() == b"before,while,after" == b"".join(rig.data)
    assert sum(burst.bytes for burst in rig.bursts) == 18
    assert rig.lost == []
    assert rig.log.trouble is None


def test_what_memory_does_not_hold_is_counted_once_the_disk_is_well(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_module, "_MAX_HELD", 1000)
    disk = Disk(monkeypatch)
    disk.full = True
    flood = bytes(range(256)) * 1000
    assert rig.feed(flood, listen=True) == len(flood)
    assert rig.capture.take_burst() is None
    assert rig.lost == []
    disk.full = False
    disk.now += 1
    rig.capture.tick()
    rig.feed(b"after", listen=True)
    rig.take()
    assert rig.lost == [len(flood) - 1000]
    assert rig.path.read_bytes() == flood[:1000] + b"after"
    assert sum(burst.bytes for burst in rig.bursts) == 1005
    assert b"".join(rig.data) == flood + b"after"


def test_a_sick_disk_is_not_tried_at_every_piece(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.full = True
    rig.feed(b"x")
    tries: list[int] = []
    real_write = rig.log.write

    def counted(data: bytes) -> int:
        tries.append(len(data))
        return real_write(data)

    monkeypatch.setattr(rig.log, "write", counted)
    for _ in range(10):
        rig.feed(b"x")
        rig.capture.tick()
    assert tries == []
    disk.now += 0.25
    rig.feed(b"x")
    assert tries == [11]


def test_what_is_held_at_the_end_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Rig(tmp_path)
    disk = Disk(monkeypatch)
    disk.full = True
    made.feed(b"12345")
    made.close()
    assert made.lost == [5]


# -- accounting after a kill -----------------------------------------------------------------


def test_bytes_after_the_last_event_are_found(rig: Rig) -> None:
    rig.feed(b"told")
    detail = rig.take().detail("stdout")
    rig.feed(b"untold")
    inode = rig.path.stat().st_ino
    assert unaccounted(str(rig.path), detail) == (6, {"inode": inode, "end": 10})
    rig.feed(b"x" * 300_000)
    count, position = unaccounted(str(rig.path), detail)
    assert count == 300_006
    assert unaccounted(str(rig.path), position) == (0, position)


def test_accounting_of_odd_logs(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    assert unaccounted(str(path), None) == (0, {"inode": 0, "end": 0})
    path.write_bytes(b"12345")
    inode = path.stat().st_ino
    assert unaccounted(str(path), None)[0] == 5
    assert unaccounted(str(path), {"bytes": 5, "stream": "stdout"})[0] == 0
    assert unaccounted(str(path), {"inode": inode, "end": 9})[0] == 5
    assert unaccounted(str(path), {"inode": inode + 1, "end": 2})[0] == 5
    assert unaccounted(str(path), {"inode": "no", "end": None})[0] == 0


def test_the_last_burst_event_is_found_under_any_others(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=5000, backups=50)
    events_path = str(tmp_path / "events.jsonl")
    assert last_burst_detail(log.kinds, events_path, "stdout") is None
    log.record("info", "child.stdout", "stdout: x", {"bytes": 1, "inode": 7, "end": 1})
    log.record("warn", "child.stderr", "stderr: x", {"bytes": 2, "inode": 8, "end": 2})
    log.record("info", "test", 'speaks of "child.stdout"', None)
    record_many(log, 100)
    for kinds in (log.kinds, Newest.scanned(events_path)):
        stdout = last_burst_detail(kinds, events_path, "stdout")
        assert stdout == {"bytes": 1, "inode": 7, "end": 1}
        stderr = last_burst_detail(kinds, events_path, "stderr")
        assert stderr == {"bytes": 2, "inode": 8, "end": 2}


def test_a_burst_event_that_was_rotated_away_is_not_told_again(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=500, backups=1)
    log.record("info", "child.stdout", "stdout: x", {"bytes": 1, "inode": 7, "end": 1})
    record_many(log, 100)
    events_path = str(tmp_path / "events.jsonl")
    assert last_burst_detail(Newest.scanned(events_path), events_path, "stdout") == {}
