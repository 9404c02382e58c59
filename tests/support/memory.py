"""Small parts that the tests of the memory share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.config import Config, resolve
from codexd.contracts import Event
from codexd.eventlog.log import EventLog
from codexd.eventlog.reader import read_events


def config_at(root: Path, **flags: str) -> Config:
    """A configuration with everything below ``root``."""
    return resolve({"repo_root": str(root), **flags}, {}, cwd=str(root))


def open_log(
    directory: Path, *, max_bytes: int = 0, backups: int = 3, cache_size: int = 50
) -> EventLog:
    """The event log of a directory."""
    return EventLog(
        str(directory / "events.jsonl"),
        str(directory / "recent-events.json"),
        max_bytes=max_bytes,
        backups=backups,
        cache_size=cache_size,
    )


def record_many(log: EventLog, count: int, *, begin: int = 0) -> None:
    """Record ``count`` events with a number in each."""
    for number in range(begin, begin + count):
        log.record("info", "test.numbered", f"number {number}", {"number": number})


def seqs(directory: Path) -> list[int]:
    """The numbers of every event in the log."""
    return [event.seq for event in all_events(directory)]


def all_events(directory: Path) -> list[Event]:
    """Every event in the log."""
    return list(read_events(str(directory / "events.jsonl")))


def log_bytes(path: Path) -> bytes:
    """A log with its rotated files, oldest first."""
    numbers = [name.removeprefix(f"{path.name}.") for name in os.listdir(path.parent)]
    rotated = sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)
    parts = [path.with_name(f"{path.name}.{number}") for number in rotated]
    return b"".join(part.read_bytes() for part in [*parts, path] if part.exists())


@contextlib.contextmanager
def small_disk(place: Path, *, size_kib: int) -> Iterator[None]:
    """A file system of its own at ``place`` that holds little; skips where none can be made."""
    place.mkdir(exist_ok=True)
    options = f"size={size_kib}k,mode=0700"
    mounted = sys.platform == "linux" and not _run(
        "mount", "-t", "tmpfs", "-o", options, "codexd-test", str(place)
    )
    if not mounted:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield
    finally:
        _run("umount", "-l", str(place))


def fill(disk: Path) -> Path:
    """Take every byte that is left on a :func:`small_disk`; returns the file that did."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        for piece in (4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue
    return filler


def remount(place: Path, options: str) -> None:
    """Change the options of a :func:`small_disk`."""
    assert _run("mount", "-o", f"remount,{options}", str(place)) == 0


def _run(*command: str) -> int:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode
    except OSError:
        return 1


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: its non-blocking reading end and its writing end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    try:
        yield read_end, write_end
    finally:
        for descriptor in (read_end, write_end):
            with contextlib.suppress(OSError):
                os.close(descriptor)
