"""One daemon a CODEX_HOME: two app-servers on one are in each other's way.

The daemon holds an flock on that directory itself: it leaves nothing behind, and the kernel gives
it back whatever happens. The list of daemons says who holds it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Final

from codexd.codex_home import codex_home
from codexd.config import Server
from codexd.contracts import Identity
from codexd.daemons.listing import running
from codexd.encoding import UNDECODABLE, decode_json
from codexd.platform.filelock import try_flock, wait_for_flock
from codexd.platform.files import PRIVATE_DIRECTORY, read_whole
from codexd.platform.lock import flock_holder
from codexd.platform.users import user_name

_PATIENCE_S: Final = 0.5
_POLL_S: Final = 0.01
# What every daemon holds open in its state directory.
_LOCK_NAME: Final = "/codexd/daemon.lock"

# The flocks of this process, by state directory: see codexd.platform.lock.
_held: dict[str, int] = {}


class HomeServed(OSError):
    """Another daemon serves the CODEX_HOME. The text is one line for the user."""


def served_home(server: Server, environ: Mapping[str, str]) -> str | None:
    """The CODEX_HOME that the child uses, with its links resolved; None for none."""
    if server.child_strategy != "spawn" or "app-server" not in server.child_args:
        return None
    is_codex = os.path.basename(server.child_command).startswith("codex")
    if server.mode == "exec" and not is_codex:
        return None
    return os.path.realpath(codex_home(environ, cwd=server.child_cwd))


def take(home: str, state_dir: str, environ: Mapping[str, str]) -> None:
    """Have the CODEX_HOME for the daemon of this state directory alone.

    Raises:
        HomeServed: another daemon has it.
    """
    if state_dir in _held:
        return
    _refuse_if_listed(home, environ)
    descriptor = _open(home, environ)
    if descriptor is None:
        return
    try:
        # A daemon that is just ending may take a moment.
        is_ours = wait_for_flock(descriptor, _PATIENCE_S)
    except OSError:
        # No locks on this file system: the list is all there is to go by.
        os.close(descriptor)
        return
    if not is_ours:
        os.close(descriptor)
        # Who has just taken it may not be on the list yet.
        _await_listed(home, environ)
        raise HomeServed(_describe_unlisted(home, flock_holder(home)))
    _held[state_dir] = descriptor


def keep(home: str, state_dir: str) -> None:
    """See that what is held is the directory of that name, where one was made (anew) since.

    That somebody else has it by now cannot be changed any more.
    """
    held = _held.get(state_dir)
    with contextlib.suppress(OSError):
        if held is not None and os.path.samestat(os.stat(home), os.fstat(held)):
            return
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            is_ours = try_flock(descriptor)
        except OSError:
            is_ours = False
        if not is_ours:
            os.close(descriptor)
            return
        release(state_dir)
        _held[state_dir] = descriptor


def release(state_dir: str) -> None:
    """Give the CODEX_HOME back."""
    descriptor = _held.pop(state_dir, None)
    if descriptor is not None:
        os.close(descriptor)


def describe_other(home: str, environ: Mapping[str, str], *, but: int | None = None) -> str | None:
    """One line about the daemon that serves the CODEX_HOME; None where nobody does.

    The process ``but`` is not meant. Only looks.
    """
    for other in running(environ):
        if other.daemon.pid not in (os.getpid(), but) and _is_same(other.codex_home, home):
            return _describe(other.daemon.pid, other.state_dir, home, other.repo_root)
    holder = flock_holder(home)
    if holder is None or holder in (os.getpid(), but):
        return None
    return _describe_unlisted(home, holder)


def _is_same(home: str | None, other: str) -> bool:
    """Whether two names are of one directory: by another mount, or in other letters on a Mac."""
    if home is None or home == other:
        return home == other
    with contextlib.suppress(OSError):
        return os.path.samefile(home, other)
    return False


def _refuse_if_listed(home: str, environ: Mapping[str, str]) -> None:
    for other in running(environ):
        if other.daemon.pid != os.getpid() and _is_same(other.codex_home, home):
            text = _describe(other.daemon.pid, other.state_dir, home, other.repo_root)
            raise HomeServed(text)


def _await_listed(home: str, environ: Mapping[str, str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        _refuse_if_listed(home, environ)
        time.sleep(_POLL_S)


def _open(home: str, environ: Mapping[str, str]) -> int | None:
    if not environ.get("CODEX_HOME", "").strip():
        # codex makes its own default, and no other.
        with contextlib.suppress(OSError):
            os.mkdir(home, PRIVATE_DIRECTORY)
    try:
        return os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


# -- who it is ---------------------------------------------------------------------------------


def _describe(pid: int, state_dir: str, home: str, repo_root: str | None) -> str:
    # `codexd/` is added to what --state-dir names.
    import shlex

    root = shlex.quote(os.path.dirname(state_dir))
    whose = f", for {repo_root}" if repo_root else ""
    return (
        f'codexd (pid {pid}, on {state_dir}) serves CODEX_HOME "{home}" already{whose}: use it '
        f"with `codexd attach --state-dir {root}`, stop it with `codexd stop --state-dir {root}`, "
        "or give this one a CODEX_HOME of its own."
    )


def _describe_unlisted(home: str, pid: int | None) -> str:
    """The same for one that is on another list: of another HOME, say, or another user's."""
    if pid is None:
        return (
            f'Another daemon serves CODEX_HOME "{home}" already: stop it with `codexd stop` where '
            "it was started, or give this one a CODEX_HOME of its own."
        )
    import psutil

    try:
        process = psutil.Process(pid)
        uid = int(process.uids().effective)
        if uid != os.geteuid():
            return (
                f'A process of {user_name(uid)} (pid {pid}) has CODEX_HOME "{home}" locked: '
                "have that user stop it, or give this one a CODEX_HOME of its own."
            )
        for file in process.open_files():
            if file.path.endswith(_LOCK_NAME):
                state_dir = os.path.dirname(file.path)
                return _describe(pid, state_dir, home, repo_of(state_dir))
    except psutil.Error:
        pass
    return (
        f'Another process (pid {pid}) has CODEX_HOME "{home}" locked: stop it with `kill {pid}`, '
        "or give this one a CODEX_HOME of its own."
    )


def repo_of(state_dir: str) -> str | None:
    """The repository whose daemon a state directory is of; None where it does not say."""
    try:
        data = read_whole(os.path.join(state_dir, "identity.json"))
        return decode_json(data, Identity).repo_root
    except (OSError, *UNDECODABLE):
        return None
