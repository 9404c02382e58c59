"""What the server's process and its family take of the machine, read when somebody asks."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil

from codexd.child.family import survivors
from codexd.platform.process import resident_bytes


class Reading(NamedTuple):
    """Bytes, processor seconds, numbers; None where the system does not tell.

    ``family_resident`` and ``processes`` are of the server and all that it has started: MCP
    servers, commands. The others are of the server's own process.
    """

    resident: int | None = None
    family_resident: int | None = None
    processor_s: float | None = None
    open_files: int | None = None
    processes: int = 0


def read_server(pid: int, family_path: str) -> Reading | None:
    """Look at the server ``pid``, which may be dead, and at those in family.json.

    Returns:
        None where nobody can tell, for no file can be opened.
    """
    try:
        resident = resident_bytes(pid)
        if resident is None:
            return Reading()
        # circusd looks every second who descends from the server; doing it here again would mean
        # to look at every process of the machine.
        others = {member.pid for member in survivors(family_path)} - {pid}
        family = [resident, *(resident_bytes(member) or 0 for member in others)]
    except OSError:
        return None
    return Reading(resident, sum(family), _processor_s(pid), _open_files(pid), len(family))


def _processor_s(pid: int) -> float | None:
    with contextlib.suppress(psutil.Error, OSError):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return None


def _open_files(pid: int) -> int | None:
    # Not for whom the system keeps it from: a process that has made itself undumpable.
    with contextlib.suppress(psutil.Error, OSError):
        count: int = psutil.Process(pid).num_fds()
        return count
    return None
