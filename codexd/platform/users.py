"""The users of this machine, and what is theirs."""

from __future__ import annotations

import os
import pwd


def user_name(uid: int) -> str:
    """How people call the user ``uid``."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def owner_of_place(directory: str) -> int | None:
    """To whom a directory belongs, or what there is above it, where that is neither us nor root.

    Only root is told: nobody else can make anything in the place of another.
    """
    if os.geteuid() != 0:
        return None
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    owner = os.lstat(directory).st_uid
    return None if owner == 0 else owner
