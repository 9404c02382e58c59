"""The daemons of this user that run, one small file each; and one daemon a CODEX_HOME.

A file is believed only where the process proves it. Two app-servers on one CODEX_HOME are in each
other's way, so the daemon holds an flock on that directory itself: it leaves nothing behind, and
the kernel gives it back whatever happens. The files say who holds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import psutil

from codexd.clock import now_iso
from codexd.codex_home import codex_home
from codexd.config import Config
from codexd.encoding import UNDECODABLE, encode_json
from codexd.platform.filelock import try_flock
from codexd.platform.files import (
    PRIVATE_DIRECTORY,
    make_private_directory,
    read_whole,
    write_aside,
)
from codexd.platform.lock import flock_holder
from codexd.platform.process import ProcessId, identify, is_alive

_PATIENCE_S: Final = 0.5
_POLL_S: Final = 0.01
# What every daemon holds open in its state directory.
_LOCK_NAME: Final = "/codexd/daemon.lock"

# The flocks of this process, by state directory: see codexd.platform.lock.
_held: dict[str, int] = {}


class ListedDaemon(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """One running daemon. ``codex_home`` is None where it serves none of its own."""

    daemon: ProcessId
    node_id: str
    repo_root: str
    state_dir: str
    logs_dir: str
    hub_socket_path: str
    codex_home: str | None
    started_at: str


class HomeServed(OSError):
    """Another daemon serves the CODEX_HOME. The text is one line for the user."""


def directory(environ: Mapping[str, str]) -> str:
    """Where the files are."""
    home = environ.get("HOME") or os.path.expanduser("~")
    if sys.platform == "darwin":
        return os.path.join(home, "Library/Application Support/codexd/daemons")
    state = environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    base = state if os.path.isabs(state) else os.path.join(home, ".local/state")
    return os.path.join(base, "codexd/daemons")


def running(environ: Mapping[str, str]) -> list[ListedDaemon]:
    """Every daemon of the list that lives, the oldest first. Only reads."""
    found = [_read(path) for path in _files(directory(environ))]
    living = [daemon for daemon in found if daemon is not None and is_alive(daemon.daemon)]
    return sorted(living, key=lambda daemon: daemon.started_at)


def enter(config: Config, environ: Mapping[str, str]) -> None:
    """Take the CODEX_HOME for this daemon, where it serves one, and list the daemon.

    A list that cannot be written keeps nobody from starting.

    Raises:
        HomeServed: another daemon serves it.
    """
    home = served_home(config, environ)
    if home is not None:
        _take(home, config, environ)
    with contextlib.suppress(OSError):
        _write(config, home, directory(environ))


def leave(config: Config, environ: Mapping[str, str]) -> None:
    """Give the CODEX_HOME back and take this daemon off the list."""
    descriptor = _held.pop(config.paths.state_dir, None)
    if descriptor is not None:
        os.close(descriptor)
    path = _path(config, directory(environ))
    listed = _read(path)
    if listed is not None and listed.daemon == identify(os.getpid()):
        with contextlib.suppress(OSError):
            os.unlink(path)


def served_home(config: Config, environ: Mapping[str, str]) -> str | None:
    """The CODEX_HOME that the child of ``config`` uses, with its links resolved; None for none."""
    server = config.server
    if server.child_strategy != "spawn" or "app-server" not in server.child_args:
        return None
    is_codex = os.path.basename(server.child_command).startswith("codex")
    if server.mode == "exec" and not is_codex:
        return None
    return os.path.realpath(codex_home(environ, cwd=server.child_cwd))


def who_serves(home: str, environ: Mapping[str, str]) -> ListedDaemon | None:
    """The daemon of the list, other than this process, that serves a CODEX_HOME."""
    others = [d for d in running(environ) if d.codex_home == home and d.daemon.pid != os.getpid()]
    return others[0] if others else None


def describe_other(other: ListedDaemon) -> str:
    """One line for who would serve the same CODEX_HOME."""
    return _describe(other.daemon.pid, other.state_dir, other.codex_home)


def _describe(pid: int, state_dir: str, home: str | None) -> str:
    # `codexd/` is added to what --state-dir names.
    root = os.path.dirname(state_dir)
    return (
        f'codexd (pid {pid}, on {state_dir}) serves CODEX_HOME "{home}" already: use it with '
        f"`codexd attach --state-dir {root}`, stop it with `codexd stop --state-dir {root}`, or "
        "give this one a CODEX_HOME of its own."
    )


def _describe_unlisted(home: str, pid: int | None) -> str:
    """The same for one that is on another list: of another HOME, say, or another user's."""
    if pid is None:
        return (
            f'Another daemon serves CODEX_HOME "{home}" already: stop it with `codexd stop` where '
            "it was started, or give this one a CODEX_HOME of its own."
        )
    with contextlib.suppress(psutil.Error):
        for file in psutil.Process(pid).open_files():
            if file.path.endswith(_LOCK_NAME):
                return _describe(pid, os.path.dirname(file.path), home)
    return (
        f'Another process (pid {pid}) has CODEX_HOME "{home}" locked: stop it with `kill {pid}`, '
        "or give this one a CODEX_HOME of its own."
    )


