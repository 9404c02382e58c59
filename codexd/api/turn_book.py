"""The turns that were asked for over HTTP: those that run, and the last that ended."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any, Final

from codexd.api.local_client import LocalClient
from codexd.api.openings import Openings
from codexd.api.turn_run import TurnRun
from codexd.api.websocket import HubAdapter
from codexd.shapes import FinishedTurn

logger = logging.getLogger("codexd")

# Of turns that ended, so many are remembered; the server remembers them all.
_KEPT: Final = 200
# Each is a client of the hub, which has its own limits for what they ask.
RUNNING_LIMIT: Final = 1000


class TurnBook:
    """``adapter`` is the hub; ``openings`` has those who listen to threads already."""

    def __init__(self, adapter: HubAdapter, openings: Openings) -> None:
        self._adapter = adapter
        self._openings = openings
        self._running: set[TurnRun] = set()
        self._ended: OrderedDict[tuple[str, str], FinishedTurn] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_full(self) -> bool:
        """Whether no further turn can be run over HTTP."""
        return len(self._running) >= RUNNING_LIMIT

    def make(self, thread_id: str) -> TurnRun:
        """A turn that is to be started."""
        opener = self._openings.take(thread_id)
        client = opener or LocalClient(self._adapter)
        run = TurnRun(thread_id, client, listens=opener is not None)
        self._running.add(run)
        return run

    async def start(self, run: TurnRun, params: dict[str, Any]) -> FinishedTurn:
        """Start it, and see it to its end, whoever leaves meanwhile.

        Raises:
            codexd.api.local_client.Refused: it did not begin.
        """
        starting = asyncio.ensure_future(run.start(params))
        task = asyncio.ensure_future(self._see_to_its_end(run, starting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(starting)

    async def _see_to_its_end(self, run: TurnRun, starting: asyncio.Future[FinishedTurn]) -> None:
        try:
            await asyncio.wait([starting])
            if starting.cancelled() or starting.exception() is not None:
                return
            await run.ended()
            if run.turn is not None:
                self._ended[run.thread_id, run.turn.turn_id] = run.turn
                while len(self._ended) > _KEPT:
                    self._ended.popitem(last=False)
        except Exception:
            logger.exception("a turn over HTTP could not be seen to its end")
        finally:
            client = run.take_client()
            if client is not None:
                self._openings.give_back(run.thread_id, client)
            else:
                run.leave()
            self._running.discard(run)

    def find(self, thread_id: str, turn_id: str) -> FinishedTurn | None:
        """What is known of a turn that was asked for here."""
        for run in self._running:
            if run.thread_id == thread_id and run.turn and run.turn.turn_id == turn_id:
                return run.turn
        return self._ended.get((thread_id, turn_id))
