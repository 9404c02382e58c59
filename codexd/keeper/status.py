"""What `GET /v1/status` tells."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from codexd import __version__
from codexd.child import steps
from codexd.child.command import binary_changed
from codexd.clock import from_epoch
from codexd.config import Config
from codexd.contracts import RecentEvents, SessionRegistry
from codexd.keeper.account import Account
from codexd.keeper.connector import Connector
from codexd.keeper.health import Health
from codexd.keeper.hub_driver import HubDriver
from codexd.keeper.spare import SpareTalk
from codexd.records.records import Records


class Status:
    """Puts together what is known.

    ``unserved`` gives the sockets that cannot be served, ``tcp`` where the TCP listener is.
    """

    def __init__(
        self,
        config: Config,
        records: Records,
        driver: HubDriver,
        connector: Connector,
        health: Health,
        account: Account,
        unserved: Callable[[], list[dict[str, str]]],
        tcp: Callable[[], dict[str, Any] | None] = lambda: None,
        spare: SpareTalk | None = None,
    ) -> None:
        self._spare = spare
        self._config = config
        self._records = records
        self._driver = driver
        self._connector = connector
        self._health = health
        self._account = account
        self._unserved = unserved
        self._executable = steps.ExecutableOnRecord(records.steps_path)
        self._tcp = tcp

    def document(self) -> dict[str, Any]:
        """What `codexd status --json` prints, and what the hub tells: as `hub`, and at the top."""
        hub = self._hub()
        state = self._records.state
        sessions = list(state.sessions.values())
        return {
            **hub,
            "config": self._config,
            "identity": state.identity,
            "daemon": state.daemon,
            "sessionRegistry": SessionRegistry(updated_at=state.registry_at, sessions=sessions),
            "recentEvents": self._recent(),
            "live": self._live(hub),
            "hub": hub,
        }

    def _hub(self) -> dict[str, Any]:
        return {
            "codexdVersion": __version__,
            "ready": self._driver.is_usable,
            "childPid": self._records.recorder.child.pid,
            "unservedSockets": self._unserved(),
            "tcp": self._tcp(),
            **self._driver.snapshot(),
            "health": {"lastAnswerAt": self._last_answer_at(), "misses": self._health.misses},
            "account": self._account.status() if self._connector.is_ready else None,
            **({} if self._spare is None else {"spare": self._spare.status()}),
        }

    def _recent(self) -> RecentEvents:
        events = self._records.events.recent()
        updated_at = events[-1].created_at if events else None
        size = self._config.event_cache_size
        return RecentEvents(max_entries=size, updated_at=updated_at, events=events)

    def _last_answer_at(self) -> str | None:
        heard = self._connector.last_heard
        ago = time.monotonic() - heard
        return from_epoch(time.time() - ago) if heard else None

    def _live(self, hub: dict[str, Any]) -> dict[str, Any]:
        """As :mod:`codexd.client.live` finds it, for a daemon that lives."""
        pid = self._records.recorder.child.pid
        return {
            "daemonAlive": True,
            "daemonPid": os.getppid(),
            "childAlive": pid is not None,
            "childPid": pid,
            "leftPids": [],
            "binaryChanged": pid is not None and binary_changed(self._executable.now()),
            "hub": hub,
            "health": hub["health"],
            "account": hub["account"],
            **({} if self._spare is None else {"spare": hub["spare"]}),
        }
