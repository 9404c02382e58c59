"""Asks the server what is no thread's own business, by one client for all requests over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from codexd.api.local_client import SERVER_FAILED, LocalClient, Refused, problem_of
from codexd.api.websocket import HubAdapter
from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub.young_threads import NO_TURN_YET

# A client that is not needed is none of those that are there.
_IDLE_S: Final = 30.0

_Answer = TypeVar("_Answer")


class Asker:
    """``adapter`` is the hub. The client comes with the first request, and goes some time later."""

    def __init__(self, adapter: HubAdapter, *, idle_s: float = _IDLE_S) -> None:
        self._adapter = adapter
        self._idle_s = idle_s
        self._client: LocalClient | None = None
        self._introduced: asyncio.Task[None] | None = None
        self._asking = 0
        self._leaving: asyncio.TimerHandle | None = None

    async def ask(self, method: str, params: Any, type_: type[_Answer]) -> _Answer:
        """The result of a request.

        Raises:
            Problem: it was refused.
        """
        try:
            return await self._ask(method, params, type_)
        except Refused as refused:
            raise problem_of(refused) from refused

    async def read_thread(self, thread_id: str, type_: type[_Answer]) -> _Answer:
        """A thread with its turns, also one that has none yet.

        Raises:
            Problem: as :meth:`ask`.
        """
        params = {"threadId": thread_id, "includeTurns": True}
        try:
            return await self._ask("thread/read", params, type_)
        except Refused as refused:
            if NO_TURN_YET not in str(refused):
                raise problem_of(refused) from refused
        return await self.ask("thread/read", {"threadId": thread_id}, type_)

    async def _ask(self, method: str, params: Any, type_: type[_Answer]) -> _Answer:
        self._asking += 1
        try:
            client = await self._ready()
            result = await client.ask(method, params)
            return decode_json(result, type_)
        except UNDECODABLE as error:
            text = f"its answer to {method} is not understood ({error})."
            raise Refused(SERVER_FAILED, text) from error
        finally:
            self._asking -= 1
            self._leave_later()

    async def _ready(self) -> LocalClient:
        if self._client is None or not self._client.is_open:
            self._client = LocalClient(self._adapter)
            self._introduced = asyncio.ensure_future(self._client.introduce())
        client, introduced = self._client, self._introduced
        assert introduced is not None
        try:
            # Whoever leaves meanwhile does not take it from the others.
            await asyncio.shield(introduced)
        except Refused:
            client.leave()
            raise
        return client

    def _leave_later(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        loop = asyncio.get_running_loop()
        self._leaving = loop.call_later(self._idle_s, self._leave)

    def _leave(self) -> None:
        if not self._asking and self._client is not None:
            self._client.leave()
            self._client = None
