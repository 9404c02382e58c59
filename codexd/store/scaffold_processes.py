"""Whether a process looks like the one of the original codexd that is on record."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Final

import psutil

from codexd.config import Paths
from codexd.contracts import ChildState, DaemonState, Identity
from codexd.encoding import UNDECODABLE, decode_json
from codexd.platform.files import read_whole
from codexd.platform.process import ProcessId, identify

_DAEMON_ID: Final = "BAA_CODEXD_DAEMON_ID"
_RUNTIMES: Final = re.compile(r"(node|nodejs|bun|deno|tsx)[0-9.]*")
_SCRIPT: Final = re.compile(r"\.[cm]?[jt]s")
# The record is written after its process has started. Clocks may have been set in between.
_SLACK_S: Final = 10.0


def find_daemon(state: DaemonState, paths: Paths) -> ProcessId | None:
    """The daemon on record, where it lives."""
    if not state.started or not _is(state.pid, paths):
        return None
    assert state.pid is not None
    return _looks_like_daemon(state.pid)


def find_child(child: ChildState, paths: Paths) -> ProcessId | None:
    """The child on record, where it lives."""
    return _looks_like_child(child, paths) if _is(child.pid, paths) else None


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
        return decode_json(read_whole(paths.identity_path), Identity).daemon_id
    except (OSError, ValueError, *UNDECODABLE):
        return None
