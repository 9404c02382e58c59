"""The settings of a daemon that runs, as its circus.ini has them."""

from __future__ import annotations

from codexd.config import Config
from codexd.platform.files import read_whole
from codexd.settings_ini import parse_ini


def read_ini(path: str) -> Config | None:
    """The settings in the ini at ``path``; None where it has none that can be used, or is no file.

    Without circus's parser, which takes a while to load.
    """
    try:
        return parse_ini(read_whole(path))
    except OSError:
        return None
