"""Ending with one's parent, and who becomes the parent of those whose parent ended.

Linux has the parent-death signal (prctl(2), PR_SET_PDEATHSIG): the kernel sends it. macOS has
not: there a process that runs Python watches its parent instead (:func:`watch_parent`), and a
child that is another program is ended by the next start. Orphans go to process 1; Linux lets a
process above them ask for them (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable
from threading import Thread

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Loaded once, before any fork: a forked child must not import or look up anything.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent(parent: int, signum: int) -> None:
    """Have the kernel send ``signum`` to this process when ``parent`` is gone (Linux only).

    Safe between fork and exec. The parent may have died before the call, and then no signal
    would ever come: so it is checked after, and the signal raised here.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def adopt_orphans() -> bool:
    """From now on be the parent of every descendant whose own parent ends (Linux only).

    Returns:
        Whether orphans come here; where not, they go to process 1, among all others.
    """
    return _libc is not None and _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def watch_parent(parent: int, on_death: Callable[[], None]) -> None:
    """Call ``on_death`` (from another thread) once ``parent`` is gone.

    Linux: nothing to do here, :func:`end_with_parent` serves. Elsewhere: kqueue's NOTE_EXIT.
    """
    if sys.platform != "linux":
        Thread(target=_await_exit, args=(parent, on_death), daemon=True).start()


def _await_exit(parent: int, on_death: Callable[[], None]) -> None:
    if sys.platform == "linux":
        return
    queue = select.kqueue()
    event = select.kevent(
        parent, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
    )
    try:
        queue.control([event], 0)
        if os.getppid() == parent:
            queue.control(None, 1)
    except ProcessLookupError:
        pass
    finally:
        queue.close()
    on_death()


def raise_signal_in(pid: int, signum: int = signal.SIGTERM) -> Callable[[], None]:
    """An ``on_death`` that signals ``pid``."""
    return lambda: os.kill(pid, signum)
