"""Reading events: the past at little cost, and what comes, through rotation and restarts."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.contracts import Event
from codexd.eventlog.lines import lines_with
from codexd.eventlog.reader import begins_at_the_beginning, follow_events, read_events
from tests.support.memory import all_events, open_log, record_many
from tests.support.waiting import eventually


def path_in(directory: Path) -> str:
    return str(directory / "events.jsonl")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three thousand events of a few kinds in many files, with garbage between."""
    directory = tmp_path_factory.mktemp("history")
    log = open_log(directory, max_bytes=100_000, backups=20)
    for number in range(1, 3001):
        level = ("info", "warn", "error")[number % 3]
        log.record(level, f"kind.{number % 7}", "m" * (number % 300))  # type: ignore[arg-type]
        if number % 500 == 0:
            (directory / "events.jsonl").open("ab").write(b"garbage\n")
            log.close()
            log = open_log(directory, max_bytes=100_000, backups=20)
    assert (directory / "events.jsonl.4").exists()
    return directory


@given(
    since=st.integers(0, 3100),
    types=st.sets(st.sampled_from([f"kind.{number}" for number in range(8)]), max_size=3),
    levels=st.sets(st.sampled_from(["info", "warn", "error"]), max_size=2),
    last=st.none() | st.integers(0, 50),
)
@settings(max_examples=60)
def test_every_combination_gives_what_looking_at_all_gives(
    history: Path, since: int, types: set[str], levels: set[str], last: int | None
) -> None:
    expected = [
        event.seq
        for event in all_events(history)
        if event.seq > since
        and (not types or event.type in types)
        and (not levels or event.level in levels)
    ]
    if last is not None:
        expected = expected[len(expected) - last :] if last < len(expected) else expected
    found = read_events(path_in(history), since=since, types=types, levels=levels, last=last)
    assert [event.seq for event in found] == expected


def test_all_of_it_is_there(history: Path) -> None:
    assert [event.seq for event in all_events(history)] == list(range(1, 3001))
    assert begins_at_the_beginning(path_in(history))


