"""A process that goes on from where this one is, as another program would: what is loaded, it has.

Only on Linux: elsewhere the system's own libraries forbid a fork that no exec follows.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

import psutil

from codexd.platform.command_line import show_as

_THREADS: Final = "/proc/self/task"
_FILES: Final = "/proc/self/fd"


class Forked(psutil.Process):  # type: ignore[misc]
    """A child that was forked, as what circus has of one that was exec'ed: psutil.Popen."""

    stdout = None
    stderr = None
    returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # Reaped by somebody else, as for subprocess.
                pid, status = self.pid, 0
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        if self.returncode is None:
            self.returncode = super().wait(timeout)
        return self.returncode


def can_fork() -> bool:
    """Whether this process can be forked and go on: with threads it could not."""
    if sys.platform != "linux":
        return False
    try:
        return len(os.listdir(_THREADS)) == 1
    except OSError:
        return False


def fork(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    stdin: int,
    *,
    otherwise: Sequence[str],
) -> Forked:
    """Fork a process that does what ``argv`` (Python, -c, code, …) does, and is shown as that.

    As one that subprocess starts in a session of its own, it has no file of this one but
    ``stdin``. ``otherwise`` is what it executes where it cannot be shown as ``argv``.

    Raises:
        OSError: there can be no process more.
        psutil.NoSuchProcess: it is gone already.
    """
    pid = os.fork()
    if pid == 0:
        _be(argv, env, cwd, stdin, otherwise)
    return Forked(pid)


def _be(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, stdin: int, otherwise: Sequence[str]
) -> NoReturn:
    # Nothing of what the process was in the middle of is gone on with.
    code = 1
    try:
        os.setsid()
        os.chdir(cwd)
        _keep_only(stdin)
        os.environ.clear()
        os.environ.update(env)
        if not show_as(argv, env):
            os.execv(otherwise[0], list(otherwise))
        _python, option, text, *rest = argv
        sys.argv = [option, *rest]
        exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        _end(code)


def _keep_only(stdin: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(stdin, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for name in os.listdir(_FILES):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                # What the list itself was read by.
                continue


def _end(code: int) -> NoReturn:
    try:
        # As Python at its end, and multiprocessing: what threads are in the middle of is done.
        threading._shutdown()  # type: ignore[attr-defined]
        logging.shutdown()
    finally:
        os._exit(code)