# -- one daemon a CODEX_HOME -------------------------------------------------------------------


def _take(home: str, config: Config, environ: Mapping[str, str]) -> None:
    if config.paths.state_dir in _held:
        return
    _refuse_if_listed(home, environ)
    descriptor = _open(home, environ)
    if descriptor is None:
        return
    try:
        is_ours = _lock(descriptor)
    except OSError:
        # No locks on this file system: the list is all there is to go by.
        os.close(descriptor)
        return
    if not is_ours:
        os.close(descriptor)
        # Who has just taken it may not be on the list yet.
        _await_listed(home, environ)
        raise HomeServed(_describe_unlisted(home, flock_holder(home)))
    _held[config.paths.state_dir] = descriptor


def _open(home: str, environ: Mapping[str, str]) -> int | None:
    if not environ.get("CODEX_HOME", "").strip():
        # codex makes its own default, and no other.
        with contextlib.suppress(OSError):
            os.mkdir(home, PRIVATE_DIRECTORY)
    try:
        return os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def _lock(descriptor: int) -> bool:
    """Whether the flock is ours now; a daemon that is just ending may take a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while not try_flock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _await_listed(home: str, environ: Mapping[str, str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        _refuse_if_listed(home, environ)
        time.sleep(_POLL_S)


def _refuse_if_listed(home: str, environ: Mapping[str, str]) -> None:
    other = who_serves(home, environ)
    if other is not None:
        raise HomeServed(describe_other(other))


# -- the files ---------------------------------------------------------------------------------


def _files(place: str) -> list[str]:
    try:
        names = os.listdir(place)
    except OSError:
        return []
    return [os.path.join(place, name) for name in names if name.endswith(".json")]


def _path(config: Config, place: str) -> str:
    digest = hashlib.sha256(os.fsencode(config.paths.state_dir)).hexdigest()[:16]
    return os.path.join(place, f"{digest}.json")


def _read(path: str) -> ListedDaemon | None:
    try:
        return msgspec.json.decode(read_whole(path), type=ListedDaemon)
    except (OSError, *UNDECODABLE):
        return None


def _write(config: Config, home: str | None, place: str) -> None:
    daemon = identify(os.getpid())
    if daemon is None:
        return
    paths = config.paths
    entry = ListedDaemon(
        daemon=daemon,
        node_id=config.node_id,
        repo_root=paths.repo_root,
        state_dir=paths.state_dir,
        logs_dir=paths.logs_dir,
        hub_socket_path=config.runtime.hub_socket_path,
        codex_home=home,
        started_at=now_iso(),
    )
    make_private_directory(place)
    with _alone(place):
        write_aside(_path(config, place), encode_json(entry) + b"\n", flush=False)
        _clear(place)


def _clear(place: str) -> None:
    """Take away what daemons left that died without a word."""
    for path in _files(place):
        listed = _read(path)
        if listed is None or not is_alive(listed.daemon):
            os.unlink(path)


@contextlib.contextmanager
def _alone(place: str) -> Iterator[None]:
    """While nobody else writes the list, or as well as that can be had."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            _lock(descriptor)
        yield
    finally:
        os.close(descriptor)
