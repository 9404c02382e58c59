"""The features that --enable and --disable name: codex itself knows which there are."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from codexd.config import Config
from codexd.platform.program import NoAnswer, ask

_PATIENCE_S: Final = 5.0
_LIST: Final = ("features", "list")
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
        enabled = [word for name in names for word in ("--enable", name)]
        command = [program.path, *enabled, *_LIST]
        code, said = ask(command, program.environ, _PATIENCE_S, hears_errors=True)
    except (CommandNotFound, OSError, ValueError, NoAnswer):
        return None
    found = _UNKNOWN.search(said.decode("utf-8", "replace")) if code else None
    return found[1] if found else None
