"""The one connection to the child: made, greeted, and shared by the hub and codexd itself.

codexd's own requests (the handshake, the health check) have ids that begin with
:data:`OWN_ID_PREFIX`; their answers are taken out of the stream before the hub sees it.
"""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic
from typing import Any, Final

import msgspec

from codexd.encoding import UNDECODABLE, json_decoder
from codexd.link.errors import (
    LinkError,
    LinkLost,
    LinkRefused,
    LinkTimeout,
    RequestFailed,
)
from codexd.link.transport import OnLost, OnMessage, Transport

__all__ = ["OWN_ID_PREFIX", "Link", "LinkError", "LinkLost", "LinkTimeout", "RequestFailed"]

OWN_ID_PREFIX: Final = "codexd-"

# The socket of a child that starts is there within some 80 ms; the search for it must not add to
# that. Later, a slow one is not worth the processor time.
_EAGER_S = 1.0
_EAGER_DELAY_S = 0.002
_PATIENT_DELAY_S = 0.025

# What codex 0.163 answers to a second `initialize` on one connection.
_INVALID_REQUEST = -32600
_ALREADY_INITIALIZED = "Already initialized"
# And to anything before the first. A server that does not say so within that time is introduced.
_NOT_INITIALIZED = "Not initialized"
_REFUSAL_S = 1.0
_CHEAPEST = ("thread/loaded/list", {"limit": 1})


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Answer(msgspec.Struct):
    id: Any = None
    method: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None


_decode_answer = json_decoder(_Answer).decode


