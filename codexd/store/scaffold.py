"""A daemon of the original codexd (the TypeScript scaffold) on the same directories.

It takes no lock; its daemon-state.json has the pids of daemon and child. A pid alone proves
nothing: the process must look like what was recorded, and be older than the record.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from codexd.config import Paths
from codexd.contracts import DaemonState
from codexd.platform.process import ProcessId
from codexd.store.snapshot import read_daemon


class Scaffold(NamedTuple):
    """What runs of the original: each None where it does not."""

    daemon: ProcessId | None
    child: ProcessId | None


NOBODY: Final = Scaffold(None, None)


def find_scaffold(paths: Paths, *, ours: int | None = None) -> Scaffold:
    """Who of the original lives on these directories. Only reads.

    ``ours`` is the pid of the child that a daemon of codexd recorded: that one is not looked at.
    """
    state = read_daemon(paths)
    if state is None or not _names_anybody(state, ours):
        return NOBODY
    from codexd.store import scaffold_processes

    daemon = scaffold_processes.find_daemon(state, paths)
    child = None if state.child.pid == ours else scaffold_processes.find_child(state.child, paths)
    return Scaffold(daemon, child)


def _names_anybody(state: DaemonState, ours: int | None) -> bool:
    """Whether there is anybody to be looked at: to look at processes takes a while to load."""
    is_started = state.started and state.pid is not None
    return is_started or state.child.pid not in (None, ours)


def describe_scaffold(paths: Paths, daemon: ProcessId) -> str:
    """One line for the user about a daemon of the original that lives."""
    return (
        f"The original codexd (pid {daemon.pid}) runs on {paths.state_dir}: stop it with "
        f"`kill {daemon.pid}` (where launchd runs it, with `launchctl bootout`), then start again."
    )
