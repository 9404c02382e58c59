"""State files: whole or not at all, whatever the disk does."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from codexd.platform.files import remove_leftovers
from codexd.store.files import pretty, write_atomic


def test_the_file_and_its_directories_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "state.json"
    write_atomic(str(path), b"{}\n")
    assert path.read_bytes() == b"{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.touch(mode=0o666)
    path.chmod(0o666)
    write_atomic(str(path), b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state.json"
    write_atomic(str(path), b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_the_data_is_on_the_device_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(source: str, target: str, **directories: int) -> None:
        calls.append("rename")
        real_replace(source, target, **directories)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_atomic(str(tmp_path / "state.json"), b"x")
    assert calls == ["file", "rename", "directory"]


def test_leftovers_of_a_killed_writer_go(tmp_path: Path) -> None:
    for name in (".state.json.123.tmp", ".other.json.123.tmp", "state.json"):
        (tmp_path / name).touch()
    remove_leftovers(str(tmp_path / "state.json"))
    assert sorted(os.listdir(tmp_path)) == [".other.json.123.tmp", "state.json"]


def test_a_reader_in_a_tight_loop_never_sees_a_partial_file(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    versions = [pretty({"version": number, "fill": "x" * 20_000 * number}) for number in range(4)]
    write_atomic(path, versions[0])
    done, seen, bad = threading.Event(), set(), []

    def read() -> None:
        while not done.is_set():
            with open(path, "rb") as file:
                data = file.read()
            if data in versions:
                seen.add(msgspec.json.decode(data)["version"])
            else:
                bad.append(data[:100])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(400):
        write_atomic(path, versions[number % 4])
    done.set()
    reader.join(10)
    assert bad == []
    assert len(seen) > 1


def test_pretty_is_two_spaces_and_a_newline() -> None:
    assert pretty({"a": [1], "b": None}) == b'{\n  "a": [\n    1\n  ],\n  "b": null\n}\n'
    assert b"name " in pretty({"a": "name \udcff"})
