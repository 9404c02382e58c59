"""The state files as they are, for those who only look: nothing is written or set right."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from codexd.config import Config, Paths
from codexd.contracts import DaemonState, Identity, RecentEvents, Record, SessionRegistry
from codexd.platform.files import read_whole
from codexd.store.blank import blank_daemon, blank_recent
from codexd.store.load import peek

R = TypeVar("R", bound=Record)


class Snapshot(NamedTuple):
    """What the state files say; where one is missing or damaged, what a new one would."""

    identity: Identity | None
    daemon: DaemonState
    sessions: SessionRegistry
    recent: RecentEvents


def read_snapshot(config: Config) -> Snapshot:
    """Read all four."""
    paths = config.paths
    nobody = Identity(
        daemon_id="", node_id=config.node_id, repo_root=paths.repo_root, created_at=""
    )
    identity = peek(paths.identity_path, nobody)
    recent = _peek_or(paths.recent_events_path, blank_recent(config.event_cache_size))
    recent.newest = msgspec.UNSET
    return Snapshot(
        identity=identity if identity is not None and identity.daemon_id else None,
        daemon=_peek_or(paths.daemon_state_path, blank_daemon(config.server)),
        sessions=read_sessions(paths),
        recent=recent,
    )


def read_sessions(paths: Paths) -> SessionRegistry:
    """session-registry.json alone; an empty one where it is missing or damaged."""
    return _peek_or(paths.session_registry_path, SessionRegistry())


def _peek_or(path: str, blank: R) -> R:
    found = peek(path, blank)
    return blank if found is None else found


def read_daemon(paths: Paths) -> DaemonState | None:
    """daemon-state.json alone; None where it is missing or damaged."""
    try:
        return msgspec.json.decode(read_whole(paths.daemon_state_path), type=DaemonState)
    except (OSError, ValueError, RecursionError):
        return None
