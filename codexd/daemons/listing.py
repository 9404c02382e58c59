"""The list of running daemons: one small file each, believed only where the process proves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from codexd.clock import now_iso
from codexd.config import Config
from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.platform.filelock import wait_for_flock
from codexd.platform.files import make_private_directory, open_to_read, write_aside
from codexd.platform.process import ProcessId, identify, is_alive
from codexd.user_state import user_state_directory

_PATIENCE_S: Final = 0.5
# Far above what codexd writes.
_MAX_BYTES: Final = 1 << 20


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

    @property
    def state_root(self) -> str:
        """What `--state-dir` names; `codexd/` is added to it."""
        return os.path.dirname(self.state_dir)


class Listing(NamedTuple):
    """The daemons that live, the oldest first; and a sentence about each thing that was not read.

    With faults, there may be daemons that are not among them.
    """

    daemons: list[ListedDaemon]
    faults: list[str]


class _NoEntry(Exception):
    """A file of the list that says nothing of a daemon of this user."""


def directory(environ: Mapping[str, str]) -> str:
    """Where the files are."""
    return os.path.join(user_state_directory(environ), "daemons")


def read_list(environ: Mapping[str, str]) -> Listing:
    """Every daemon of the list that lives. Only reads."""
    place = directory(environ)
    try:
        paths = _files(place)
    except OSError as error:
        return Listing([], [f"The list of daemons {place} cannot be read: {error.strerror}."])
    daemons, faults = [], []
    for path in paths:
        try:
            entry = _read(path)
        except FileNotFoundError:
            # It has just ended.
            continue
        except OSError as error:
            faults.append(f"{path}, of the list of daemons, cannot be read: {error.strerror}.")
        except _NoEntry as error:
            faults.append(f"{path}, of the list of daemons, {error}.")
        else:
            if is_alive(entry.daemon):
                daemons.append(entry)
    return Listing(sorted(daemons, key=lambda daemon: daemon.started_at), faults)


def running(environ: Mapping[str, str]) -> list[ListedDaemon]:
    """As :func:`read_list`, for those to whom a list that cannot be read is none."""
    return read_list(environ).daemons


def make_entry(config: Config, codex_home: str | None) -> ListedDaemon | None:
    """This process's own entry; None where it cannot be told who it is."""
    daemon = identify(os.getpid())
    if daemon is None:
        return None
    paths = config.paths
    return ListedDaemon(
        daemon=daemon,
        node_id=config.node_id,
        repo_root=paths.repo_root,
        state_dir=paths.state_dir,
        logs_dir=paths.logs_dir,
        hub_socket_path=config.runtime.hub_socket_path,
        codex_home=codex_home,
        started_at=now_iso(),
    )


def enter(entry: ListedDaemon, environ: Mapping[str, str]) -> None:
    """Put an entry on the list, and take away what daemons left that died without a word.

    Raises:
        OSError: the list cannot be written.
    """
    place = directory(environ)
    make_private_directory(place)
    with _alone(place):
        write_aside(_path(entry, place), encode_json(entry) + b"\n", flush=False)
        _clear(place)


def is_listed(entry: ListedDaemon, environ: Mapping[str, str]) -> bool:
    """Whether there is a file for the entry; a cheap look."""
    return os.path.lexists(_path(entry, directory(environ)))


def leave(entry: ListedDaemon, environ: Mapping[str, str]) -> None:
    """Take an entry off the list, where it is still that daemon's."""
    path = _path(entry, directory(environ))
    with contextlib.suppress(OSError, _NoEntry):
        if _read(path).daemon == entry.daemon:
            os.unlink(path)


def _files(place: str) -> list[str]:
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return []
    return [os.path.join(place, name) for name in sorted(names) if name.endswith(".json")]


def _path(entry: ListedDaemon, place: str) -> str:
    import hashlib

    digest = hashlib.sha256(os.fsencode(entry.state_dir)).hexdigest()[:16]
    return os.path.join(place, f"{digest}.json")


def _read(path: str) -> ListedDaemon:
    with open(open_to_read(path), "rb") as file:
        # Whoever can write a file there does not thereby make us talk to a daemon of theirs.
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise _NoEntry("belongs to another user")
        data = file.read(_MAX_BYTES)
    try:
        return decode_json(data, ListedDaemon)
    except UNDECODABLE as error:
        raise _NoEntry("tells of no daemon") from error


def _clear(place: str) -> None:
    for path in _files(place):
        try:
            is_over = not is_alive(_read(path).daemon)
        except _NoEntry:
            is_over = True
        except OSError:
            # Not to be able to look is no sign of death.
            continue
        if is_over:
            with contextlib.suppress(OSError):
                os.unlink(path)


@contextlib.contextmanager
def _alone(place: str) -> Iterator[None]:
    """While nobody else writes the list, or as well as that can be had."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            wait_for_flock(descriptor, _PATIENCE_S)
        yield
    finally:
        os.close(descriptor)
