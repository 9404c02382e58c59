"""Whose daemon it is: one user's is nobody else's to talk to."""

from __future__ import annotations

import os

from codexd.client.errors import DaemonError
from codexd.config import Paths, Runtime
from codexd.platform.users import user_name


def foreign_owner(paths: Paths, place: Runtime) -> str | None:
    """The user whose daemon runs on the state directory, where it is another than ours.

    Of files that cannot be read it is the owner, whether a daemon runs or not.
    """
    if _is_all_ours(paths.state_dir, place):
        return None
    from codexd.platform import lock

    holder = lock.living_holder(place.lock_path)
    uid = (
        _user_of(holder.pid)
        if holder is not None
        else _owner_of_closed(place.lock_path, paths.state_dir)
    )
    return None if uid is None or uid == os.geteuid() else user_name(uid)


def check_owner(paths: Paths, place: Runtime, *, root_may: bool = False) -> None:
    """See that the daemon, or what it left, is ours.

    Raises:
        DaemonError: naming whose it is. With ``root_may``, root may do it all the same.
    """
    owner = foreign_owner(paths, place)
    if owner is not None and not (root_may and os.geteuid() == 0):
        raise DaemonError(belongs_to(paths.state_dir, owner))


def belongs_to(state_dir: str, owner: str) -> str:
    """What to tell whoever is not ``owner``."""
    return f"The daemon of {state_dir} belongs to {owner}: run this as that user."


def _is_all_ours(state_dir: str, place: Runtime) -> bool:
    """Whether nothing there is anybody else's: a look that costs nothing, for the usual case."""
    for path in (state_dir, place.lock_path, place.hub_socket_path):
        try:
            if os.stat(path).st_uid != os.geteuid():
                return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _user_of(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).uids().effective)
    except psutil.Error:
        return None


def _owner_of_closed(*paths: str) -> int | None:
    for path in paths:
        try:
            if not os.access(path, os.R_OK):
                return os.stat(path).st_uid
        except OSError:
            continue
    return None