@pytest.mark.parametrize("arguments", [{"since": 2990}, {"last": 10}])
def test_a_long_history_is_not_read_for_a_few_events(
    history: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, int]
) -> None:
    total = sum(file.stat().st_size for file in history.iterdir())
    read: list[int] = []
    real_pread = os.pread

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        data = real_pread(descriptor, count, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    found = list(read_events(path_in(history), **arguments))  # type: ignore[arg-type]
    assert [event.seq for event in found] == list(range(2991, 3001))
    assert sum(read) < total / 2


def test_no_log_is_no_events(tmp_path: Path) -> None:
    assert all_events(tmp_path) == []
    assert list(read_events(path_in(tmp_path / "nowhere"), last=3)) == []
    assert begins_at_the_beginning(path_in(tmp_path))


@given(
    st.lists(st.sampled_from([b"MARK", b"a\n", b"\n", b"bMARKc\n", b"MA", b"RK\n"]), max_size=30),
    st.integers(1, 30),
)
@settings(max_examples=100)
def test_marked_lines_are_found_whatever_the_block(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], block: int
) -> None:
    path = tmp_path_factory.mktemp("marked") / "log"
    path.write_bytes(b"".join(pieces))
    whole = b"".join(pieces).split(b"\n")[:-1]
    with open(path, "rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("codexd.eventlog.lines._SEARCH_BLOCK", block)
        patch.setattr("codexd.eventlog.lines._BLOCK", block)
        assert list(lines_with(file, b"MARK")) == [line for line in whole if b"MARK" in line][::-1]


def test_many_marked_lines_cost_one_read_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a MARK\n" * 1000)
    read: list[int] = []
    pread = os.pread

    def noted(descriptor: int, count: int, offset: int) -> bytes:
        read.append(count)
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", noted)
    with open(path, "rb") as file:
        assert len(list(lines_with(file, b"MARK"))) == 1000
    # The block, and what finds the line that begins it.
    assert sum(read) < 3 * path.stat().st_size + (1 << 18)


class Follower:
    """follow_events in a thread."""

    def __init__(self, path: str, **arguments: object) -> None:
        self.events: list[Event] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(path, arguments))
        self._thread.start()

    def _run(self, path: str, arguments: dict[str, object]) -> None:
        stop: Callable[[], bool] = self._stop.is_set
        for event in follow_events(path, stop=stop, poll_s=0.001, **arguments):  # type: ignore[arg-type]
            self.events.append(event)

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]

    def wait_for(self, seq: int) -> None:
        eventually(lambda: seq in self.seqs[-1:], what=f"event {seq}")

    def end(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


Follow = Callable[..., Follower]


@pytest.fixture
def follow() -> Iterator[Follow]:
    followers: list[Follower] = []

    def begin(path: str, **arguments: object) -> Follower:
        followers.append(Follower(path, **arguments))
        return followers[-1]

    yield begin
    for follower in followers:
        follower.end()


def test_a_follower_gets_the_past_and_what_comes(tmp_path: Path, follow: Follow) -> None:
    log = open_log(tmp_path)
    record_many(log, 3)
    follower = follow(path_in(tmp_path), since=1)
    follower.wait_for(3)
    record_many(log, 2)
    follower.wait_for(5)
    assert follower.seqs == [2, 3, 4, 5]


def test_a_follower_may_come_before_the_log(tmp_path: Path, follow: Follow) -> None:
    follower = follow(path_in(tmp_path / "later"))
    record_many(open_log(tmp_path / "later"), 2)
    follower.wait_for(2)
    assert follower.seqs == [1, 2]


def test_a_follower_goes_through_rotations_and_restarts(tmp_path: Path, follow: Follow) -> None:
    follower = follow(path_in(tmp_path))
    for _ in range(5):
        log = open_log(tmp_path, max_bytes=2000, backups=100)
        record_many(log, 200)
        log.close()
    follower.wait_for(1000)
    assert follower.seqs == list(range(1, 1001))


def test_a_follower_sees_only_what_it_asked_for(tmp_path: Path, follow: Follow) -> None:
    follower = follow(path_in(tmp_path), types=["wanted"], levels=["warn"])
    log = open_log(tmp_path)
    log.record("info", "wanted", "m")
    log.record("warn", "other", "m")
    log.record("warn", "wanted", "m")
    follower.wait_for(3)
    assert follower.seqs == [3]


@pytest.mark.parametrize("whole_directory", [False, True])
def test_a_follower_survives_a_deletion(
    tmp_path: Path, follow: Follow, whole_directory: bool
) -> None:
    directory = tmp_path / "logs"
    log = open_log(directory)
    record_many(log, 3)
    log.tick()
    follower = follow(path_in(directory))
    follower.wait_for(3)
    if whole_directory:
        shutil.rmtree(directory)
    else:
        os.unlink(path_in(directory))
    record_many(log, 2)
    log.tick()
    record_many(log, 2)
    follower.wait_for(7)
    assert follower.seqs == list(range(1, 8))


def test_a_follower_never_sees_a_torn_line(tmp_path: Path, follow: Follow) -> None:
    record_many(open_log(tmp_path), 2)
    whole = Path(path_in(tmp_path)).read_bytes()
    torn = whole.replace(b'"seq":2', b'"seq":3').splitlines(keepends=True)[1]
    with open(path_in(tmp_path), "ab") as file:
        file.write(torn[:-30])
    follower = follow(path_in(tmp_path))
    follower.wait_for(2)
    # The writer comes back, cuts the torn line off and writes others in its place.
    record_many(open_log(tmp_path), 3, begin=100)
    follower.wait_for(5)
    assert follower.seqs == [1, 2, 3, 4, 5]
    assert [event.detail for event in follower.events[2:]] == [
        {"number": number} for number in (100, 101, 102)
    ]
