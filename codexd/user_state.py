"""Where programs keep what they remember for a user."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def user_state_directory(environ: Mapping[str, str]) -> str:
    """codexd's own directory there."""
    home = environ.get("HOME") or os.path.expanduser("~")
    if sys.platform == "darwin":
        return os.path.join(home, "Library/Application Support/codexd")
    state = environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    base = state if os.path.isabs(state) else os.path.join(home, ".local/state")
    return os.path.join(base, "codexd")
