"""Who descends from the child, so that nothing of a dead one goes on beside the next.

codex gives each MCP server a process group of its own and each command a session of its own, and
what ignores the end of its input and SIGTERM outlives a server that was killed (measured on codex
0.163). While the child lives, circusd looks every second who descends from it, and keeps the list
in family.json for whoever has to tidy up if circusd is killed as well. On Linux orphans become
children of circusd (:func:`codexd.platform.parent.adopt_orphans`), so none gets out of sight.

A process whose parent ended while the server lived (`setsid job &` in a command) was cast off on
purpose: a job of the user's, which would outlive a bare codex too. It is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec

from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.platform.files import read_whole, write_aside
from codexd.platform.process import Glimpse, ProcessId, is_alive, look_at, newest_pid

# How long who is ended may take on SIGTERM, and then on SIGKILL. Waited for only if there is
# somebody: the next server starts after that.
_GRACE_S: Final = 0.1
_KILL_S: Final = 1.0
_POLL_S: Final = 0.002
# How long the shell of a command may take to notice that the server is dead.
_LEADER_S: Final = 0.02
# Whoever is ended may leave children of its own.
_ROUNDS: Final = 5


class _Record(msgspec.Struct, rename="camel"):
    members: list[ProcessId] = []


def path_of(runtime_dir: str) -> str:
    """Where family.json is."""
    return os.path.join(runtime_dir, "family.json")


def spare_path_of(runtime_dir: str) -> str:
    """Where the same is for a spare."""
    return os.path.join(runtime_dir, "spare-family.json")


def survivors(path: str) -> list[ProcessId]:
    """Who is on record and still lives. Of interest only when the child does not."""
    try:
        record = decode_json(read_whole(path), _Record)
    except (OSError, *UNDECODABLE):
        return []
    return [process for process in record.members if is_alive(process)]


def end_survivors(path: str, report: Callable[[str], None]) -> None:
    """End who is on record and still lives: the child and its circusd are dead."""
    left = survivors(path)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        report(f"ending what an earlier server left behind: {pids}")
        end_all(left)


class Family:
    """The descendants of one watcher's children, one child after the other.

    ``supervised()`` gives the pids that circus looks after itself; ``adopts`` tells whether
    orphans become children of this process.
    """

    def __init__(
        self, path: str, supervised: Callable[[], Collection[int]], *, adopts: bool
    ) -> None:
        self._path = path
        self._supervised = supervised
        self._adopts = adopts
        self._members: dict[int, ProcessId] = {}
        # Children whose family could not be looked at when they died, and who was in it.
        self._owed: dict[int, dict[int, ProcessId]] = {}
        self._saved: list[ProcessId] | None = None
        # The child that had nobody at the last look, and the newest process there was before it.
        self._alone_at: tuple[int, str | None] | None = None
        # Who has nothing to do with the child, and so is not looked at again.
        self._others = _all_pids()

    @property
    def size(self) -> int:
        """How many were seen at the last look, and how many of dead ones are still to be ended."""
        return len(self._members) + sum(map(len, self._owed.values()))

    def look(self, child: int) -> None:
        """Note who descends from ``child`` now, if it lives."""
        # Where nobody can look, for no file can be opened: a second later.
        with contextlib.suppress(OSError):
            for dead, members in list(self._owed.items()):
                self._end_family(dead, members, late=True)
                del self._owed[dead]
            self._note(child)

    def _note(self, child: int) -> None:
        newest = newest_pid()
        if newest is not None and (child, newest) == self._alone_at:
            # Nobody was started since, anywhere.
            return
        seen = self._look_at_all()
        if look_at(child) is None:
            # It died, and its children are orphans already: what was seen before counts.
            return
        kin = _descendants({child}, seen)
        kin |= {pid for pid, found in seen.items() if found.session == child}
        self._members = {pid: seen[pid].id for pid in kin if pid in seen}
        # Who forked while the list was read may have a parent that is not in it: not decided.
        known = self._others | set(self._supervised()) | {0, 1, os.getpid()}
        self._others |= _descendants(known, seen) & seen.keys() - kin
        is_decided = seen.keys() <= self._others | kin
        self._save()
        # Nobody is in the list, and it is written.
        self._alone_at = (child, newest) if is_decided and self._saved == [] else None

    def end(self, child: int) -> None:
        """End whoever belonged to ``child``, which is dead and reaped."""
        members, self._members = self._members, {}
        try:
            self._end_family(child, members, late=False)
        except OSError:
            self._owed[child] = members
        else:
            self._save()

    def take_over(self, other: Family) -> None:
        """Who descends from the child of ``other`` belongs to a child of this one from now on."""
        self._others -= other._members.keys()
        other._members = {}
        other._save()

    def _end_family(self, child: int, members: dict[int, ProcessId], *, late: bool) -> None:
        seen = self._look_at_all()
        deadline = time.monotonic() + _LEADER_S
        while not late and self._new_leaders(seen) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            seen = self._look_at_all()
        for _ in range(_ROUNDS):
            own = self._own(seen, child, members, late=late)
            if not own:
                break
            end_all(own)
            seen = self._look_at_all()

    def _own(
        self, seen: dict[int, Glimpse], child: int, members: dict[int, ProcessId], *, late: bool
    ) -> list[ProcessId]:
        """Who among ``seen`` belonged to the dead ``child``, or descends from one that did."""
        own = {
            pid
            for pid, found in seen.items()
            if found.session == child
            or members.get(pid) == found.id
            # Later it may have to do with the next child.
            or (not late and self._is_new_orphan(found) and found.session != pid)
        }
        return [seen[pid].id for pid in _descendants(own, seen) if pid in seen and pid != child]

    def _is_new_orphan(self, found: Glimpse) -> bool:
        """Whether it came to this process since the last look, most likely just now."""
        return self._adopts and found.parent == os.getpid()

    def _new_leaders(self, seen: dict[int, Glimpse]) -> bool:
        """Whether there are new orphans that lead a session.

        Either the shell of a command that ran, which is about to be ended by its parent-death
        signal and will leave orphans, or a job that was cast off within the second, which stays.
        """
        return any(
            self._is_new_orphan(found) and found.session == pid for pid, found in seen.items()
        )

    def _look_at_all(self) -> dict[int, Glimpse]:
        pids = _all_pids()
        self._others &= pids
        unknown = pids - self._others - set(self._supervised()) - {os.getpid()}
        return {pid: found for pid in unknown if (found := look_at(pid)) is not None}

    def _save(self) -> None:
        members = [self._members[pid] for pid in sorted(self._members)]
        if members == self._saved:
            return
        # Where it cannot be written now, the next look tries again.
        with contextlib.suppress(OSError):
            write_aside(self._path, encode_json(_Record(members)) + b"\n", flush=False)
            self._saved = members


def _all_pids() -> set[int]:
    # Who only reads what is on record does without it, and starts sooner.
    import psutil

    return set(psutil.pids())


def _descendants(roots: Iterable[int], seen: Mapping[int, Glimpse]) -> set[int]:
    """``roots`` and whoever among ``seen`` descends from them."""
    kin = set(roots)
    grown = True
    while grown:
        new = {pid for pid, found in seen.items() if pid not in kin and found.parent in kin}
        kin |= new
        grown = bool(new)
    return kin


def end_all(processes: list[ProcessId]) -> None:
    """SIGTERM, and SIGKILL for who needs it; returns once all are gone, or cannot be ended."""
    for signum, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _KILL_S)):
        left = [process for process in processes if is_alive(process)]
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signum)
                # Stopped (SIGSTOP), it would not hear that it shall end.
                os.kill(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + patience_s
        while any(map(is_alive, left)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    for process in processes:
        # Those that were orphans are children of this process now.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
