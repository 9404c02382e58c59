"""A WebSocket to the child, over a Unix socket or TCP.

Frames are handled where the bytes arrive, inside the loop's callback: a message costs no task
switch. The child is never pinged: a busy one may be slow to answer, and a dead one is seen by
the end of the stream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.protocol import State
from websockets.uri import parse_uri

from codexd.link.endpoint import Endpoint
from codexd.link.errors import LinkLost, LinkRefused, LinkUnauthorized, MessageTooLong, NotReading
from codexd.link.transport import (
    UNREAD_LIMIT,
    OnLost,
    OnMessage,
    ignore_loss,
    ignore_message,
)
from codexd.platform.files import read_users
from codexd.wire.frames import (
    CODEX_FRAME_BYTES,
    CODEX_MESSAGE_BYTES,
    MessageReader,
    masked_frame,
    send_message,
)

_READ_BYTES = 256 << 10
_TOKEN_BYTES = 16 << 10
_UNAUTHORIZED = 401
_HEAD_END = b"\r\n\r\n"


Around = Callable[[Callable[[bytes], None], bytes], None]


def _just_call(take: Callable[[bytes], None], data: bytes) -> None:
    take(data)


class WebSocketTransport:
    """A transport to a `unix` or `ws` endpoint; see :class:`.transport.Transport`.

    ``around(take, data)`` calls ``take(data)``, which hands on every message that ``data`` ends.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        token_file: str | None = None,
        around: Around = _just_call,
    ) -> None:
        self._around = around
        self._endpoint = endpoint
        self._token_file = token_file
        self._on_message: OnMessage = ignore_message
        self._on_lost: OnLost = ignore_loss
        self._wire: _Wire | None = None

    def bind(self, on_message: OnMessage, on_lost: OnLost) -> None:
        """See :class:`.transport.Transport`."""
        self._on_message = on_message
        self._on_lost = on_lost

    async def connect(self) -> None:
        """Connect and upgrade; see :class:`.transport.Transport`."""
        endpoint = self._endpoint
        wire = _Wire(self._uri(), self._on_message, self._lost, self._token(), self._around)
        loop = asyncio.get_running_loop()
        try:
            if endpoint.kind == "unix":
                await loop.create_unix_connection(lambda: wire, endpoint.path)
            else:
                await loop.create_connection(lambda: wire, endpoint.host, endpoint.port)
            await wire.upgraded
        except BaseException:
            wire.close()
            raise
        self._wire = wire

    def send(self, data: bytes) -> None:
        """See :class:`.transport.Transport`."""
        wire = self._wire
        if wire is None or not wire.is_open:
            raise LinkLost(f"There is no connection to {self._endpoint.url}.")
        if len(data) > CODEX_MESSAGE_BYTES:
            raise MessageTooLong(
                f"A message of {len(data)} bytes is more than the {CODEX_MESSAGE_BYTES} "
                f"that the server takes on {self._endpoint.url}."
            )
        if wire.buffered > UNREAD_LIMIT:
            raise NotReading(f"The server has left {wire.buffered} bytes unread.")
        wire.send(data)

    def unread(self) -> list[bytes]:
        """See :class:`.transport.Transport`. What a socket had in it nobody can tell."""
        return []

    def close(self) -> None:
        """See :class:`.transport.Transport`."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _token(self) -> str | None:
        if self._token_file is None:
            return None
        try:
            token = read_users(self._token_file, _TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            text = f"The server's token file {self._token_file} cannot be read: {error}"
            raise LinkUnauthorized(text) from error
        if not token.isprintable():
            raise LinkUnauthorized(f"{self._token_file} holds no token.")
        return token

    def _uri(self) -> str:
        if self._endpoint.kind == "unix":
            return "ws://localhost/"
        host = self._endpoint.host
        return f"ws://{f'[{host}]' if ':' in host else host}:{self._endpoint.port}/"

    def _lost(self, reason: str) -> None:
        self._wire = None
        self._on_lost(reason)


class _Wire(asyncio.BufferedProtocol):
    """One connection: bytes to messages and back."""

    def __init__(
        self,
        uri: str,
        on_message: OnMessage,
        on_lost: OnLost,
        token: str | None,
        around: Around,
    ) -> None:
        self._around = around
        self._token = token
        self._protocol = ClientProtocol(parse_uri(uri), max_size=None)
        self._reader = MessageReader(self._protocol, sys.maxsize)
        # The last bytes of the answer to the upgrade, whose end may lie across two reads.
        self._answer_end = b""
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self._closed and self._protocol.state is State.OPEN

    @property
    def buffered(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, data: bytes) -> None:
        if len(data) <= CODEX_FRAME_BYTES and self._transport is not None:
            self._transport.write(masked_frame(data))
        else:
            send_message(self._protocol, data)
            self._flush()

    def close(self) -> None:
        self._closed = True
        if not self.upgraded.done():
            self.upgraded.cancel()
        if self._transport is None:
            return
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._flush()
        # What the child does not take of the farewell is of no use to anybody.
        self._transport.abort() if self.buffered else self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        request = self._protocol.connect()
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        self._protocol.send_request(request)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._view[:nbytes])
        is_new = not self.upgraded.done()
        if is_new:
            data = self._take_answer(data)
        elif not self._closed and (message := self._reader.sole(data)) is not None:
            self._on_message(message)
            return
        if data:
            self._around(self._take, data)
        if is_new or self._reader.has_passed_on:
            self._say_what_the_protocol_says()

    def _say_what_the_protocol_says(self) -> None:
        self._flush()
        if self.upgraded.done() and self._protocol.close_expected() and self._transport is not None:
            # A farewell from either side: nothing more will come that is worth waiting for.
            self._transport.close()

    def _take(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if not self._closed:
                self._on_message(message)

    def _take_answer(self, data: bytes) -> bytes:
        """A piece of the answer to the upgrade; returns what comes after it, which is frames."""
        seen = self._answer_end + data
        found = seen.find(_HEAD_END)
        end = len(data) if found < 0 else found + len(_HEAD_END) - len(self._answer_end)
        self._answer_end = seen[1 - len(_HEAD_END) :]
        self._protocol.receive_data(data[:end])
        frames = data[end:]
        if frames and self._protocol.state is State.CONNECTING:
            # They are none: it is refused, and says why.
            self._protocol.receive_data(frames)
            frames = b""
        self._protocol.events_received()
        self._settle_upgrade()
        return frames

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        reason = f"The server closed the connection{f': {exc}' if exc else ''}."
        if not self.upgraded.done():
            self.upgraded.set_exception(ConnectionResetError(reason))
        elif not self.upgraded.cancelled() and self.upgraded.exception() is None:
            self._on_lost(reason)

    def _settle_upgrade(self) -> None:
        refusal = self._protocol.handshake_exc
        if refusal is None:
            # Open, or already closing: a farewell may come in one piece with the answer.
            if self._protocol.state is not State.CONNECTING:
                self.upgraded.set_result(None)
        elif isinstance(refusal, InvalidStatus):
            status = refusal.response.status_code
            self.upgraded.set_exception(_refusal(status, has_token=self._token is not None))
        else:
            self.upgraded.set_exception(LinkRefused(f"The endpoint is no WebSocket: {refusal}."))

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            # The empty one stands for the end of the stream.
            if self._transport is None:
                return
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


def _refusal(status: int, *, has_token: bool) -> LinkRefused:
    if status != _UNAUTHORIZED:
        return LinkRefused(f"The endpoint answered HTTP {status}.")
    if has_token:
        text = "The server does not take the token in the file that its --ws-token-file names."
    else:
        text = (
            "The server asks for a token (HTTP 401), and codexd has none: give it "
            "--ws-auth capability-token and --ws-token-file FILE among its arguments."
        )
    return LinkUnauthorized(text)
