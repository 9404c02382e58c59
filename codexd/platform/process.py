"""Which process a pid stands for, and how to end it without ever hitting another one.

A pid is used again after a while; a pid together with the moment its process started is not.
The kernel notes that moment once, at the fork; psutil moves it when the clock is set, and so two
processes that ask it may differ. It is read from the kernel here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

_PROC: Final = "/proc"


class ProcessId(msgspec.Struct, frozen=True, rename="camel"):
    """One process, for good: its pid and a token of its start that no other process shares."""

    pid: int
    token: str


class Glimpse(msgspec.Struct, frozen=True):
    """A process as it is in this moment: who it is, its parent, and its session."""

    id: ProcessId
    parent: int
    session: int


def identify(pid: int) -> ProcessId | None:
    """The process that ``pid`` stands for now, or None if there is none (or only a zombie).

    None also where nobody can tell, for no file can be opened.
    """
    with contextlib.suppress(OSError):
        glimpse = look_at(pid)
        return None if glimpse is None else glimpse.id
    return None


def is_alive(process: ProcessId | None) -> bool:
    """Whether that very process still runs; a zombie does not."""
    if process is None:
        return False
    try:
        glimpse = look_at(process.pid)
    except OSError:
        # Not to be able to look is no sign of death.
        return _exists(process.pid)
    return glimpse is not None and glimpse.id == process


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def look_at(pid: int) -> Glimpse | None:
    """What the kernel says of ``pid``; None if there is no such process (or only a zombie).

    Raises:
        OSError: nobody can tell, for no file can be opened.
    """
    return _linux_glimpse(pid) if sys.platform == "linux" else _darwin_glimpse(pid)


def _linux_glimpse(pid: int) -> Glimpse | None:
    # proc(5): after the name come state, parent, group, session, …, and the start as field 22.
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    id_ = ProcessId(pid, f"{_boot_id()}:{fields[19].decode()}")
    return Glimpse(id_, parent=int(fields[1]), session=int(fields[3]))


def newest_pid() -> str | None:
    """Names the newest process or thread there is; None where nobody tells.

    The same as before, and there was no other meanwhile. Numbers that went round prove nothing, but
    do not fall on the same one between two looks. In some sandboxes it is always 0 (gVisor), and in
    some containers another file is mounted there, which is written anew from time to time (lxcfs).
    """
    try:
        with open(f"{_PROC}/loadavg", "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_dev != os.stat(_PROC).st_dev:
                return None
            newest = file.read().split()[-1]
    except (OSError, IndexError):
        return None
    return None if newest == b"0" else newest.decode()


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used since it started.

    Raises:
        OSError: there is no such process, or nobody can tell.
    """
    if sys.platform == "linux":
        # proc(5): utime and stime, fields 14 and 15. psutil makes an object of all of them.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from error
    return float(times.user + times.system)


def resident_bytes(pid: int) -> int | None:
    """How much memory of a process is resident; None where there is no such process.

    Raises:
        OSError: nobody can tell, for no file can be opened.
    """
    if sys.platform == "linux":
        # A third of what psutil takes, which counts for a family of a hundred.
        try:
            with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
                return int(file.read().split()[1]) * _page_size()
        except (FileNotFoundError, ProcessLookupError):
            return None
    import psutil

    try:
        resident: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None
    return resident


@functools.cache
def _page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown-boot"


# macOS, libproc.h and sys/proc_info.h: proc_pidinfo(pid, PROC_PIDTBSDINFO, 0, …) fills a struct
# proc_bsdinfo: flags, status, exit status, pid, parent, seven numbers, two names, six numbers,
# and the start in seconds and microseconds of the clock as it was then.
_PROC_PIDTBSDINFO = 3
_BSDINFO = struct.Struct("=5I 28x 48x 24x QQ")
_SZOMB = 5


def _darwin_glimpse(pid: int) -> Glimpse | None:
    raw = _proc_pidinfo(pid)
    if raw is None:
        return None
    _flags, status, _xstatus, _pid, parent, seconds, microseconds = _BSDINFO.unpack(raw)
    if status == _SZOMB:
        return None
    try:
        session = os.getsid(pid)
    except OSError:
        return None
    # As versions before this one wrote it, with psutil's time of a clock that was not set.
    token = f"{seconds + microseconds / 1e6:.6f}"
    return Glimpse(ProcessId(pid, token), parent=parent, session=session)


def _proc_pidinfo(pid: int) -> bytes | None:
    import ctypes

    buffer = ctypes.create_string_buffer(_BSDINFO.size)
    size = _libproc().proc_pidinfo(
        pid, _PROC_PIDTBSDINFO, ctypes.c_uint64(0), buffer, _BSDINFO.size
    )
    return buffer.raw if size == _BSDINFO.size else None


@functools.cache
def _libproc() -> Any:
    import ctypes

    return ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)


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


def end_tree(process: ProcessId, *, grace_s: float, report: Callable[[str], None]) -> None:
    """As :func:`end_group`, and also what ``process`` has started, in whatever group it is."""
    # Who only looks does without it, and starts sooner.
    import psutil

    below: list[ProcessId | None] = []
    with contextlib.suppress(psutil.Error):
        below = [identify(p.pid) for p in psutil.Process(process.pid).children(recursive=True)]
    end_group(process, grace_s=grace_s, report=report)
    for child in below:
        if child is not None and is_alive(child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


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
    import psutil

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
