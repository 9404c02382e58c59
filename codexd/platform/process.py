"""Which process a pid stands for, and how to end it without ever hitting another one.

A pid is used again after a while; a pid together with the moment its process started is not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

import msgspec
import psutil


class ProcessId(msgspec.Struct, frozen=True, rename="camel"):
    """One process, for good: its pid and a token of its start that no other process shares."""

    pid: int
    token: str


def identify(pid: int) -> ProcessId | None:
    """The process that ``pid`` stands for now, or None if there is none (or only a zombie)."""
    token = _linux_token(pid) if sys.platform == "linux" else _token(pid)
    return None if token is None else ProcessId(pid, token)


def is_alive(process: ProcessId | None) -> bool:
    """Whether that very process still runs; a zombie does not."""
    return process is not None and identify(process.pid) == process


def _linux_token(pid: int) -> str | None:
    # psutil's create_time moves when the clock is set; ticks since boot do not (proc(5), field 22).
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return f"{_boot_id()}:{fields[19].decode()}"


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown-boot"


def _token(pid: int) -> str | None:
    # On macOS the kernel keeps the start as a wall-clock time that is fixed at the fork.
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.6f}"
    except psutil.Error:
        return None


def end_group(process: ProcessId, *, grace_s: float, report: Callable[[str], None]) -> bool:
    """End ``process`` and the process group that it leads: SIGTERM, then SIGKILL.

    Only ever signals while ``process`` is proven to be the one that was recorded; what is left
    of its group is ended while the group still bears its number, which no new process can take.

    Returns:
        False if it was already gone; see :func:`end_marked_group` for what is left of its group.
    """
    if not is_alive(process):
        return False
    report(f"ending process {process.pid}, left behind by an earlier daemon")
    leads_group = _process_group(process.pid) == process.pid
    _signal(process, signal.SIGTERM, leads_group)
    deadline = time.monotonic() + grace_s
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    _signal(process, signal.SIGKILL, leads_group)
    while is_alive(process):
        time.sleep(0.005)
    return True


def _process_group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _signal(process: ProcessId, signum: int, leads_group: bool) -> None:
    if leads_group:
        end_group_members(process.pid, signum)
    elif is_alive(process):
        try:
            os.kill(process.pid, signum)
        except ProcessLookupError:
            return


def end_group_members(group: int, signum: int = signal.SIGKILL) -> None:
    """Signal whatever is left of a process group; a group that is gone is none."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group that holds only zombies.
        return


def end_marked_group(group: int, mark: tuple[str, str]) -> None:
    """SIGKILL what is left of a process group whose leader is gone.

    The number alone proves nothing: after the last member it may be given to others. Only a
    process whose environment has the variable ``mark`` (name, value) is ended.
    """
    name, value = mark
    for process in psutil.process_iter() if _group_exists(group) else ():
        with contextlib.suppress(psutil.Error):
            if _process_group(process.pid) == group and process.environ().get(name) == value:
                process.kill()


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
