"""The state files as they are, for those who only look: nothing is written or set right."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from codexd.config import Config, Paths, Server
from codexd.contracts import DaemonState, Identity, RecentEvents, Record, SessionRegistry
from codexd.encoding import decode_json
from codexd.platform.files import read_whole
from codexd.store.blank import blank_daemon, blank_recent
from codexd.store.load import decode, peek

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
    identity = peek(paths.identity_path, _nobody(config.node_id, paths))
    recent = _peek_or(paths.recent_events_path, blank_recent(config.event_cache_size))
    recent.newest = msgspec.UNSET
    return Snapshot(
        identity=identity if identity is not None and identity.daemon_id else None,
        daemon=_peek_or(paths.daemon_state_path, blank_daemon(config.server)),
        sessions=read_sessions(paths),
        recent=recent,
    )


def _nobody(node_id: str, paths: Paths) -> Identity:
    return Identity(daemon_id="", node_id=node_id, repo_root=paths.repo_root, created_at="")


def find_damage(paths: Paths, server: Server) -> list[str]:
    """What is wrong with the state files that are there: a clause for each, which names it."""
    blanks: dict[str, Record] = {
        paths.identity_path: _nobody("", paths),
        paths.daemon_state_path: blank_daemon(server),
        paths.session_registry_path: SessionRegistry(),
        paths.recent_events_path: blank_recent(0),
    }
    found = []
    for path, blank in blanks.items():
        try:
            faults = decode(read_whole(path), blank)[1]
        except FileNotFoundError:
            continue
        except OSError as error:
            faults = [f"cannot be read ({error.strerror})"]
        if faults:
            found.append(f"{path} {faults[0]}")
    return found


def read_sessions(paths: Paths) -> SessionRegistry:
    """session-registry.json alone; an empty one where it is missing or damaged."""
    return _peek_or(paths.session_registry_path, SessionRegistry())


def _peek_or(path: str, blank: R) -> R:
    found = peek(path, blank)
    return blank if found is None else found


def read_daemon(paths: Paths) -> DaemonState | None:
    """daemon-state.json alone; None where it is missing or damaged."""
    try:
        return decode_json(read_whole(paths.daemon_state_path), DaemonState)
    except (OSError, ValueError, RecursionError):
        return None
