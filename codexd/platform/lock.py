"""One daemon a state directory: an flock that the kernel gives back whatever happens."""

from __future__ import annotations

import fcntl
import os
import time

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.platform.process import ProcessId, identify, is_alive

_SIGNATURE_S = 0.5

# An flock belongs to an open file, not to a process; what this process holds is noted here so
# that the supervisor and the hook that circus loads into it can both ask for it.
_held: dict[str, int] = {}


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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        holder = _await_holder(path)
        raise LockedElsewhere(path, holder.pid if holder else None) from None
    identity = msgspec.json.encode(identify(os.getpid()))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, identity + b"\n", 0)
    _held[path] = descriptor


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
    descriptor = _held.pop(path, None)
    if descriptor is not None:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def read_holder(path: str) -> ProcessId | None:
    """The process that last wrote itself into the lock, whether it lives or not."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=ProcessId)
    except (OSError, *UNDECODABLE):
        return None


def living_holder(path: str) -> ProcessId | None:
    """The daemon that holds the lock, if it lives. Reads only: taking part could disturb it."""
    holder = read_holder(path)
    return holder if is_alive(holder) else None


def flock_holder(path: str) -> int | None:
    """The pid of whoever holds an flock on ``path``; None where nobody tells (macOS)."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except (OSError, ValueError):
        return None
    for fields in lines:
        # A file system may show another device here than stat(2) does.
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return int(fields[4]) or None
    return None
