"""A daemon comes and goes: it takes its CODEX_HOME, and is on the list while it lives."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from codexd.config import Config
from codexd.daemons import homes, listing

# The entries of this process, by state directory.
_entries: dict[str, listing.ListedDaemon] = {}


def enter(config: Config, environ: Mapping[str, str]) -> None:
    """Take the CODEX_HOME for this daemon, where it serves one, and list the daemon.

    A list that cannot be written keeps nobody from starting.

    Raises:
        codexd.daemons.homes.HomeServed: another daemon serves it.
    """
    home = homes.served_home(config.server, environ)
    if home is not None:
        homes.take(home, config.paths.state_dir, environ)
    entry = listing.make_entry(config, home)
    if entry is not None:
        _entries[config.paths.state_dir] = entry
        with contextlib.suppress(OSError):
            listing.enter(entry, environ)


def keep(state_dir: str, environ: Mapping[str, str]) -> None:
    """See that this daemon is still listed, and its CODEX_HOME still held; call it every second.

    Somebody may have cleared the list; two machines with one home directory clear each other's.
    """
    entry = _entries.get(state_dir)
    if entry is None:
        return
    if entry.codex_home is not None:
        homes.keep(entry.codex_home, entry.state_dir)
    if not listing.is_listed(entry, environ):
        with contextlib.suppress(OSError):
            listing.enter(entry, environ)


def leave(state_dir: str, environ: Mapping[str, str]) -> None:
    """Give the CODEX_HOME back and take this daemon off the list."""
    homes.release(state_dir)
    entry = _entries.pop(state_dir, None)
    if entry is not None:
        listing.leave(entry, environ)
