"""Things that can stand where a file of codexd should, and a user who is somebody else."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

VICTIM = b"not codexd's\n"
SOMEBODY = 12345


class Victim:
    """A file and a directory of the user's that links lead to; nothing may change them."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.file = place / "authorized_keys"
        self.directory = place / "home"
        self.missing = place / "missing"
        self.file.write_bytes(VICTIM)
        self.file.chmod(0o644)
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o755)
        (self.directory / "mine").write_bytes(VICTIM)

    def check(self) -> None:
        """Nothing was done to them."""
        assert self.file.read_bytes() == VICTIM
        assert stat.S_IMODE(self.file.stat().st_mode) == 0o644
        assert stat.S_IMODE(self.directory.stat().st_mode) == 0o755
        assert os.listdir(self.directory) == ["mine"]
        assert not self.missing.exists()


def _device(path: Path, _victim: Victim) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _directory(path: Path, _victim: Victim) -> None:
    path.mkdir()
    (path / "inside").write_bytes(b"x")


# What is there is no regular file: it is set aside.
ODD: dict[str, Callable[[Path, Victim], None]] = {
    "directory": _directory,
    "pipe": lambda path, _: os.mkfifo(path),
    "link to a file": lambda path, victim: path.symlink_to(victim.file),
    "link to a directory": lambda path, victim: path.symlink_to(victim.directory),
    "dangling link": lambda path, victim: path.symlink_to(victim.missing),
    "device": _device,
}
# What is there is a file, and holds nothing good or only half of it.
DAMAGED: dict[str, Callable[[Path, Victim], None]] = {
    "missing": lambda _path, _victim: None,
    "empty": lambda path, _: path.touch(),
    "torn": lambda path, _: _write(path, b'{"half": [1, 2, {"thi'),
    "binary": lambda path, _: _write(path, b"\x00\xff" * 500),
}
# A file that cannot be used now; the name of what to undo it with.
CLOSED = ("unreadable", "immutable")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def remove(path: Path) -> None:
    """Take away whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(kind: str, path: Path, victim: Victim) -> None:
    """Put a thing of that kind in the place of what is there; skips where it cannot be made."""
    remove(path)
    try:
        {**ODD, **DAMAGED}[kind](path, victim)
    except PermissionError:
        pytest.skip(f"no {kind} can be made here")


@contextlib.contextmanager
def immutable(*paths: Path) -> Iterator[bool]:
    """Make files unchangeable, even for root, where the file system can; yields whether it did."""
    done = sys.platform == "linux" and all([_chattr("+i", path) for path in paths])
    try:
        yield done
    finally:
        for path in paths:
            _chattr("-i", path)


def _chattr(flag: str, path: Path) -> bool:
    try:
        return subprocess.run(["chattr", flag, str(path)], capture_output=True).returncode == 0
    except OSError:
        return False


def as_somebody(action: Callable[[], None]) -> None:
    """Run ``action`` as another user, in a process of its own; skips where nobody may do that.

    What fails there fails here.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            os.setgroups([])
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
            action()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        trouble = file.read().decode()
    os.waitpid(pid, 0)
    assert not trouble, trouble
