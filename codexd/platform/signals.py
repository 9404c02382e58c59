"""Signals: what whoever started this process had set, and a clean slate for another program."""

from __future__ import annotations

import signal
from typing import Final

# What a user or a terminal ends a program by. A shell ignores the first for `nohup`, and the
# others for a command that it runs in the background of a script.
_IGNORABLE: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)

# Read before anything puts handlers in place: what was ignored then stays so.
IGNORED_AT_START: Final = tuple(
    signum for signum in _IGNORABLE if signal.getsignal(signum) is signal.SIG_IGN
)

# What ends codexd. SIGTERM does in any case: `codexd stop` and service managers send it.
ENDING: Final = (
    signal.SIGTERM,
    *(signum for signum in _IGNORABLE if signum not in IGNORED_AT_START),
)


def settle() -> None:
    """Hear what ends codexd, and that a child died, and nothing that was ignored at the start.

    Whoever has put a handler in place for that since, or started this process with signals
    blocked: one that is blocked would be heard never. Where a child's death is ignored, the kernel
    reaps it, and how it ended nobody can tell.
    """
    for signum in IGNORED_AT_START:
        signal.signal(signum, signal.SIG_IGN)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ENDING, signal.SIGCHLD})


def reset_all() -> None:
    """Every signal does what it does by default, and none is blocked. For use before exec."""
    # Else a signal in between would be told to the process that this one was forked from.
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
