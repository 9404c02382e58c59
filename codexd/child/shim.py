"""Whether a program that passes for codex leads back to codexd.

A shim named `codex` in front of PATH is how tools that know only `codex` get to the daemon. The
daemon itself must not start it, or it would wait for itself; nor may `codexd-codex`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from codexd.platform.limits import OUT_OF_FILES

# A shim is a few lines long; what is larger is the real one.
_MAX_BYTES = 64 << 10

# `exec codexd app-server "$@"`, `"$root/.venv/bin/codexd" "$@"`, `from codexd.cli import …`.
_CALLS_US = re.compile(
    rb"""(?mx)
    ^ [^#\n]* (?:
        \b codexd (?:-codex)? ["']? [ \t]+ (?: ["']? \$ [@*{1-9] | (?:app-server|attach)\b )
      | \b from [ \t]+ codexd\b
      | -m [ \t]+ codexd\b
    )
    """
)


def leads_back(path: str) -> bool:
    """Whether ``path`` is codexd or a script that runs it.

    Raises:
        OSError: nothing can be opened at the moment, so nobody can tell.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_MAX_BYTES + 1)
    except OSError as error:
        if error.errno in OUT_OF_FILES:
            raise
        return False
    return head[:2] == b"#!" and len(head) <= _MAX_BYTES and bool(_CALLS_US.search(head))


def candidates(command: str, search_path: str) -> Iterator[str]:
    """Every program of that name on a search path, in its order."""
    for directory in search_path.split(os.pathsep):
        path = os.path.join(directory or os.curdir, command)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield path
