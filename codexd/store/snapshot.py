"""The state files as they are, for those who only look: nothing is written or set right."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from codexd.config import Config, Paths
from codexd.contracts import DaemonState, Identity, RecentEvents, SessionRegistry
from codexd.platform.files import read_whole
from codexd.store.blank import blank_daemon, blank_recent
from codexd.store.load import peek


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
    return Snapshot(
        identity=identity if identity is not None and identity.daemon_id else None,
        daemon=peek(paths.daemon_state_path, blank_daemon(config)) or blank_daemon(config),
        sessions=peek(paths.session_registry_path, SessionRegistry()) or SessionRegistry(),
        recent=peek(paths.recent_events_path, blank_recent(config)) or blank_recent(config),
    )


def read_daemon(paths: Paths) -> DaemonState | None:
    """daemon-state.json alone; None where it is missing or damaged."""
    try:
        return msgspec.json.decode(read_whole(paths.daemon_state_path), type=DaemonState)
    except (OSError, ValueError, RecursionError):
        return None
