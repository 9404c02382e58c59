"""Calls to circusd that never wait for ever.

CircusPlugin.call blocks its whole process until circusd answers, and for good when it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any

import msgspec
import zmq
from circus.client import make_message
from zmq.asyncio import Context

from codexd.keeper.circusd import CircusError


class CircusClient:
    """One DEALER socket on circusd's endpoint; calls run one after the other."""

    def __init__(self, endpoint: str) -> None:
        self._context = Context()
        self._endpoint = endpoint
        self._socket = self._connect()
        self._turn = asyncio.Lock()

    def _connect(self) -> Any:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(self._endpoint)
        return socket

    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        """Send ``command`` and return the answer.

        Raises:
            CircusError: no answer within ``timeout_s`` seconds, or a refusal.
        """
        message = {**make_message(command, **properties), "id": uuid.uuid4().hex}
        async with self._turn:
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await self._exchange(message)
            except TimeoutError:
                # A late answer must not be taken for that of the next call.
                self._socket.close()
                self._socket = self._connect()
                raise CircusError(f"circusd did not answer {command} in {timeout_s:g} s") from None
        if answer.get("status") == "error":
            raise CircusError(f"circusd refused {command}: {answer.get('reason')}")
        return answer

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        await self._socket.send(msgspec.json.encode(message))
        while True:
            answer = msgspec.json.decode(await self._socket.recv())
            if isinstance(answer, dict) and answer.get("id") == message["id"]:
                return answer

    def close(self) -> None:
        """Close the socket; an answer that is under way is dropped."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close()
        self._context.term()
