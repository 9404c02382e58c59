"""Who was started by a process, for whoever looks every few seconds and must not cost much."""

from __future__ import annotations

import contextlib
import os
import sys


def descendants_of(pid: int) -> list[int]:
    """The pids of all that descends from ``pid`` and is not orphaned, parents before children."""
    found = [pid]
    for parent in found:
        found += [child for child in children_of(parent) if child not in found]
    return found[1:]


def children_of(pid: int) -> list[int]:
    """The pids of its children; none where there is no such process."""
    if sys.platform == "linux":
        # proc_pid_task(5), children: of one thread each. Otherwise one has to read the parent of
        # every process of the machine.
        with contextlib.suppress(OSError):
            return [child for task in _tasks(pid) for child in _children_of_task(pid, task)]
    import psutil

    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _tasks(pid: int) -> list[str]:
    """Its threads.

    Raises:
        OSError: there is no such process, or this kernel does not tell (CONFIG_PROC_CHILDREN).
    """
    os.stat(f"/proc/{pid}/task/{pid}/children")
    return os.listdir(f"/proc/{pid}/task")


def _children_of_task(pid: int, task: str) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        # The thread has ended meanwhile.
        return []
