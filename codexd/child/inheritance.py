"""What the child gets from whoever started the daemon, and what it does not.

It should behave as if it had been started in the same place without codexd: the same umask,
environment and limits. What is meant for the daemon alone stays with the daemon, and what the
daemon changed for itself is set back. docs/reference/runtime.md shows it as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from codexd.platform import signals
from codexd.platform.limits import STARTERS_LIMIT, affordable_files, limit_files

# In the environment of the child, and of what it starts; unique to the state directory.
DAEMON_ID_VARIABLE: Final = "BAA_CODEXD_DAEMON_ID"

# From systemd to the service itself: a command that the child runs must not speak for it
# (sd_notify(3)), nor take the sockets that it was given (sd_listen_fds(3)).
_FOR_THE_DAEMON: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "FDSTORE",
    }
)


def child_environment(environ: Mapping[str, str], daemon_id: str, endpoint: str) -> dict[str, str]:
    """The environment of the child, from the daemon's own."""
    kept = {name: value for name, value in environ.items() if name not in _FOR_THE_DAEMON}
    return {**kept, DAEMON_ID_VARIABLE: daemon_id, "BAA_CODEXD_SERVER_ENDPOINT": endpoint}


def child_files(wanted: int) -> tuple[int, int]:
    """The child's soft and hard limit of open files: ``wanted``, or for 0 as the daemon got them.

    Only the soft one is set: a command may still ask for all that its starter could.
    """
    soft, hard = STARTERS_LIMIT
    return (affordable_files(wanted) if wanted else soft, hard)


def become_child(files: tuple[int, int] | None) -> None:
    """In the forked child, before exec: undo what the daemon set for itself.

    ``files`` is what :func:`child_files` said; None where an operator set the limit himself.

    Raises:
        OSError: the limit cannot be set.
    """
    signals.reset_all()
    if files is not None:
        limit_files(*files)
