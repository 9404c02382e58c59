"""What must be there before anything runs: directories, the lock, and no leftovers."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import Final

from codexd.child import beside, family
from codexd.child import steps as supervision
from codexd.child.inheritance import DAEMON_ID_VARIABLE
from codexd.child.spare import HANDSHAKE
from codexd.config import Config, Paths, Runtime
from codexd.contracts import Identity
from codexd.daemons import membership
from codexd.encoding import UNDECODABLE, decode_json
from codexd.eventlog.own_output import bound_own_output
from codexd.platform import lock
from codexd.platform.files import (
    create_once,
    explain,
    is_aside,
    is_of_the_disk,
    make_ours,
    read_whole,
    remove_leftovers,
    require_private_directory,
    set_aside_odd,
)
from codexd.platform.process import end_group, end_marked_group, end_tree
from codexd.platform.users import owner_of_place, user_name
from codexd.store.scaffold import Scaffold, describe_scaffold, find_scaffold

logger = logging.getLogger("codexd")

# How long an app-server that an earlier daemon left behind may take to end by itself.
_ORPHAN_GRACE_S = 2.0

_STATE_FILES: Final = (
    "identity.json",
    "daemon-state.json",
    "session-registry.json",
    "recent-events.json",
    "watcher.json",
    "page-sessions.json",
    "daemon.lock",
    "writer.lock",
)
_LOG: Final = re.compile(r"(events\.jsonl|(stdout|stderr|codexd|daemon)\.log)(\.\d+|\.new)?")
# Where there is nothing else, `logs/` and `state/` were made for codexd.
_OURS_IN_A_ROOT: Final = {"codexd", "launchd"}


class ScaffoldRuns(OSError):
    """A daemon of the original runs on these directories. The text is one line for the user."""


class UnusableDirectory(OSError):
    """A directory cannot be made or is not safe to use. The text is one line for the user."""


def make_directories(paths: Paths, place: Runtime) -> list[str]:
    """Make the logs, state and runtime directories, each for this user alone.

    Returns:
        A sentence about what was in the way of the runtime directory, if anything was.

    Raises:
        UnusableDirectory: naming the directory and the reason.
    """
    for root, own, flag in (
        (paths.logs_root_dir, paths.logs_dir, "--logs-dir"),
        (paths.state_root_dir, paths.state_dir, "--state-dir"),
    ):
        refuse_links(root, paths.repo_root, flag)
        _refuse_anothers(own)
        _make(own, flag)
        if _is_below(own, paths.repo_root):
            _hide_from_git(root, own)
    in_the_way = _make_runtime(place.runtime_dir)
    return [in_the_way] if in_the_way else []


def refuse_links(root: str, repo_root: str, flag: str) -> None:
    """A repository may bring links: below its root none is followed, whoever made it."""
    directory = root
    while _is_below(directory, repo_root):
        if os.path.islink(directory):
            raise UnusableDirectory(
                f'"{directory}" is a symbolic link in the repository, and is not followed: '
                f"name the directory that it leads to with {flag}."
            )
        directory = os.path.dirname(directory)


def _refuse_anothers(directory: str) -> None:
    """See that sudo makes no files where its user would then be kept out.

    Root without it may be the only user that there is: in a container, whose volumes show whatever
    owner they have outside.
    """
    owner = owner_of_place(directory)
    if owner is not None and os.environ.get("SUDO_UID"):
        raise UnusableDirectory(
            f'"{directory}" is a place of {user_name(owner)}: run codexd as that user, not as root.'
        )


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _make(path: str, flag: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        make_ours(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied", path)
    except OSError as error:
        what = explain(error) if is_of_the_disk(error) else error.strerror
        raise UnusableDirectory(
            f'The directory "{path}" cannot be used: {what}. '
            f"Make it writable, or choose another with {flag}."
        ) from error


def _make_runtime(path: str) -> str | None:
    parent = os.path.dirname(path)
    try:
        if parent.startswith("/tmp/codexd-"):
            # Anyone can make names in /tmp: what is not ours alone is not used.
            make_ours(parent, only_ours=True)
            require_private_directory(parent)
        in_the_way = set_aside_odd(path, is_right=stat.S_ISDIR)
        make_ours(path, only_ours=True)
        require_private_directory(path)
        return in_the_way
    except OSError as error:
        what = explain(error) if is_of_the_disk(error) else f"it {error.strerror}"
        raise UnusableDirectory(
            f'The runtime directory "{path}" cannot be used: {what}. '
            "Remove it, or choose a shorter --state-dir."
        ) from error


def _hide_from_git(root: str, own: str) -> None:
    """Keep what codexd writes into a repository out of it."""
    places = [own]
    with contextlib.suppress(OSError):
        # Other things there are for others to hide or show.
        if set(os.listdir(root)) <= _OURS_IN_A_ROOT:
            places.append(root)
    for place in places:
        with contextlib.suppress(OSError):
            create_once(os.path.join(place, ".gitignore"), b"*\n")


def set_right(paths: Paths, place: Runtime) -> list[str]:
    """Set aside whatever stands where codexd has a file, a socket or a directory and is none.

    Returns:
        A sentence about each thing.
    """
    found = [
        *(set_aside_odd(path, is_right=is_right) for path, is_right in _kinds(paths, place)),
        *(set_aside_odd(path) for path in _logs(paths.logs_dir)),
    ]
    return [sentence for sentence in found if sentence is not None]


def _kinds(paths: Paths, place: Runtime) -> Iterator[tuple[str, Callable[[int], bool]]]:
    for name in _STATE_FILES:
        yield os.path.join(paths.state_dir, name), stat.S_ISREG
    yield place.runtime_dir, stat.S_ISDIR
    for name in ("circus.ini", "handshake.json", HANDSHAKE):
        yield os.path.join(place.runtime_dir, name), stat.S_ISREG
    for path in (family.path_of(place.runtime_dir), family.spare_path_of(place.runtime_dir)):
        yield path, stat.S_ISREG
    for name in ("circus.sock", "events.sock", "codexd.sock"):
        yield os.path.join(place.runtime_dir, name), stat.S_ISSOCK
    for name in beside.NAMES:
        yield os.path.join(place.runtime_dir, name), _is_codex_socket
    yield os.path.join(place.runtime_dir, "io"), stat.S_ISDIR


def _is_codex_socket(mode: int) -> bool:
    """codex makes a link where it is to listen; its socket is elsewhere."""
    return stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)


def _logs(directory: str) -> list[str]:
    """Every log, and what it was rotated to."""
    try:
        entries = os.listdir(directory)
    except OSError:
        return []
    return [os.path.join(directory, entry) for entry in entries if _LOG.fullmatch(entry)]


def take_over(config: Config, report: Callable[[str], None]) -> list[str]:
    """Become the daemon of this state directory: take its lock, end what the last one left.

    Returns:
        A sentence about each thing that was in the way.

    Raises:
        codexd.platform.lock.LockedElsewhere: another daemon runs.
        OSError: the lock cannot be made, or a daemon runs that is not to be disturbed.
    """
    paths, place = config.paths, config.runtime
    repairs = set_right(paths, place)
    lock.acquire(place.lock_path)
    try:
        scaffold = _find_scaffold(paths)
        if scaffold.daemon is not None:
            raise ScaffoldRuns(describe_scaffold(paths, scaffold.daemon))
        membership.enter(config, os.environ)
    except BaseException:
        # The runtime directory may be that of a daemon that lost its lock with its directory.
        lock.release(place.lock_path)
        raise
    if scaffold.child is not None:
        end_tree(scaffold.child, grace_s=_ORPHAN_GRACE_S, report=report)
    end_leftover(paths, place, report, grace_s=_ORPHAN_GRACE_S)
    # Of children that are gone, and perhaps with links in it that lead elsewhere.
    shutil.rmtree(os.path.join(place.runtime_dir, "io"), ignore_errors=True)
    for path in (supervision.path_of(paths.state_dir), place.circus_ini_path):
        remove_leftovers(path)
    return repairs


def keep(paths: Paths, place: Runtime) -> None:
    """See that directories and lock of the running daemon are there, and its output is bounded.

    To be called every second.

    Raises:
        codexd.platform.lock.LockedElsewhere: an older codexd took the lock's name meanwhile.
        OSError: they cannot be made again.
    """
    bound_own_output(lambda: _own_output(paths))
    if not os.path.lexists(place.lock_path):
        for repair in make_directories(paths, place):
            logger.warning("%s", repair)
    lock.keep(place.lock_path)
    membership.keep(paths.state_dir, os.environ)


def _own_output(paths: Paths) -> list[str]:
    """Where `--detach` and launchd have the daemon print to."""
    launchd = os.path.join(glob.escape(paths.logs_root_dir), "launchd", "*.log")
    return [os.path.join(paths.logs_dir, "daemon.log"), *glob.glob(launchd)]


def _find_scaffold(paths: Paths) -> Scaffold:
    ours = supervision.load(supervision.path_of(paths.state_dir)).child
    return find_scaffold(paths, ours=ours.pid if ours else None)


def end_leftover(
    paths: Paths, place: Runtime, report: Callable[[str], None], *, grace_s: float
) -> None:
    """End the child, and the spare, that a dead daemon left behind, and all that is theirs.

    That is each one's process group, and its descendants.
    """
    record = supervision.load(supervision.path_of(paths.state_dir))
    spare = None if record.spare is None else record.spare.process
    for process in (record.child, spare):
        if process is None or process.pid == os.getpid():
            continue
        end_group(process, grace_s=grace_s, report=report)
        daemon_id = _daemon_id(paths.identity_path)
        if daemon_id is not None:
            end_marked_group(process.pid, (DAEMON_ID_VARIABLE, daemon_id))
    for path in (family.path_of(place.runtime_dir), family.spare_path_of(place.runtime_dir)):
        family.end_survivors(path, report)


def _daemon_id(path: str) -> str | None:
    try:
        return decode_json(read_whole(path), Identity).daemon_id
    except (OSError, *UNDECODABLE):
        return None


def leave(paths: Paths, place: Runtime) -> None:
    """Give the locks back and take away what only a running daemon needs."""
    membership.leave(paths.state_dir, os.environ)
    _clear(place.runtime_dir)
    lock.release(place.lock_path)


def _clear(directory: str) -> None:
    """Remove a directory of ours, but not what was set aside in it."""
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            return
        for entry in list(os.scandir(directory)):
            if is_aside(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        os.rmdir(directory)
