"""codexd's own log, and what the daemon prints: both have an end, and cope with what is there."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.handler import AppendLogHandler
from tests.support.memory import fill, small_disk
from tests.support.odd import ODD, Victim, put

PRINT = """
import os, sys
from codexd.eventlog.own_output import bound_own_output
for number in range(100):
    print("line", number, flush=True)
    print("trouble", number, file=sys.stderr, flush=True)
    bound_own_output(lambda: [sys.argv[1]], max_bytes=200)
"""


def run(path: Path, mode: str, argument: Path) -> None:
    with open(path, mode) as out:
        command = [sys.executable, "-c", PRINT, str(argument)]
        done = subprocess.run(command, stdout=out, stderr=out, check=False)
    assert done.returncode == 0


def test_what_the_daemon_prints_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    run(path, "ab", path)
    assert path.stat().st_size <= 220
    kept = (tmp_path / "daemon.log.1").read_bytes() + path.read_bytes()
    assert kept.endswith(b"line 99\ntrouble 99\n")
    assert len(kept) >= 200
    assert kept.split()[0] in (b"line", b"trouble")
    assert b"\0" not in kept
    assert sorted(os.listdir(tmp_path)) == ["daemon.log", "daemon.log.1"]


@pytest.mark.parametrize("what", ["a file of the user's", "not for appending"])
def test_what_is_not_ours_to_cut_is_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "mine.txt"
    other = tmp_path / "daemon.log"
    other.touch()
    run(path, "wb" if what == "not for appending" else "ab", path if "not" in what else other)
    assert path.read_bytes().startswith(b"line 0\n")
    assert path.read_bytes().endswith(b"line 99\ntrouble 99\n")


@pytest.fixture
def logger() -> logging.Logger:
    logger = logging.Logger("test")
    logger.propagate = False
    return logger


def log_to(logger: logging.Logger, path: Path, *, max_bytes: int = 0) -> AppendLogHandler:
    handler = AppendLogHandler(AppendLog(str(path), max_bytes=max_bytes, backups=2))
    logger.addHandler(handler)
    return handler


def test_the_log_of_the_plugin_has_an_end(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "codexd.log"
    handler = log_to(logger, path, max_bytes=500)
    for number in range(1000):
        logger.warning("trouble %s", number)
    handler.close()
    assert sorted(os.listdir(tmp_path)) == ["codexd.log", "codexd.log.1", "codexd.log.2"]
    assert sum(entry.stat().st_size for entry in tmp_path.iterdir()) <= 1500
    assert path.read_bytes().endswith(b"trouble 999\n")


@pytest.mark.parametrize("kind", ODD)
def test_it_writes_through_nothing(tmp_path: Path, logger: logging.Logger, kind: str) -> None:
    victim = Victim(tmp_path / "victim")
    path = tmp_path / "logs" / "codexd.log"
    path.parent.mkdir()
    put(kind, path, victim)
    handler = log_to(logger, path)
    logger.error("one")
    put(kind, path, victim)
    logger.error("two \udcff")
    handler.close()
    assert path.read_bytes() == b"one\ntwo \\udcff\n"
    victim.check()


def test_a_log_of_another_process_is_not_written_over(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "codexd.log"
    handler = log_to(logger, path)
    logger.error("one")
    with open(path, "ab") as other:
        other.write(b"from the plugin before\n")
    logger.error("two")
    handler.close()
    assert path.read_bytes() == b"one\nfrom the plugin before\ntwo\n"


def test_a_full_disk_ends_nothing(tmp_path: Path, logger: logging.Logger) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size_kib=64):
        handler = log_to(logger, disk / "codexd.log")
        filler = fill(disk)
        logger.error("lost %s", "x" * 5000)
        logger.error("%d", "no number")
        filler.unlink()
        logger.error("kept")
        handler.close()
        assert (disk / "codexd.log").read_bytes() == b"kept\n"
