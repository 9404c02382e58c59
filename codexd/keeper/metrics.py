"""What is to be told at `/metrics`, gathered from those who count it.

Nothing is done for it while nobody asks, but to count.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from codexd.config import Server
from codexd.hub.counts import HubCounts
from codexd.keeper.exposition import load, render
from codexd.keeper.health import Health
from codexd.keeper.metric_table import METRICS, Scrape
from codexd.keeper.outputs import Outputs
from codexd.keeper.restarts import Restarts
from codexd.keeper.server_process import Reading, read_server
from codexd.keeper.spare import SpareTalk
from codexd.records.records import Records


class Driver(Protocol):
    """What is asked of the clients' side."""

    @property
    def is_usable(self) -> bool: ...

    @property
    def counts(self) -> HubCounts: ...

    def snapshot(self) -> dict[str, Any]: ...


class Metrics:
    """``family_path`` is where family.json is; see :mod:`codexd.child.family`."""

    def __init__(
        self,
        server: Server,
        records: Records,
        family_path: str,
        *,
        driver: Driver,
        health: Health,
        outputs: Outputs,
        restarts: Restarts,
        clients_cut: Callable[[], int],
        spare: SpareTalk | None = None,
    ) -> None:
        self._spare = spare
        self._server = server
        self._records = records
        self._family_path = family_path
        self._driver = driver
        self._health = health
        self._outputs = outputs
        self._restarts = restarts
        self._clients_cut = clients_cut
        self._is_loaded = False

    async def page(self) -> bytes:
        """All of them, in the text format 0.0.4."""
        if not self._is_loaded:
            # That takes longer than to make a page, and nobody's message is to wait for it.
            await asyncio.to_thread(load)
            self._is_loaded = True
        return render(METRICS, self._scrape())

    def _scrape(self) -> Scrape:
        records, driver, spare = self._records, self._driver, self._spare
        sessions = records.state.sessions.values()
        return Scrape(
            identity=records.state.identity,
            server=self._server,
            child=records.recorder.child,
            is_ready=driver.is_usable,
            process=self._look_at_server(),
            restarts=self._restarts,
            checks=self._health.checks,
            hub=driver.snapshot(),
            counts=driver.counts,
            clients_cut=self._clients_cut(),
            sessions=Counter((entry.purpose, entry.status) for entry in sessions),
            events=records.events.counts,
            events_dropped=records.events.dropped_total,
            output=self._outputs.moved,
            spare_ready=spare is not None and spare.vouched is not None,
            spare_promotions=0 if spare is None else spare.promotions,
        )

    def _look_at_server(self) -> Reading | None:
        if self._server.child_strategy == "external":
            return None
        pid = self._records.recorder.child.pid
        return Reading() if pid is None else read_server(pid, self._family_path)
