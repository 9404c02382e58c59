"""What clients opened their threads with, and have set, for the next plugin.

It lies in the runtime directory, mode 0600, for as long as the daemon runs: a thread's `config` may
hold what is nobody else's business.
"""

from __future__ import annotations

import contextlib
import os

from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.hub.kept import Kept
from codexd.platform.files import read_whole, write_aside

FILE = "threads.json"
_NOTHING = encode_json(Kept())


class KeptThreads:
    """threads.json, written when it changes."""

    def __init__(self, runtime_dir: str) -> None:
        self._path = os.path.join(runtime_dir, FILE)
        self._written = _NOTHING

    def load(self) -> Kept:
        """What an earlier plugin of this daemon has left; nothing where that is not to be read."""
        with contextlib.suppress(OSError, *UNDECODABLE):
            data = read_whole(self._path)
            found = decode_json(data, Kept)
            self._written = data
            return found
        return Kept()

    def save(self, kept: Kept) -> None:
        """Write it down if it is not what is there already; a full disk is tried again."""
        data = encode_json(kept)
        if data != self._written:
            with contextlib.suppress(OSError):
                write_aside(self._path, data, flush=False)
                self._written = data
