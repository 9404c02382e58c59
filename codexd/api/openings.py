"""Threads with a client of the hub that listens, and waits for a turn over HTTP to run.

Whoever started a thread runs its first turn, and who has run a turn the one that follows it: for
neither the thread need be resumed, and meanwhile the server does not unload it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

import msgspec

from codexd.api.local_client import SERVER_FAILED, LocalClient, Refused
from codexd.api.websocket import HubAdapter
from codexd.encoding import UNDECODABLE, decode_json

# As long as the server keeps a thread that nobody listens to.
_NEW_S: Final = 1800.0
# After a turn. So long the server may not unload the thread.
_USED_S: Final = 30.0
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
            thread_id = decode_json(result, _Started).thread.id
        except UNDECODABLE as error:
            client.leave()
            text = f"its answer to thread/start is not understood ({error})."
            raise Refused(SERVER_FAILED, text) from error
        except BaseException:
            client.leave()
            raise
        self._keep(thread_id, client, _NEW_S)
        return thread_id

    def give_back(self, thread_id: str, client: LocalClient) -> None:
        """Its turn is over: the next one may come soon."""
        self._drop(thread_id)
        client.told = client.gone = None
        self._keep(thread_id, client, _USED_S)

    def _keep(self, thread_id: str, client: LocalClient, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._drop, thread_id)
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
