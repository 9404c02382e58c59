"""Reading output logs: the last lines over rotated files, and following."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.bytes_reader import Place, read_bytes
from codexd.eventlog.chain import inode, open_chain, size
from tests.support.waiting import eventually


def write_log(path: Path, pieces: list[bytes], *, max_bytes: int) -> None:
    """Where a piece is empty, the log is rotated: so a file may be empty, too."""
    log = AppendLog(str(path), max_bytes=max_bytes, backups=10_000)
    for piece in pieces:
        if not piece:
            log.rotate()
        while piece:
            if log.full:
                log.rotate()
            piece = piece[log.write(piece[: log.room]) :]
    log.close()


PIECES = st.lists(
    st.sampled_from([b"\n", b"a", b"bc\n", b"\n\n", b"a longer line", b""]), max_size=10
)


@given(PIECES, st.integers(4, 20), st.none() | st.integers(0, 12))
@example([b"a", b"", b"", b"bc\n"], 20, 1)
@settings(max_examples=80)
def test_the_last_lines_over_any_rotation(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[bytes],
    max_bytes: int,
    lines: int | None,
) -> None:
    path = tmp_path_factory.mktemp("lines") / "stdout.log"
    write_log(path, pieces, max_bytes=max_bytes)
    whole = b"".join(pieces)
    every = [line + b"\n" for line in whole.split(b"\n")]
    every[-1] = every[-1][:-1]
    if not every[-1]:
        every.pop()
    wanted = every if lines is None else every[len(every) - min(lines, len(every)) :]
    assert b"".join(read_bytes(str(path), lines=lines)) == b"".join(wanted)


@given(PIECES, st.integers(4, 20), st.integers(0, 1000))
@example([b"\na", b"", b"", b"bc\n"], 20, 3)
@settings(max_examples=40)
def test_from_the_line_that_a_place_is_in(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], max_bytes: int, at: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "stdout.log"
    write_log(path, pieces, max_bytes=max_bytes)
    whole = b"".join(pieces)
    at = min(at, len(whole))
    left = at
    with open_chain(str(path)) as files:
        for file in reversed(files):
            place = Place(inode(file), left)
            if left <= size(file):
                break
            left -= size(file)
        else:
            return
    begin = whole.rfind(b"\n", 0, at) + 1
    assert b"".join(read_bytes(str(path), after=place)) == whole[begin:]


def test_no_log_is_nothing(tmp_path: Path) -> None:
    assert list(read_bytes(str(tmp_path / "stdout.log"), lines=3)) == []


class Follower:
    """read_bytes in a thread."""

    def __init__(self, path: Path, lines: int | None = None) -> None:
        self.data = b""
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(path, lines))
        self.thread.start()

    def _run(self, path: Path, lines: int | None) -> None:
        for piece in read_bytes(str(path), lines=lines, stop=self.stop.is_set, poll_s=0.001):
            self.data += piece

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def wait_for(self, expected: bytes) -> None:
        eventually(lambda: self.data.endswith(expected[-50:]), what=f"{expected[-50:]!r}")


def test_a_follower_begins_with_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    write_log(path, [b"one\n", b"two\n", b"three\n"], max_bytes=0)
    with Follower(path, lines=1) as follower:
        follower.wait_for(b"three\n")
        write_log(path, [b"four\n"], max_bytes=0)
        follower.wait_for(b"four\n")
    assert follower.data == b"three\nfour\n"


def test_a_follower_may_come_before_the_log(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    with Follower(path) as follower:
        write_log(path, [b"one\n"], max_bytes=0)
        follower.wait_for(b"one\n")
    assert follower.data == b"one\n"


@pytest.mark.parametrize("max_bytes", [100, 1000])
def test_a_follower_goes_through_many_rotations(tmp_path: Path, max_bytes: int) -> None:
    path = tmp_path / "stdout.log"
    pieces = [b"line %d\n" % number for number in range(600)]
    with Follower(path) as follower:
        for start in range(0, len(pieces), 50):
            write_log(path, pieces[start : start + 50], max_bytes=max_bytes)
        follower.wait_for(pieces[-1])
    assert follower.data == b"".join(pieces)


def test_a_follower_survives_a_deletion(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    write_log(path, [b"before\n"], max_bytes=0)
    with Follower(path) as follower:
        follower.wait_for(b"before\n")
        os.unlink(path)
        write_log(path, [b"after\n"], max_bytes=0)
        follower.wait_for(b"after\n")
    assert follower.data == b"before\nafter\n"
