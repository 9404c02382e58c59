from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd.platform import process
from codexd.platform.process import (
    Glimpse,
    ProcessId,
    end_group,
    end_group_members,
    end_marked_group,
    identify,
    is_alive,
)
from tests.support.faults import lives, wait_gone

MARK = ("CODEXD_TEST_MARK", "this one")
# Prints the pid of a child in its own group, and waits, as does that child.
LEADER = """
import os, signal, sys
if "ignore" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(child, flush=True)
signal.pause()
"""


class Group:
    """A process that leads a group, and a member of it."""

    def __init__(self, *words: str) -> None:
        self.leader = subprocess.Popen(
            [sys.executable, "-ISc", LEADER, *words],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, MARK[0]: MARK[1]},
        )
        assert self.leader.stdout is not None
        self.member = psutil.Process(int(self.leader.stdout.readline()))
        found = identify(self.leader.pid)
        assert found is not None
        self.id = found

    def kill_leader(self) -> None:
        """SIGKILL the leader alone."""
        self.leader.kill()
        self.leader.wait()

    def clean_up(self) -> None:
        """End both."""
        end_group_members(self.leader.pid)
        self.leader.communicate()


@pytest.fixture
def group() -> Iterator[Group]:
    group = Group()
    yield group
    group.clean_up()


def test_a_process_is_known_by_its_start_as_well(group: Group) -> None:
    assert is_alive(group.id)
    assert not is_alive(ProcessId(group.id.pid, "another start"))
    assert not is_alive(None)
    assert identify(os.getpid()) == identify(os.getpid()) != group.id


def bsdinfo(*, status: int, parent: int, seconds: int, microseconds: int) -> bytes:
    """What macOS answers, field by field as in sys/proc_info.h."""
    flags, xstatus, pid, users, numbers = 4, 0, 7, [501] * 6 + [0], [3, 7, 0, 0, 0, 0]
    head = struct.pack("=12I", flags, status, xstatus, pid, parent, *users)
    names = b"codex".ljust(16, b"\0") + b"codex".ljust(32, b"\0")
    return head + names + struct.pack("=6I", *numbers) + struct.pack("=QQ", seconds, microseconds)


def test_on_macos_a_start_is_as_the_kernel_noted_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.getpid()
    raw = bsdinfo(status=2, parent=12, seconds=1_700_000_000, microseconds=250_001)
    monkeypatch.setattr(process, "_proc_pidinfo", {pid: raw}.get)
    found = process._darwin_glimpse(pid)
    # The same text as of versions that asked psutil, so that their records are still believed.
    assert found == Glimpse(ProcessId(pid, "1700000000.250001"), 12, os.getsid(0))
    zombie = bsdinfo(status=5, parent=12, seconds=1, microseconds=0)
    monkeypatch.setattr(process, "_proc_pidinfo", {pid: zombie}.get)
    assert process._darwin_glimpse(pid) is None
    assert process._darwin_glimpse(pid + 1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells of it elsewhere")
@pytest.mark.parametrize(
    ("text", "newest"),
    [("0.52 0.58 0.59 1/70 4711\n", "4711"), ("0.00 0.00 0.00 0/0 0\n", None), ("", None)],
)
def test_the_newest_process_is_told_or_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, newest: str | None
) -> None:
    (tmp_path / "loadavg").write_text(text)
    monkeypatch.setattr(process, "_PROC", str(tmp_path))
    assert process.newest_pid() == newest


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells of it elsewhere")
def test_a_file_of_another_that_lies_over_the_kernels_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process.newest_pid() is not None
    # As a mount there, it is on another device than what is around it.
    (tmp_path / "loadavg").symlink_to("/proc/loadavg")
    monkeypatch.setattr(process, "_PROC", str(tmp_path))
    assert process.newest_pid() is None


def test_a_zombie_does_not_live(group: Group) -> None:
    os.kill(group.id.pid, signal.SIGKILL)
    os.waitid(os.P_PID, group.id.pid, os.WEXITED | os.WNOWAIT)
    assert identify(group.id.pid) is None
    assert not is_alive(group.id)


def test_a_group_is_ended_with_its_leader(group: Group) -> None:
    told: list[str] = []
    # Nobody else reaps it here, and a zombie is as good as gone.
    assert end_group(group.id, grace_s=5, report=told.append)
    assert group.leader.wait(20) == -signal.SIGTERM
    wait_gone(group.member.pid)
    assert told == [f"ending process {group.id.pid}, left behind by an earlier daemon"]
    assert not end_group(group.id, grace_s=5, report=told.append)


def test_who_ignores_sigterm_gets_sigkill() -> None:
    group = Group("ignore")
    try:
        assert end_group(group.id, grace_s=0.05, report=lambda _: None)
        assert group.leader.wait(20) == -signal.SIGKILL
        wait_gone(group.member.pid)
    finally:
        group.clean_up()


def test_another_process_with_the_same_pid_is_not_signalled(group: Group) -> None:
    told: list[str] = []
    assert not end_group(ProcessId(group.id.pid, "x"), grace_s=0, report=told.append)
    assert is_alive(group.id)
    assert told == []


def test_the_rest_of_a_group_is_ended_only_if_it_bears_the_mark(group: Group) -> None:
    group.kill_leader()
    end_marked_group(group.id.pid, (MARK[0], "another"))
    end_marked_group(group.id.pid + 1, MARK)
    assert lives(group.member.pid)
    end_marked_group(group.id.pid, MARK)
    wait_gone(group.member.pid)
    # There is no such group any more.
    end_marked_group(group.id.pid, MARK)


def test_not_to_be_able_to_look_is_no_sign_of_death(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(_pid: int) -> Glimpse | None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(process, "look_at", no_file)
    assert is_alive(group.id)
    assert identify(group.id.pid) is None
    group.kill_leader()
    assert not is_alive(group.id)
