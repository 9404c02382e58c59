"""What must hold of a daemon after whatever was done to it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.support.daemon import DaemonBox
from tests.support.waiting import eventually


def app_servers(box: DaemonBox) -> list[int]:
    """The pid of every process of the box that runs as an app-server."""
    return [p.pid for p in box.leftovers() if "app-server" in _command_line(p)]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def check_sound(box: DaemonBox, *, other_than: int | None = None) -> dict[str, Any]:
    """One app-server, which is ready and the one on record, and events without a gap.

    Returns the child's record.
    """

    def look() -> dict[str, Any] | None:
        child = box.wait_ready(other_than=other_than)
        return child if app_servers(box) == [child["pid"]] else None

    child = eventually(look, what="one app-server, that on record")
    check_events(box)
    return child


def check_events(box: DaemonBox) -> list[dict[str, Any]]:
    """Events are numbered from 1 without a gap, and each child that started ends once at most."""
    events = box.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    running: int | None = None
    for event in events:
        if event["type"] == "child.started":
            assert running is None, f"a twin of {running}: {event}"
            running = event["detail"]["pid"]
        elif event["type"] == "child.exited":
            assert event["detail"]["pid"] == running, event
            running = None
    return events


def wait_event(box: DaemonBox, type_: str, *, count: int = 1) -> list[dict[str, Any]]:
    """The events of a type once there are so many."""

    def look() -> list[dict[str, Any]] | None:
        found = box.events(type_)
        return found if len(found) >= count else None

    return eventually(look, what=f"{count} times {type_}")


def wait_stderr(box: DaemonBox, pattern: str) -> re.Match[bytes]:
    """The first match in the child's stderr.log."""
    path = box.logs_dir / "stderr.log"

    def look() -> re.Match[bytes] | None:
        with contextlib.suppress(FileNotFoundError):
            return re.search(pattern.encode(), path.read_bytes())
        return None

    return eventually(look, what=f"{pattern!r} on the child's stderr")


def freeze(process: psutil.Process) -> None:
    """SIGSTOP, and wait until every thread of the process has stopped."""
    os.kill(process.pid, signal.SIGSTOP)
    eventually(
        lambda: all(_is_stopped(thread.id) for thread in process.threads()),
        what="a stopped process",
    )


def _is_stopped(thread_id: int) -> bool:
    # On Linux a thread is looked up as a process is.
    try:
        return bool(psutil.Process(thread_id).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid: int) -> None:
    """Wait until a process is gone, or only a zombie."""
    eventually(lambda: not lives(pid), what=f"the end of {pid}")


def lives(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def runtime_dir(box: DaemonBox) -> Path:
    """Where the daemon's sockets are."""
    return Path(box.config.runtime.runtime_dir)
