"""What must be there before anything runs: directories, the lock, and no leftovers."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable

import msgspec

from codexd import daemons
from codexd.child import family
from codexd.child import steps as supervision
from codexd.child.inheritance import DAEMON_ID_VARIABLE
from codexd.config import Config
from codexd.contracts import Identity
from codexd.encoding import UNDECODABLE
from codexd.platform import lock
from codexd.platform.process import end_group, end_marked_group, end_tree
from codexd.store.scaffold import Scaffold, describe_scaffold, find_scaffold

# How long an app-server that an earlier daemon left behind may take to end by itself.
_ORPHAN_GRACE_S = 2.0


class ScaffoldRuns(OSError):
    """A daemon of the original runs on these directories. The text is one line for the user."""


class UnusableDirectory(OSError):
    """A directory cannot be made or is not safe to use. The text is one line for the user."""


def make_directories(config: Config) -> None:
    """Make the logs, state and runtime directories, each for this user alone.

    Raises:
        UnusableDirectory: naming the directory and the reason.
    """
    for path in (config.paths.logs_dir, config.paths.state_dir):
        _make(path)
    runtime_dir = config.runtime.runtime_dir
    parent = os.path.dirname(runtime_dir)
    if parent.startswith("/tmp/codexd-"):
        # Anyone can make names in /tmp: what is not ours alone is not used.
        _make(parent)
        _check_private(parent)
    _make(runtime_dir)
    _check_private(runtime_dir)


def _make(path: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            os.chmod(path, 0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise UnusableDirectory(
            f'The directory "{path}" cannot be used: {error.strerror}. '
            "Make it writable, or choose another with --logs-dir and --state-dir."
        ) from error


def _check_private(path: str) -> None:
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UnusableDirectory(
            f'The runtime directory "{path}" belongs to someone else: remove it, '
            "or choose a shorter --state-dir."
        )


def take_over(config: Config, report: Callable[[str], None]) -> None:
    """Become the daemon of this state directory: take its lock, end what the last one left.

    Raises:
        codexd.platform.lock.LockedElsewhere: another daemon runs.
        OSError: the lock cannot be made, or a daemon runs that is not to be disturbed.
    """
    lock.acquire(config.runtime.lock_path)
    try:
        scaffold = _find_scaffold(config)
        if scaffold.daemon is not None:
            raise ScaffoldRuns(describe_scaffold(config.paths, scaffold.daemon))
        daemons.enter(config, os.environ)
    except BaseException:
        # The runtime directory may be that of a daemon that lost its lock with its directory.
        lock.release(config.runtime.lock_path)
        raise
    if scaffold.child is not None:
        end_tree(scaffold.child, grace_s=_ORPHAN_GRACE_S, report=report)
    end_leftover(config, report, grace_s=_ORPHAN_GRACE_S)


def _find_scaffold(config: Config) -> Scaffold:
    ours = supervision.load(supervision.path_of(config)).child
    return find_scaffold(config.paths, ours=ours.pid if ours else None)


def end_leftover(config: Config, report: Callable[[str], None], *, grace_s: float) -> None:
    """End the child that a dead daemon left behind, its process group, and its descendants."""
    child = supervision.load(supervision.path_of(config)).child
    if child is not None and child.pid != os.getpid():
        end_group(child, grace_s=grace_s, report=report)
        daemon_id = _daemon_id(config)
        if daemon_id is not None:
            end_marked_group(child.pid, (DAEMON_ID_VARIABLE, daemon_id))
    family.end_survivors(family.path_of(config), report)


def _daemon_id(config: Config) -> str | None:
    try:
        with open(config.paths.identity_path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Identity).daemon_id
    except (OSError, *UNDECODABLE):
        return None


def leave(config: Config) -> None:
    """Give the locks back and take away what only a running daemon needs."""
    daemons.leave(config, os.environ)
    shutil.rmtree(config.runtime.runtime_dir, ignore_errors=True)
    lock.release(config.runtime.lock_path)
