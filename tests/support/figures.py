"""What running processes cost, as the system tells it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_NS_PER_S = 1e9


def wake_ups(pids: list[int]) -> int:
    """How often the threads of these processes have gone to sleep so far, and so have woken up.

    On Linux; elsewhere nobody tells.
    """
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            for line in status.read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


def cpu_s(process: psutil.Process) -> float:
    """Processor time of a process so far, to the nanosecond where the system counts so."""
    with contextlib.suppress(OSError, IndexError):
        counted = [
            path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        ]
        if counted:
            return sum(int(text.split()[0]) for text in counted) / _NS_PER_S
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_mib(processes: list[psutil.Process]) -> float:
    """What they hold: their share of each page (Linux), or the pages that are theirs alone."""
    total = 0
    for process in processes:
        info = process.memory_full_info()
        total += getattr(info, "pss", 0) or info.uss
    return total / (1 << 20)
