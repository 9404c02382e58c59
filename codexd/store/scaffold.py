"""A daemon of the original codexd (the TypeScript scaffold) on the same directories.

It takes no lock; its daemon-state.json has the pids of daemon and child. A pid alone proves
nothing: the process must look like what was recorded, and be older than the record.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Final, NamedTuple

import msgspec
import psutil

from codexd.config import Paths
from codexd.contracts import ChildState, Identity
from codexd.encoding import UNDECODABLE
from codexd.platform.files import read_whole
from codexd.platform.process import ProcessId, identify
from codexd.store.snapshot import read_daemon

_DAEMON_ID: Final = "BAA_CODEXD_DAEMON_ID"
_RUNTIMES: Final = re.compile(r"(node|nodejs|bun|deno|tsx)[0-9.]*")
_SCRIPT: Final = re.compile(r"\.[cm]?[jt]s")
# The record is written after its process has started. Clocks may have been set in between.
_SLACK_S: Final = 10.0


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
    if state is None:
        return NOBODY
    daemon = child = None
    if state.started and _is(state.pid, paths):
        assert state.pid is not None
        daemon = _looks_like_daemon(state.pid)
    if state.child.pid != ours and _is(state.child.pid, paths):
        child = _looks_like_child(state.child, paths)
    return Scaffold(daemon, child)


def describe_scaffold(paths: Paths, daemon: ProcessId) -> str:
    """One line for the user about a daemon of the original that lives."""
    return (
        f"The original codexd (pid {daemon.pid}) runs on {paths.state_dir}: stop it with "
        f"`kill {daemon.pid}` (where launchd runs it, with `launchctl bootout`), then start again."
    )


def _is(pid: int | None, paths: Paths) -> bool:
    """Whether there is such a process, and the record may be about it."""
    if pid is None or pid <= 1 or pid == os.getpid():
        return False
    with contextlib.suppress(psutil.Error, OSError):
        written = os.stat(paths.daemon_state_path).st_mtime
        return bool(psutil.Process(pid).create_time() <= written + _SLACK_S)
    return False


def _looks_like_daemon(pid: int) -> ProcessId | None:
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        process = psutil.Process(pid)
        program, *words = process.cmdline()
        if _RUNTIMES.fullmatch(os.path.basename(program)) is None:
            return None
        # `node dist/index.js`, below a directory of that name.
        scripts = [word for word in words if _SCRIPT.search(os.path.basename(word))]
        cwd = _cwd(process) if scripts else ""
        if any("codexd" in os.path.join(cwd, script) for script in scripts):
            return identify(pid)
    return None


def _cwd(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(process.cwd())
    return ""


def _looks_like_child(child: ChildState, paths: Paths) -> ProcessId | None:
    assert child.pid is not None
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(child.pid)
        mark = _mark(process)
        if mark is not None:
            return identify(child.pid) if mark == _daemon_id(paths) else None
        if _runs(process.cmdline(), child):
            return identify(child.pid)
    return None


def _mark(process: psutil.Process) -> str | None:
    """Which daemon's child it is, by its own environment; None where nobody can tell."""
    with contextlib.suppress(psutil.Error, OSError):
        value: str | None = process.environ().get(_DAEMON_ID)
        return value
    return None


def _runs(words: list[str], child: ChildState) -> bool:
    """Whether a command line is the recorded one, also by way of an interpreter."""
    count = len(child.args)
    head = words[: len(words) - count]
    is_program = any(os.path.basename(w) == os.path.basename(child.command or "") for w in head)
    return is_program and words[len(words) - count :] == child.args


def _daemon_id(paths: Paths) -> str | None:
    try:
        return msgspec.json.decode(read_whole(paths.identity_path), type=Identity).daemon_id
    except (OSError, ValueError, *UNDECODABLE):
        return None
