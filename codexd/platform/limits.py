"""How many files a process may have open: RLIMIT_NOFILE, and what a system adds to it."""

from __future__ import annotations

import contextlib
import errno
import resource
import sys
from typing import Final

# macOS calls the hard limit infinite and refuses more than kern.maxfilesperproc: 10,240 at least.
_DARWIN_FILES: Final = 10_240
# What codexd's own processes ask for: a client is one open file, and no more are paid for.
_OWN_FILES: Final = 65_536

# As whoever started this process had it: read before anything here raises it.
STARTERS_LIMIT: Final = resource.getrlimit(resource.RLIMIT_NOFILE)

# What tells that this process, or the system, can open no more at the moment.
OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)


def affordable_files(wanted: int) -> int:
    """As many open files as ``wanted``, but no more than the hard limit lets this process have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    return min(wanted, _DARWIN_FILES) if sys.platform == "darwin" else wanted


def raise_own_limit() -> None:
    """Have this process use what it may: a shell or launchd sets a soft limit of 256 or 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = affordable_files(_OWN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # What the system refuses after all, codexd does without.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def files_left_above(descriptor: int) -> int:
    """How many more files can be opened at most, once ``descriptor`` has just been.

    The system gives the lowest number that is free, so every lower one is in use.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft - 1 - descriptor


def limit_files(soft: int, hard: int) -> None:
    """Set the limit of this process. Safe between fork and exec.

    Raises:
        OSError, ValueError: the system refuses.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
