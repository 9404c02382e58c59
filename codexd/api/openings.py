"""Threads that were started over HTTP and have had no turn: each has its client for that long.

codex 0.163 lets no other connection listen to such a thread ("list_turns is not supported yet",
measured), so whoever started it is the one to run its first turn.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

import msgspec

from codexd.api.local_client import SERVER_FAILED, LocalClient, Refused
from codexd.api.websocket import HubAdapter
from codexd.encoding import UNDECODABLE

# As long as the server keeps a thread that nobody listens to.
_KEPT_S: Final = 1800.0
_KEPT: Final = 1000


class _Id(msgspec.Struct):
    id: str


class _Started(msgspec.Struct):
    thread: _Id


class Openings:
    """``adapter`` is the hub."""

    def __init__(self, adapter: HubAdapter) -> None:
        self._adapter = adapter
        self._open: OrderedDict[str, tuple[LocalClient, asyncio.TimerHandle]] = OrderedDict()

    async def start(self, params: dict[str, Any]) -> str:
        """Start a thread; returns its id. ``params`` are those of `thread/start`.

        Raises:
            Refused: the server did not.
        """
        client = LocalClient(self._adapter)
        try:
            await client.introduce()
            result = await client.ask("thread/start", params)
            thread_id = msgspec.json.decode(result, type=_Started).thread.id
        except UNDECODABLE as error:
            client.leave()
            text = f"its answer to thread/start is not understood ({error})."
            raise Refused(SERVER_FAILED, text) from error
        except BaseException:
            client.leave()
            raise
        self._keep(thread_id, client)
        return thread_id

    def _keep(self, thread_id: str, client: LocalClient) -> None:
        timer = asyncio.get_running_loop().call_later(_KEPT_S, self._drop, thread_id)
        self._open[thread_id] = (client, timer)
        if len(self._open) > _KEPT:
            self._drop(next(iter(self._open)))

    def _drop(self, thread_id: str) -> None:
        client = self.take(thread_id)
        if client is not None:
            client.leave()

    def take(self, thread_id: str) -> LocalClient | None:
        """The client that listens to the thread, if there is one; it is the caller's now."""
        client, timer = self._open.pop(thread_id, (None, None))
        if timer is not None:
            timer.cancel()
        return client if client is not None and client.is_open else None
