"""Where codex keeps its configuration, its login and its threads."""

from __future__ import annotations

import os
from collections.abc import Mapping


def codex_home(environ: Mapping[str, str], *, cwd: str) -> str:
    """CODEX_HOME as a codex that runs in ``cwd`` sees it; a blank one counts as unset."""
    given = environ.get("CODEX_HOME", "").strip()
    home = environ.get("HOME") or os.path.expanduser("~")
    return os.path.join(cwd, given) if given else os.path.join(cwd, home, ".codex")
