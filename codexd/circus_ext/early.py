"""The plugin's process, started before circus is there to start it, so that both load at once.

It stands for the process that circus would start: the same command, environment and directory. It
loads what it needs, does nothing, and waits for a word on its stdin; circus's watcher of the plugin
takes it when it is to start one. If nobody takes it, or this process dies, it ends.

Where this process can be forked, what both need is loaded before, once: half of what either takes
to load, and of its memory, they share. Else nothing here imports circus: that is what the plugin's
process is not to wait for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import psutil

from codexd.platform import signals
from codexd.platform.forked import Forked, can_fork, fork
from codexd.platform.notify import VARIABLES
from codexd.settings_ini import WORKING_DIR

# Tells the plugin's process that it was started early.
VARIABLE: Final = "CODEXD_WAIT_FOR_CIRCUS"
_GO: Final = b"\n"
# Goes before the code of the command.
_PREPARE: Final = "from codexd.circus_ext import early;early.prepare();"


class Early:
    """A process that waits to be the plugin, whose command is ``argv``: Python, -c, code, …."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._as_what = (list(argv), dict(env), WORKING_DIR)
        start = _fork if can_fork() else _execute
        stdin, self._word = os.pipe()
        try:
            self._process = start(argv, {**env, VARIABLE: "1"}, stdin)
        except BaseException:
            os.close(self._word)
            raise
        finally:
            os.close(stdin)

    def take(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str
    ) -> psutil.Popen | Forked | None:
        """The process, which begins now; None where it is another than is wanted, or is dead."""
        if self._as_what == (list(argv), dict(env), cwd):
            with contextlib.suppress(OSError):
                os.write(self._word, _GO)
                os.close(self._word)
                return self._process
        self.give_up()
        return None

    def give_up(self) -> None:
        """End it: it has done nothing."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()
        with contextlib.suppress(OSError):
            os.close(self._word)
        self._process.wait()


def _fork(argv: Sequence[str], env: Mapping[str, str], stdin: int) -> Forked:
    # Both need all that this loads.
    import codexd.circus_ext.plugin  # noqa: F401

    # Nothing of it is garbage: neither process is to look through it, and write to its pages.
    gc.freeze()
    return fork(argv, env, WORKING_DIR, stdin, otherwise=_early_argv(argv))


def _execute(argv: Sequence[str], env: Mapping[str, str], stdin: int) -> psutil.Popen:
    return psutil.Popen(
        _early_argv(argv),
        env=env,
        cwd=WORKING_DIR,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _early_argv(argv: Sequence[str]) -> list[str]:
    python, option, code, *rest = argv
    return [python, option, _PREPARE + code, *rest]


_early: Early | None = None


def begin(argv: Sequence[str]) -> None:
    """Start the plugin's process by ``argv``. Where that cannot be, circus will say why."""
    global _early
    with contextlib.suppress(OSError, psutil.NoSuchProcess):
        _early = Early(argv, plugin_environment(os.environ))


def take(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> psutil.Popen | Forked | None:
    """The process that was begun, for the first who wants one just like it."""
    global _early
    early, _early = _early, None
    return None if early is None else early.take(argv, env, cwd)


def give_up() -> None:
    """End the process that was begun, unless somebody took it."""
    global _early
    early, _early = _early, None
    if early is not None:
        early.give_up()


def plugin_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The plugin's environment as circus 0.19 will make it (Watcher.__init__), in this process."""
    kept = {name: value for name, value in environ.items() if name not in VARIABLES}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path)}


# -- in the plugin's process ----------------------------------------------------------------------


def prepare() -> None:
    """Before circus is loaded here: nothing that is loaded is garbage. The plugin looks again."""
    gc.disable()


def is_early() -> bool:
    """Whether this process was started early, and is to wait."""
    return VARIABLE in os.environ


def wait() -> bool:
    """Wait for the word to begin; False where it does not come."""
    del os.environ[VARIABLE]
    # What its starter had blocked or ignored, circusd hears by the time it starts a plugin itself.
    signals.settle()
    told = os.read(0, len(_GO))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return told == _GO
