"""Children that do what a server should not."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.faults import check_events, check_sound, lives, wait_event, wait_stderr
from tests.support.stub import STUB, backoff, stub_flags
from tests.support.waiting import eventually


def test_a_grandchild_ends_with_an_ordered_stop_too(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("grandchild"))
    box.start()
    grandchild = int(wait_stderr(box, r"grandchild (\d+)\n")[1])
    box.stop_cleanly()
    assert not lives(grandchild)


def test_a_flood_while_the_child_is_killed_is_written_exactly(make_box: MakeBox) -> None:
    lines = 40_000
    box = make_box(*stub_flags(f"flood={lines}"), *backoff(20, 20))
    box.start()
    for number in (100, 20_000):
        wait_stderr(box, rf"line {number}\n")
        child = box.wait_ready()
        os.kill(child["pid"], signal.SIGKILL)
        wait_event(box, "child.exited", count=1)
        box.wait_ready(other_than=child["pid"])
    log = box.logs_dir / "stderr.log"
    eventually(lambda: log.read_bytes().endswith(b"line 39999\n"), what="the whole flood")
    box.stop_cleanly()
    assert_runs_of_lines(log.read_bytes())
    told = sum(event["detail"]["bytes"] for event in box.events("child.stderr"))
    assert told == log.stat().st_size
    check_events(box)


def assert_runs_of_lines(data: bytes) -> None:
    """Each child counts from 0; a kill may cut the last line short, and nothing else is missing."""
    expected = 0
    for line in data.decode().replace("line", "\nline").split("\n"):
        number = line.removeprefix("line ")
        if number == "0":
            expected = 0
        if line.startswith("line ") and number == str(expected):
            expected += 1
        else:
            assert line == "" or str(expected).startswith(number.strip()), (line, expected)


def test_a_child_that_ends_well_again_and_again_is_in_a_crash_loop_all_the_same(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags("exit=0"), *backoff(500, 1000))
    box.start(wait=False)
    delays = [e["detail"]["delayMs"] for e in wait_event(box, "child.restarting", count=3)]
    assert delays[0] == 0
    assert all(delays[1:])
    assert box.stop() == 0
    check_events(box)


def test_the_server_on_disk_that_is_no_longer_the_one_that_runs_is_told(make_box: MakeBox) -> None:
    box = make_box()
    program = box.root / "server"
    install(program, "one")
    box.flags += ["--server-command", str(program), "--server-arg=app-server"]
    box.start()
    child = check_sound(box)
    assert "is not the one that runs" not in box.run("status").stdout
    # As installers do: a new file, renamed over the old one.
    install(box.root / "new", "two")
    os.replace(box.root / "new", program)
    told = box.run("status").stdout
    assert f"{program} on disk is not the one that runs" in told
    assert box.run("restart").returncode == 0
    check_sound(box, other_than=child["pid"])
    assert "is not the one that runs" not in box.run("status").stdout
    program.unlink()
    assert "is not the one that runs" in box.run("status").stdout


def install(path: Path, version: str) -> None:
    """A server whose program is a file of its own."""
    path.write_text(
        f"#!/bin/sh\n# {version}\nexec '{sys.executable}' -IS '{STUB}' app-server\n", "utf-8"
    )
    path.chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2)")
def test_a_daemon_without_file_descriptors_gets_over_it(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), *backoff(50, 100))
    process = box.start()
    child = check_sound(box)
    daemon = psutil.Process(process.pid)
    limits = daemon.rlimit(psutil.RLIMIT_NOFILE)
    daemon.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))
    try:
        os.kill(child["pid"], signal.SIGKILL)
        failed = wait_event(box, "child.spawn.failed", count=2)
        assert "Too many open files" in failed[0]["message"]
    finally:
        daemon.rlimit(psutil.RLIMIT_NOFILE, limits)
    check_sound(box, other_than=child["pid"])
    box.stop_cleanly()
