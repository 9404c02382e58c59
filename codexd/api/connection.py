"""One connection of a client: a request head, then either a WebSocket or one HTTP answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from http import HTTPStatus
from typing import Protocol

from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from codexd.api.http import (
    HEAD_END,
    HEAD_LIMIT,
    BadRequest,
    HttpRequest,
    HttpResponse,
    error_response,
    parse_head,
)
from codexd.hub.profile import (
    NOTHING,
    PROFILE_HEADER,
    PROFILE_TAKEN,
    BadProfile,
    ClientProfile,
    read_profile,
)
from codexd.wire.frames import CODEX_FRAME_BYTES, FRAME_LIMIT_HEADER, MessageAssembler
from codexd.wire.unfinished import Unfinished

# What one connection may read, and how many messages it may have handled, in one turn of the
# loop: a client that floods does not hold up the others.
_READ_BYTES = 64 << 10
_TURN_MESSAGES = 32
# How long a client has to take a farewell.
_CLOSE_S = 2.0
# RFC 6455, section 5.5: a control frame holds 125 bytes, two of them the close code.
_REASON_BYTES = 123

_FULL = (
    "codexd may open no file more for another client: end some, or raise the limit of open files "
    "(ulimit -n) and start it anew."
)

# Shared: asyncio fills it and hands it over in one go, so idle connections need none.
_BUFFER = memoryview(bytearray(_READ_BYTES))


class HubAdapter(Protocol):
    """Who hears the clients. ``client`` is the number that :meth:`opened` gave."""

    def opened(self, profile: ClientProfile) -> int:
        """A client has connected."""

    def message(self, client: int, data: bytes) -> None:
        """A client has sent one message: UTF-8, not yet known to be JSON."""

    def closed(self, client: int) -> None:
        """A client is gone, whoever ended it; called once."""


class Owner(Protocol):
    """What a connection needs of the server."""

    @property
    def backlog_bytes(self) -> int: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def head_timeout_s(self) -> float: ...

    @property
    def unfinished(self) -> Unfinished: ...
    @property
    def adapter(self) -> HubAdapter: ...

    def made(self, connection: Connection) -> bool: ...
    def may_stay(self, connection: Connection) -> bool: ...
    def upgraded(self, connection: Connection, profile: ClientProfile) -> int: ...
    def spoke(self, connection: Connection) -> None: ...
    def answer(self, request: HttpRequest) -> HttpResponse: ...
    def cut(self, client: int, unread: int) -> None: ...
    def gone(self, connection: Connection, client: int | None) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """Bytes to messages and back, for one client."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._head = bytearray()
        self._client: int | None = None
        self._socket: ServerProtocol | None = None
        self._assembler: MessageAssembler | None = None
        self._pending: deque[bytes] = deque()
        self._scheduled = False
        self._closing = False
        self._ending = False
        self._largest = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    # -- for the server ------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send one message; a client that has left too much unread is cut off instead."""
        transport, socket = self._transport, self._socket
        if transport is None or socket is None or self._closing or socket.state is not State.OPEN:
            return
        unread = transport.get_write_buffer_size()
        if not unread:
            self._largest = 0
        # One message may be longer than the backlog: that alone is not the client's fault.
        elif unread > self._owner.backlog_bytes + self._largest:
            self._cut(unread)
            return
        self._largest = max(self._largest, len(data))
        socket.send_text(data)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Say farewell; what the client still sends is not heard."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._pending.clear()
        if self._socket is None:
            self._transport.close()
            return
        if self._socket.state is State.OPEN:
            self._socket.send_close(code, _shortened(reason))
            self._flush()
        self._end_soon()

    def drop_unfinished(self) -> None:
        """All clients together have sent too much that is not whole, and this one the most."""
        self.close(CloseCode.TRY_AGAIN_LATER, "too much unfinished from all clients together")
        # With them goes what came, and what still comes is not looked at.
        self._socket = self._assembler = None

    def abort(self) -> None:
        """Break off at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- for asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._owner.made(self):
            transport.abort()
            return
        self._timer = self._loop.call_later(self._owner.head_timeout_s, self.abort)

    @property
    def transport(self) -> asyncio.Transport | None:
        """asyncio's end of the connection; None once it is lost."""
        return self._transport

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_BUFFER[:nbytes])
        if self._socket is not None:
            self._feed(self._socket, data)
        elif not self._closing:
            self._take_head(data)

    def eof_received(self) -> None:
        if self._socket is not None:
            self._socket.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._owner.unfinished.note(self, 0)
        if self._timer is not None:
            self._timer.cancel()
        # What a client sent before it left still counts.
        while self._pending and self._client is not None and not self._closing:
            self._owner.adapter.message(self._client, self._pending.popleft())
        self._closing = True
        self._owner.gone(self, self._client)

    # -- the request ---------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> None:
        # The end may lie across two reads.
        start = max(0, len(self._head) - len(HEAD_END) + 1)
        self._head += data
        end = self._head.find(HEAD_END, start)
        if end > HEAD_LIMIT or (end < 0 and len(self._head) > HEAD_LIMIT):
            text = f"The request head is longer than {HEAD_LIMIT} bytes."
            self._answer(error_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))
        elif end >= 0:
            head, self._head = bytes(self._head), bytearray()
            self._take_request(head, end)

    def _take_request(self, data: bytes, end: int) -> None:
        try:
            request = parse_head(data[:end])
        except BadRequest as error:
            self._answer(error_response(HTTPStatus.BAD_REQUEST, str(error)))
            return
        if not request.wants_websocket:
            self._answer(self._owner.answer(request))
            return
        if not self._owner.may_stay(self):
            self._answer(error_response(HTTPStatus.SERVICE_UNAVAILABLE, _FULL))
            return
        after = end + len(HEAD_END)
        if self._upgrade(data[:after]) and self._socket is not None and data[after:]:
            self._feed(self._socket, data[after:])

    def _answer(self, response: HttpResponse) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.write(response.encode())
            # Half closed: a client in the middle of sending can still read the answer.
            self._transport.write_eof()
            self._end_soon()

    def _upgrade(self, head: bytes) -> bool:
        protocol = ServerProtocol(max_size=self._owner.max_message_bytes)
        protocol.receive_data(head)
        requests = [event for event in protocol.events_received() if isinstance(event, Request)]
        if not requests:
            self._answer(error_response(HTTPStatus.BAD_REQUEST, "This is no WebSocket upgrade."))
            return False
        response = protocol.accept(requests[0])
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            text = response.body.decode("utf-8", "replace").partition("\n")[0]
            self._answer(error_response(HTTPStatus(response.status_code), text))
            return False
        try:
            profile = read_profile(requests[0].headers.get(PROFILE_HEADER))
        except BadProfile as error:
            self._answer(error_response(HTTPStatus.BAD_REQUEST, str(error)))
            return False
        if profile is not NOTHING:
            response.headers[PROFILE_HEADER] = PROFILE_TAKEN
        response.headers[FRAME_LIMIT_HEADER] = str(CODEX_FRAME_BYTES)
        protocol.send_response(response)
        self._socket = protocol
        self._assembler = MessageAssembler(protocol)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()
        self._client = self._owner.upgraded(self, profile)
        return True

    # -- the messages --------------------------------------------------------------------------

    def _feed(self, protocol: ServerProtocol, data: bytes) -> None:
        # What it makes this end say by itself (pongs) is part of what it leaves unread.
        unread = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if unread > self._owner.backlog_bytes + self._largest:
            self._cut(unread)
            return
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame) and self._assembler is not None:
                message = self._assembler.add(event)
                if message is not None and not self._closing:
                    self._pending.append(message)
        self._flush()
        if self._assembler is not None:
            self._owner.unfinished.note(self, self._assembler.held)
        if self._pending:
            self._owner.spoke(self)
            if not self._scheduled:
                self._handle_some()
        if protocol.close_expected() and not self._closing:
            self._end_soon()

    def _handle_some(self) -> None:
        self._scheduled = False
        for _ in range(_TURN_MESSAGES):
            if not self._pending or self._client is None:
                break
            self._owner.adapter.message(self._client, self._pending.popleft())
        if self._transport is None:
            return
        if self._pending:
            self._scheduled = True
            self._transport.pause_reading()
            self._loop.call_soon(self._handle_some)
        else:
            self._transport.resume_reading()

    def _flush(self) -> None:
        if self._socket is None or self._transport is None:
            return
        for data in self._socket.data_to_send():
            if data:
                self._transport.write(data)
            elif not self._transport.is_closing():
                # The end of our stream. The client may be in the middle of sending: it is heard
                # out, so that it can read why.
                with contextlib.suppress(OSError):
                    self._transport.write_eof()
                self._end_soon()

    def _cut(self, unread: int) -> None:
        self._closing = True
        self._pending.clear()
        if self._client is not None:
            self._owner.cut(self._client, unread)
        self.abort()

    def _end_soon(self) -> None:
        # Once only: a client that goes on sending does not put off its end.
        if self._ending:
            return
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_CLOSE_S, self.abort)


def _shortened(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode("utf-8", "ignore")
