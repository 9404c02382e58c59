"""The features that --enable and --disable name: codex itself knows which there are."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import Final

from codexd.config import Config

_PATIENCE_S: Final = 5.0
# codex 0.163 and 0.169 say it so.
_UNKNOWN: Final = re.compile(r"Unknown feature flag: (\S+)")


def unknown_feature(config: Config, names: Sequence[str]) -> str | None:
    """The first of these that the server's codex refuses; None where it takes or does not say.

    Given with a thread, it would be passed over without a word.
    """
    from codexd.child.command import CommandNotFound, find_program

    if not names or not os.path.basename(config.server.child_command).startswith("codex"):
        return None
    try:
        program = find_program(config.server, os.environ)
        done = subprocess.run(
            [program.path, *(word for name in names for word in ("--enable", name)), *_LIST],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=program.environ,
            timeout=_PATIENCE_S,
        )
    except (CommandNotFound, OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = _UNKNOWN.search(done.stderr.decode("utf-8", "replace")) if done.returncode else None
    return found[1] if found else None


_LIST: Final = ("features", "list")
