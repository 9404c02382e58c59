"""What people type to run codexd, which may not be on PATH: hints name the command so."""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import Final

_NAME: Final = "codexd"
_HINT: Final = re.compile(r"`codexd(?=[ `])")


def as_called(text: str, name: str | None = None) -> str:
    """``text`` with the commands in it as they are to be typed here: for people, at a terminal."""
    return _HINT.sub(lambda _: f"`{name or called()}", text)


@functools.cache
def called() -> str:
    """What stands for `codexd` in a command: that, wherever the shell finds this one by it."""
    # Loaded where a hint is given, and not before.
    import shutil

    return name_of(sys.argv[0], shutil.which(_NAME))


def name_of(program: str, on_path: str | None) -> str:
    """How ``program`` is typed; ``on_path`` is the codexd that a shell would run."""
    if os.path.basename(program) != _NAME or not os.path.isfile(program):
        # `python -m codexd`, and whoever calls it from Python.
        return _NAME
    if on_path is not None and os.path.samefile(program, on_path):
        return _NAME
    path = os.path.abspath(program)
    # In a checkout, .venv/bin/codexd is what this runs.
    script = os.path.join(os.path.dirname(path), "..", "..", "ops", _NAME)
    return _typed(os.path.normpath(script) if os.path.isfile(script) else path)


def _typed(path: str) -> str:
    """As short as it can be typed in this directory."""
    import shlex

    below_here = os.path.relpath(path)
    if not below_here.startswith(os.pardir):
        # Without a slash a shell would look for it on PATH.
        return shlex.quote(below_here if "/" in below_here else f"./{below_here}")
    home = os.path.expanduser("~").rstrip("/")
    if home and path.startswith(f"{home}/"):
        return "~/" + shlex.quote(path[len(home) + 1 :])
    return shlex.quote(path)