class Link:
    """One connection to one child, over a transport made for it.

    Nothing reaches ``on_message`` before :meth:`listen`; what comes earlier is kept for it.
    ``on_lost`` is called once, when an open link is broken off by the other side.
    """

    def __init__(self, transport: Transport, *, on_message: OnMessage, on_lost: OnLost) -> None:
        self._transport = transport
        # Sends one JSON message as it is: nothing of the link is in between.
        self.send = transport.send
        self._on_message = on_message
        self._on_lost = on_lost
        self._held: list[bytes] | None = []
        self._is_open = False
        self._is_closed = False
        # Whether the child says that it will do nothing before it is introduced.
        self.awaits_introduction = False
        # When, by time.monotonic(), the child last sent anything, also an answer to codexd's own.
        self.last_heard = 0.0
        self._loop = asyncio.get_running_loop()
        # Another plugin may have asked the same child over the same pipe.
        self._id_stem = f"{OWN_ID_PREFIX}{secrets.token_hex(4)}-"
        self._asked = 0
        self._awaited: dict[str, asyncio.Future[_Answer]] = {}
        transport.bind(self._received, self._lost)

    async def open(self, timeout_s: float, introduction: Any) -> bytes | None:
        """Connect, waiting for the child to be there, and shake hands.

        ``introduction`` are the params of `initialize`; None if the child is only to say that it
        is there, and :meth:`introduce` follows.

        Returns:
            The child's answer to `initialize`, as JSON; None if this connection (a pipe that
            outlived an earlier plugin) had been initialized before, or there was no introduction.

        Raises:
            LinkTimeout: not done within ``timeout_s`` seconds; the text has the last error.
            LinkRefused: the endpoint will not speak WebSocket.
            LinkError: the child went away, or refused the handshake.
        """
        trouble: list[str] = []
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(trouble)
                result = None
                if introduction is None:
                    await self._find_unintroduced()
                else:
                    result = await self._shake_hands(introduction)
        except TimeoutError as error:
            self.close()
            raise LinkTimeout(
                f"The server did not answer the handshake within {timeout_s:g} s."
                if not trouble
                else f"The server is not there after {timeout_s:g} s: {trouble[-1]}"
            ) from error
        except BaseException:
            self.close()
            raise
        self._is_open = True
        return result

    async def _connect(self, trouble: list[str]) -> None:
        begun = self._loop.time()
        while True:
            try:
                await self._transport.connect()
            except LinkRefused:
                raise
            except OSError as error:
                trouble[:] = [error.strerror or str(error)]
            else:
                trouble.clear()
                return
            is_eager = self._loop.time() - begun < _EAGER_S
            await asyncio.sleep(_EAGER_DELAY_S if is_eager else _PATIENT_DELAY_S)

    async def _find_unintroduced(self) -> None:
        """See that the child is there, and refuses to do anything before it is introduced."""
        try:
            async with asyncio.timeout(_REFUSAL_S):
                await self._ask(*_CHEAPEST)
        except RequestFailed as error:
            if error.text == _NOT_INITIALIZED:
                self.awaits_introduction = True
        except TimeoutError:
            # It may wait for the introduction and say nothing before.
            return

    async def introduce(self, params: Any, timeout_s: float) -> bytes | None:
        """Say who is speaking, on a link that was opened without; returns as :meth:`open`.

        Raises:
            LinkTimeout: no answer within ``timeout_s`` seconds.
            RequestFailed: the child does not take the introduction.
            LinkError: the child went away.
        """
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._shake_hands(params)
        except TimeoutError as error:
            raise LinkTimeout(f"No answer to initialize within {timeout_s:g} s.") from error
        self.awaits_introduction = False
        return result

    async def _shake_hands(self, params: Any) -> bytes | None:
        try:
            result = await self._ask("initialize", params)
        except RequestFailed as error:
            if error.code == _INVALID_REQUEST and _ALREADY_INITIALIZED in error.text:
                return None
            raise
        self._transport.send(b'{"method":"initialized"}')
        return result

    def forget_held(self) -> None:
        """Drop what came since the connection was made: nobody is to hear it."""
        if self._held is not None:
            self._held.clear()

    def listen(self) -> None:
        """Deliver what came since the connection was made, and everything from now on."""
        held, self._held = self._held, None
        for data in held or ():
            self._on_message(data)

    async def request(self, method: str, params: Any, timeout_s: float) -> bytes:
        """Ask the child something for codexd itself.

        Returns:
            The result, as JSON.

        Raises:
            LinkTimeout: no answer within ``timeout_s`` seconds.
            RequestFailed: the answer is an error.
            LinkError: it cannot be sent, or the child went away.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(method, params)
        except TimeoutError as error:
            raise LinkTimeout(f"No answer to {method} within {timeout_s:g} s.") from error

    async def probe(self, timeout_s: float) -> None:
        """See that the child answers. Its cheapest request: 0.16 ms on codex 0.163.

        A WebSocket ping would be as cheap, and proves only that the transport lives.

        Raises:
            LinkTimeout: no answer within ``timeout_s`` seconds.
            LinkError: there is no connection.
        """
        try:
            await self.request(*_CHEAPEST, timeout_s)
        except RequestFailed:
            # An error is an answer, too: an overloaded server is not a hung one.
            return

    def unread(self) -> list[bytes]:
        """Messages that the child, which is dead, has certainly not read, in order."""
        return self._transport.unread()

    def close(self) -> None:
        """Let go of the connection; ``on_lost`` is not called. Once closed, it stays closed."""
        self._is_open = False
        self._is_closed = True
        self._transport.close()
        self._forget("The connection to the server was closed.")

    async def _ask(self, method: str, params: Any) -> bytes:
        if self._is_closed:
            raise LinkLost("The connection to the server is closed.")
        self._asked += 1
        identifier = f"{self._id_stem}{self._asked}"
        request = {"id": identifier, "method": method, "params": params}
        self._transport.send(msgspec.json.encode(request))
        future: asyncio.Future[_Answer] = self._loop.create_future()
        # Stays here if nobody waits any longer: the answer is still not the hub's.
        self._awaited[identifier] = future
        answer = await future
        if answer.error is not None:
            raise RequestFailed(method, answer.error.code, answer.error.message)
        return bytes(answer.result)

    def _received(self, data: bytes) -> None:
        self.last_heard = monotonic()
        if self._awaited and b'"codexd-' in data and self._is_own(data):
            return
        if self._held is not None:
            self._held.append(data)
        else:
            self._on_message(data)

    def _is_own(self, data: bytes) -> bool:
        try:
            answer = _decode_answer(data)
        except UNDECODABLE:
            return False
        if answer.method is not None or not isinstance(answer.id, str):
            return False
        future = self._awaited.pop(answer.id, None)
        if future is None:
            return False
        if not future.done():
            future.set_result(answer)
        return True

    def _lost(self, reason: str) -> None:
        was_open = self._is_open
        self._is_open = False
        self._is_closed = True
        self._forget(reason)
        if was_open:
            self._on_lost(reason)

    def _forget(self, reason: str) -> None:
        awaited, self._awaited = self._awaited, {}
        for future in awaited.values():
            if not future.done():
                future.set_exception(LinkLost(reason))
