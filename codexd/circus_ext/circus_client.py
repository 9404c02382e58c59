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
    """A DEALER socket on circusd's endpoint; calls run one after the other, orders beside them."""

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
        async with self._turn:
            try:
                return await _ask(self._socket, command, timeout_s, properties)
            except TimeoutError:
                # A late answer must not be taken for that of the next call.
                self._socket.close()
                self._socket = self._connect()
                raise _silent(command, timeout_s) from None

    async def order(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        """As :meth:`call`, on a socket of its own: it may take long, and other calls go on.

        Raises:
            CircusError: as there.
        """
        socket = self._connect()
        try:
            return await _ask(socket, command, timeout_s, properties)
        except TimeoutError:
            raise _silent(command, timeout_s) from None
        finally:
            socket.close()

    def close(self) -> None:
        """Close the socket; an answer that is under way is dropped."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close()
        self._context.term()


async def _ask(
    socket: Any, command: str, timeout_s: float, properties: dict[str, Any]
) -> dict[str, Any]:
    message = {**make_message(command, **properties), "id": uuid.uuid4().hex}
    async with asyncio.timeout(timeout_s):
        await socket.send(msgspec.json.encode(message))
        while True:
            answer = msgspec.json.decode(await socket.recv())
            if isinstance(answer, dict) and answer.get("id") == message["id"]:
                break
    if answer.get("status") == "error":
        raise CircusError(f"circusd refused {command}: {answer.get('reason')}")
    return answer


def _silent(command: str, timeout_s: float) -> CircusError:
    return CircusError(f"circusd did not answer {command} in {timeout_s:g} s")
