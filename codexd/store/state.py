"""The state of the daemon: changed in memory, written aside by :class:`Flusher`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from codexd.clock import now_iso
from codexd.config import Config, Paths
from codexd.contracts import (
    DaemonState,
    Event,
    Identity,
    RecentEvents,
    SessionRecord,
    SessionRegistry,
)
from codexd.platform.files import remove_leftovers
from codexd.store.blank import blank_daemon, blank_recent
from codexd.store.files import pretty
from codexd.store.flusher import Flusher, StateFile
from codexd.store.identity import read_identity
from codexd.store.load import load_tolerant
from codexd.store.sessions import Sessions

__all__ = ["Flusher", "StateStore"]


class StateStore:
    """What the state files hold. One process has one, under the writer lock.

    Changes come from one thread and cost the same however much there is; a :class:`Flusher`
    writes them. ``repairs`` tells in a sentence each what had to be set right in the files.
    """

    def __init__(
        self,
        paths: Paths,
        identity: Identity,
        daemon: DaemonState,
        sessions: Sessions,
        recent: Callable[[], RecentEvents],
        clock: Callable[[], str],
    ) -> None:
        self.identity = identity
        self.daemon = daemon
        self.repairs: list[str] = []
        self._clock = clock
        self._sessions = sessions
        self._lock = threading.Lock()
        self._identity_file = StateFile(paths.identity_path, lambda: pretty(identity))
        self._daemon_file = StateFile(paths.daemon_state_path, self._encode_daemon)
        self._registry_file = StateFile(paths.session_registry_path, self._encode_registry)
        self._recent_file = StateFile(paths.recent_events_path, lambda: pretty(recent()))
        self.files = (
            self._identity_file,
            self._daemon_file,
            self._registry_file,
            self._recent_file,
        )

    @classmethod
    def open(
        cls,
        config: Config,
        *,
        recent: Callable[[], RecentEvents],
        clock: Callable[[], str] = now_iso,
    ) -> StateStore:
        """Read the state files, whatever they hold. ``recent`` gives recent-events.json.

        Writes nothing: a :class:`Flusher` does, as soon as the disk takes it.
        """
        paths, policy = config.paths, config.policy
        for path in (
            paths.identity_path,
            paths.daemon_state_path,
            paths.session_registry_path,
            paths.recent_events_path,
        ):
            remove_leftovers(path)
        identity, is_written, repairs = read_identity(config)
        daemon, daemon_repair = load_tolerant(paths.daemon_state_path, blank_daemon(config.server))
        registry, registry_repair = load_tolerant(paths.session_registry_path, SessionRegistry())
        nothing = blank_recent(config.event_cache_size)
        cached, recent_repair = load_tolerant(paths.recent_events_path, nothing)
        sessions = Sessions(
            registry, keep_count=policy.session_keep, keep_ms=policy.session_keep_ms
        )
        store = cls(paths, identity, daemon, sessions, recent, clock)
        store.repairs = repairs
        store.repairs += [text for text in (daemon_repair, registry_repair, recent_repair) if text]
        if not is_written:
            store._identity_file.mark()
        store._write_what_differs(cached, recent())
        return store

    def _write_what_differs(self, cached: RecentEvents, recent: RecentEvents) -> None:
        pruned = self._sessions.prune(self._clock())
        for file in self.files:
            if self.repairs or pruned:
                file.mark()
        self.look()
        if (cached.max_entries, cached.events) != (recent.max_entries, recent.events):
            self._recent_file.mark()

    def look(self) -> None:
        """Have every file written again that is not there any more; call it every second."""
        for file in self.files:
            file.look()

    @property
    def sessions(self) -> dict[str, SessionRecord]:
        """Every session by its id; to be read only."""
        return self._sessions.by_id

    @property
    def registry_at(self) -> str | None:
        """When the registry was last changed."""
        return self._sessions.updated_at

    def update_daemon(self, **changes: Any) -> None:
        """Change fields of the daemon's record."""
        self._change(self.daemon, changes)

    def update_child(self, **changes: Any) -> None:
        """Change fields of the child's record."""
        self._change(self.daemon.child, changes)

    def put_session(self, record: SessionRecord) -> None:
        """Add a session, or change the one with this id."""
        with self._lock:
            self._sessions.put(record, self._clock())
        self._registry_file.mark()

    def close_session(self, session_id: str) -> None:
        """Close a session, if it is there."""
        with self._lock:
            self._sessions.close(session_id, self._clock())
        self._registry_file.mark()

    def event_recorded(self, event: Event) -> None:
        """An event was recorded: recent-events.json is to be written."""
        del event
        self._recent_file.mark()

    def _change(self, record: DaemonState | Any, changes: dict[str, Any]) -> None:
        with self._lock:
            for name, value in changes.items():
                setattr(record, name, value)
            self.daemon.updated_at = self._clock()
        # Whoever started the daemon, or wants to use the server, looks for that.
        self._daemon_file.mark(urgent=bool(changes.get("ready")))

    def _encode_daemon(self) -> bytes:
        with self._lock:
            return pretty(self.daemon)

    def _encode_registry(self) -> bytes:
        with self._lock:
            return self._sessions.encode()
