"""A log file: rotation, healing, and writes that the disk does not take."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from itertools import pairwise
from pathlib import Path

import pytest

from codexd.eventlog.appendlog import AppendLog
from tests.support.memory import log_bytes, pipe


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "codexd" / "stdout.log"


def append_log(path: Path, *, max_bytes: int = 0, backups: int = 3) -> AppendLog:
    return AppendLog(str(path), max_bytes=max_bytes, backups=backups)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_and_directories_are_private(path: Path) -> None:
    append_log(path).write(b"x")
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


def test_a_file_that_others_may_read_is_made_private(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch(mode=0o644)
    append_log(path)
    assert mode(path) == 0o600


def test_goes_on_after_what_is_there(path: Path) -> None:
    for piece in (b"one\n", b"two\n"):
        log = append_log(path)
        assert log.write(piece) == 4
        log.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_lines_rotate_whole_and_the_oldest_goes(path: Path) -> None:
    log = append_log(path, max_bytes=10, backups=2)
    for number in range(8):
        assert log.write_line(b"%03d\n" % number)
    assert path.read_bytes() == b"006\n007\n"
    assert log_bytes(path) == b"002\n003\n004\n005\n006\n007\n"
    assert sorted(os.listdir(path.parent)) == ["stdout.log", "stdout.log.1", "stdout.log.2"]
    assert all(mode(path.parent / name) == 0o600 for name in os.listdir(path.parent))


def test_a_line_longer_than_the_limit_is_written_all_the_same(path: Path) -> None:
    log = append_log(path, max_bytes=4)
    assert log.write_line(b"much longer\n")
    assert log.write_line(b"again\n")
    assert log_bytes(path) == b"much longer\nagain\n"


def test_without_backups_the_old_content_goes(path: Path) -> None:
    log = append_log(path, max_bytes=8, backups=0)
    for line in (b"first\n", b"second\n"):
        log.write_line(line)
    assert os.listdir(path.parent) == ["stdout.log"]
    assert path.read_bytes() == b"second\n"


def test_files_that_follow_each_other_have_different_inodes(path: Path) -> None:
    log = append_log(path, max_bytes=1, backups=0)
    seen = [log.position.inode]
    for _ in range(5):
        log.write_line(b"line\n")
        log.rotate()
        seen.append(log.position.inode)
    assert all(one != other for one, other in pairwise(seen))


def test_a_follower_keeps_the_file_it_has_open(path: Path) -> None:
    log = append_log(path, max_bytes=100)
    with open(path, "rb") as follower:
        log.write(b"before\n")
        log.rotate()
        log.write(b"after\n")
        assert follower.read() == b"before\n"
    assert path.read_bytes() == b"after\n"


def test_a_rotation_that_fails_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = append_log(path, max_bytes=4)

    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        for _ in range(3):
            assert log.write_line(b"line\n")
        assert log.trouble is None
    assert path.read_bytes() == b"line\n" * 3


def test_what_follows_a_deletion_is_not_lost(path: Path) -> None:
    log = append_log(path)
    log.write(b"before\n")
    log.heal()
    path.unlink()
    log.write(b"after\n")
    log.heal()
    log.write(b"later\n")
    assert path.read_bytes() == b"after\nlater\n"
    assert mode(path) == 0o600


def test_a_removed_directory_is_made_again(path: Path) -> None:
    log = append_log(path)
    log.heal()
    shutil.rmtree(path.parent.parent)
    log.write(b"after\n")
    log.heal()
    assert path.read_bytes() == b"after\n"
    assert mode(path.parent) == 0o700


def test_a_log_that_was_renamed_by_someone_is_not_copied(path: Path) -> None:
    log = append_log(path)
    log.write(b"before\n")
    path.rename(path.with_name("kept"))
    log.heal()
    log.write(b"after\n")
    assert path.read_bytes() == b"after\n"
    assert path.with_name("kept").read_bytes() == b"before\n"


def test_a_log_that_was_emptied_by_someone_gets_no_hole(path: Path) -> None:
    log = append_log(path)
    log.write(b"before\n")
    os.truncate(path, 0)
    log.heal()
    log.write(b"after\n")
    assert path.read_bytes() == b"after\n"


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file_is_set_aside(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True)
    if kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    log = append_log(path)
    assert log.write(b"x") == 1
    assert path.read_bytes() == b"x"
    assert any(name.startswith("stdout.log.bad-") for name in os.listdir(path.parent))


def test_a_line_that_does_not_fit_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = append_log(path)
    assert log.write_line(b"whole\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(3))
        assert not log.write_line(b"torn line\n")
        assert log.trouble == "No space left on device"
        assert path.read_bytes() == b"whole\n"
    assert log.write_line(b"next\n")
    assert log.trouble is None
    assert path.read_bytes() == b"whole\nnext\n"


def test_a_torn_line_that_cannot_be_cut_off_now_is_cut_off_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = append_log(path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(3))
        patch.setattr(os, "ftruncate", refuse)
        assert not log.write_line(b"torn line\n")
        assert not log.write_line(b"not after it\n")
    assert log.write_line(b"next\n")
    assert path.read_bytes() == b"next\n"


def test_a_line_does_not_go_on_a_torn_one_of_an_earlier_writer(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    log = append_log(path)
    log.write_line(b"line\n")
    log.write_line(b"line\n")
    assert path.read_bytes() == b"torn\nline\nline\n"


def test_output_that_does_not_fit_stays_as_far_as_it_went(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = append_log(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(3))
        assert log.write(b"abcdef") == 3
    assert log.write(b"def") == 3
    assert path.read_bytes() == b"abcdef"


def test_a_log_that_cannot_be_opened_is_opened_when_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        log = append_log(path)
        assert log.write(b"x") == 0
        assert log.trouble == "Read-only file system"
    log.heal()
    assert log.write(b"x") == 1
    assert log.trouble is None


@pytest.mark.skipif(not hasattr(os, "splice"), reason="no splice here")
def test_splice_appends_what_the_pipe_holds(path: Path) -> None:
    log = append_log(path)
    log.write(b"first,")
    with pipe() as (reading, writing):
        with pytest.raises(BlockingIOError):
            log.splice_from(reading, 100)
        os.write(writing, b"second,third")
        assert log.splice_from(reading, 7) == 7
        assert log.read_back(7) == b"second,"
        assert log.splice_from(reading, 100) == 5
        os.close(writing)
        assert log.splice_from(reading, 100) == 0
    assert path.read_bytes() == b"first,second,third"
    assert log.position == (path.stat().st_ino, 18)


def full_after(count: int) -> object:
    """An os.write that takes ``count`` bytes once and nothing after."""
    real_write = os.write
    taken: list[bool] = []

    def write(descriptor: int, data: bytes) -> int:
        if taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken.append(True)
        return real_write(descriptor, bytes(data[:count]))

    return write


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_rotation_moves_what_is_no_file_out_of_the_way(path: Path, number: int) -> None:
    log = append_log(path, max_bytes=6)
    for _ in range(3):
        log.write_line(b"before\n")
    odd = path.with_name(f"{path.name}.{number}")
    odd.unlink(missing_ok=True)
    odd.mkdir()
    (odd / "inside").touch()
    log.write_line(b"after\n")
    log.write_line(b"later\n")
    assert path.read_bytes() == b"later\n"
    assert path.with_name(f"{path.name}.1").read_bytes() == b"after\n"
    assert any(name.startswith(f"{odd.name}.bad-") for name in os.listdir(path.parent))


def test_a_rotation_looks_only_at_files_that_are_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = append_log(path, max_bytes=6, backups=10_000)
    log.write_line(b"before\n")
    looks: list[object] = []
    real = os.lstat

    def counted(where: str) -> os.stat_result:
        looks.append(where)
        return real(where)

    monkeypatch.setattr(os, "lstat", counted)
    log.write_line(b"after\n")
    assert len(looks) < 10
