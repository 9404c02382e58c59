"""One daemon a state directory: a lock in it, and a claim that no ``rm -r`` takes away.

Whoever clears the state directory under a running daemon takes the lock's file away; the claim
stands until that daemon has made it again, so that at no moment a second one is let in.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from codexd.platform.claim import Claim
from codexd.platform.filelock import FileLock
from codexd.platform.process import ProcessId, is_alive

_SIGNATURE_S = 0.5


class _Held(NamedTuple):
    file: FileLock
    claim: Claim


# An flock belongs to an open file, not to a process; what this process holds is noted here so
# that the supervisor and the hook that circus loads into it can both ask for it.
_held: dict[str, _Held] = {}


class LockedElsewhere(Exception):
    """Another daemon holds the lock. ``holder`` is its pid, or None where it cannot be read."""

    def __init__(self, path: str, holder: int | None) -> None:
        super().__init__(path)
        self.path = path
        self.holder = holder


def acquire(path: str) -> None:
    """Take the lock and write this process's identity into it.

    Raises:
        LockedElsewhere: another process has it.
        OSError: the file cannot be made.
    """
    if path in _held:
        return
    held = _Held(FileLock(path), Claim(path))
    try:
        is_ours = held.claim.take() and held.file.acquire(0)
    except OSError:
        held.claim.release()
        raise
    if not is_ours:
        held.claim.release()
        holder = _await_holder(path)
        raise LockedElsewhere(path, holder.pid if holder else None)
    _held[path] = held


def keep(path: str) -> None:
    """See that the lock this process holds still has its name; call it every second.

    Raises:
        LockedElsewhere: a process that knows no claims (an older version) took the name.
        OSError: the file cannot be made anew.
    """
    held = _held.get(path)
    if held is None:
        return
    held.claim.keep()
    if not held.file.acquire(0):
        holder = read_holder(path)
        raise LockedElsewhere(path, holder.pid if holder else None)


def is_held(path: str) -> bool:
    """Whether this process holds the lock."""
    return path in _held


def _await_holder(path: str) -> ProcessId | None:
    # Who has just taken the lock may not have signed it yet.
    deadline = time.monotonic() + _SIGNATURE_S
    while True:
        holder = living_holder(path)
        if holder is not None or time.monotonic() > deadline:
            return holder
        time.sleep(0.005)


def release(path: str) -> None:
    """Give the lock back; the file stays, so that no one locks a name that is gone."""
    held = _held.pop(path, None)
    if held is not None:
        held.file.release()
        held.claim.release()


def read_holder(path: str) -> ProcessId | None:
    """The process that last wrote itself into the lock, whether it lives or not."""
    return FileLock(path).signature()


def living_holder(path: str) -> ProcessId | None:
    """The daemon that holds the lock, if it lives. Only looks: taking part could disturb it."""
    holder = read_holder(path)
    return holder if is_alive(holder) else Claim(path).holder()


def flock_holder(path: str) -> int | None:
    """The pid of whoever holds an flock on ``path``; None where nobody tells (macOS)."""
    try:
        status = os.stat(path)
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except (OSError, ValueError):
        return None
    for fields in lines:
        # A file system may show another device here than stat(2) does, and files on two devices
        # may have one number: so it is looked whether the process has the file.
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(status.st_ino):
            pid = int(fields[4])
            if pid > 0 and _may_have_open(pid, status):
                return pid
    return None


def _may_have_open(pid: int, status: os.stat_result) -> bool:
    """Whether a process has a file open; True also where nobody may look."""
    place = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(place):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(f"{place}/{name}"), status):
                    return True
    except PermissionError:
        return True
    except OSError:
        return False
    return False
