"""The WebSocket side of a connection: messages of one client of the hub, there and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from codexd.api.http import Problem
from codexd.hub.profile import (
    NOTHING,
    PROFILE_HEADER,
    PROFILE_TAKEN,
    BadProfile,
    ClientProfile,
    read_profile,
)
from codexd.wire.frames import CODEX_FRAME_BYTES, FRAME_LIMIT_HEADER, Framer, MessageReader

# How many messages one client may have handled in one turn of the loop: a client that floods does
# not hold up the others.
_TURN_MESSAGES: Final = 32
# What is kept for one write; more would be one copy more of much.
_CORKED_BYTES: Final = 64 << 10
# RFC 6455, section 5.5: a control frame holds 125 bytes, two of them the close code.
_REASON_BYTES: Final = 123


class ClientEnd(Protocol):
    """Where a client of the hub hears it. Whoever has one is told of nothing after it is closed."""

    def send(self, data: bytes) -> None:
        """One message for the client."""

    def close(self, code: int, reason: str) -> None:
        """The hub ends the connection, with a WebSocket close code."""


class HubAdapter(Protocol):
    """Who hears the clients. ``client`` is the number that :meth:`opened` gave."""

    def opened(self, profile: ClientProfile, end: ClientEnd) -> int:
        """A client has connected."""

    def message(self, client: int, data: bytes) -> None:
        """A client has sent one message: UTF-8, not yet known to be JSON."""

    def closed(self, client: int) -> None:
        """A client is gone, whoever ended it; called once."""


class Wire(Protocol):
    """What it needs of its connection."""

    @property
    def is_behind(self) -> bool: ...
    @property
    def unread(self) -> int: ...
    @property
    def backlog_bytes(self) -> int: ...
    @property
    def cork(self) -> Cork: ...

    def write(self, data: bytes) -> None: ...
    def write_end(self) -> None: ...
    def hold_reading(self, held: bool) -> None: ...
    def note_unfinished(self, held: int) -> None: ...
    def handle_soon(self) -> None: ...
    def spoke(self) -> None: ...
    def finish(self) -> None: ...
    def cut_off(self) -> None: ...


class Upgrade:
    """A request to go on as a WebSocket, looked at: ``profile`` is what its client brings."""

    def __init__(self, head: bytes, max_message_bytes: int) -> None:
        self.max_message_bytes = max_message_bytes
        self.protocol = ServerProtocol(max_size=max_message_bytes)
        self.protocol.receive_data(head)
        events = self.protocol.events_received()
        request = next((event for event in events if isinstance(event, Request)), None)
        if request is None:
            raise _refusal(HTTPStatus.BAD_REQUEST, "This is no WebSocket upgrade.")
        self._response = self.protocol.accept(request)
        status = self._response.status_code
        if status != HTTPStatus.SWITCHING_PROTOCOLS:
            text = self._response.body.decode("utf-8", "replace").partition("\n")[0]
            if status == HTTPStatus.METHOD_NOT_ALLOWED:
                allow = {"Allow": "GET"}
                status = HTTPStatus.METHOD_NOT_ALLOWED
                raise Problem(status, "method-not-allowed", text, headers=allow)
            raise _refusal(HTTPStatus(status), text)
        try:
            self.profile = read_profile(request.headers.get(PROFILE_HEADER))
        except BadProfile as error:
            raise _refusal(HTTPStatus.BAD_REQUEST, str(error)) from error

    def accept(self) -> None:
        """Say yes."""
        if self.profile is not NOTHING:
            self._response.headers[PROFILE_HEADER] = PROFILE_TAKEN
        self._response.headers[FRAME_LIMIT_HEADER] = str(CODEX_FRAME_BYTES)
        self.protocol.send_response(self._response)


def _refusal(status: HTTPStatus, text: str) -> Problem:
    return Problem(status, "invalid-request", text)


class Cork:
    """What is said to many clients in one go leaves in one write for each of them.

    One for all connections, with what frames their messages. In it goes for one call, and never
    stays in over a turn of the loop.
    """

    def __init__(self) -> None:
        self.is_in = False
        self.framer = Framer()
        self._corked: list[WebSocket] = []

    def keeps(self, corked: WebSocket) -> None:
        """Somebody keeps something: it is told when the cork is out."""
        self._corked.append(corked)

    def around(self, feed: Callable[[bytes], None], data: bytes) -> None:
        """Call ``feed(data)`` with the cork in, where that may be more than one message."""
        if self.is_in or data.find(b"\n") == len(data) - 1:
            feed(data)
            return
        self.is_in = True
        try:
            feed(data)
        finally:
            self.is_in = False
            corked, self._corked = self._corked, []
            for end in corked:
                end.uncork()


class WebSocket:
    """Frames to messages and back; a :class:`ClientEnd`."""

    def __init__(self, wire: Wire, upgrade: Upgrade, adapter: HubAdapter) -> None:
        self._wire = wire
        self._protocol = upgrade.protocol
        self._adapter = adapter
        self._reader: MessageReader | None = MessageReader(
            self._protocol, upgrade.max_message_bytes
        )
        # What was told of what it holds.
        self._held = 0
        self._has_spoken = False
        self._pending: deque[bytes] = deque()
        self._scheduled = False
        self._closing = False
        self._largest = 0
        self._cork = wire.cork
        # Frames that wait for the cork to be out.
        self._corked: list[bytes] = []
        self._corked_bytes = 0
        upgrade.accept()
        self._flush()
        self._client = adapter.opened(upgrade.profile, self)

    @property
    def client(self) -> int:
        """The number that the hub knows it by."""
        return self._client

    # -- for the hub (ClientEnd) ---------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send one message; a client that has left too much unread is cut off instead."""
        if self._closing or self._protocol.state is not OPEN:
            return
        corked, cork, wire = self._corked, self._cork, self._wire
        if wire.is_behind:
            # One message may be longer than the backlog: that alone is not the client's fault.
            if wire.unread > wire.backlog_bytes + self._largest:
                self._cut()
                return
        elif not corked:
            # What is kept the client could not read yet.
            self._largest = 0
        if len(data) > self._largest:
            self._largest = len(data)
        frame = cork.framer.frame(data)
        if not cork.is_in:
            wire.write(frame)
            return
        if not corked:
            cork.keeps(self)
        corked.append(frame)
        self._corked_bytes += len(frame)
        if self._corked_bytes > _CORKED_BYTES:
            self.uncork()

    def uncork(self) -> None:
        """Send what was kept."""
        frames, self._corked, self._corked_bytes = self._corked, [], 0
        if frames:
            self._wire.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def close(self, code: int, reason: str) -> None:
        """Say farewell; what the client still sends is not heard."""
        if self._closing:
            return
        self._closing = True
        self._pending.clear()
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, _shortened(reason))
            self._flush()
        self._wire.finish()

    # -- for the connection --------------------------------------------------------------------

    def drop_unfinished(self) -> None:
        """All clients together have sent too much that is not whole, and this one the most."""
        self.close(CloseCode.TRY_AGAIN_LATER, "too much unfinished from all clients together")
        # With it goes what came, and what still comes is not looked at.
        self._reader = None

    def ended(self) -> None:
        """The client sends no more."""
        self._protocol.receive_eof()

    def lost(self) -> None:
        """The connection is gone. What the client sent before it left still counts."""
        while self._pending and not self._closing:
            self._adapter.message(self._client, self._pending.popleft())
        self._closing = True
        self._adapter.closed(self._client)

    def feed(self, data: bytes) -> None:
        """The client has sent something."""
        reader = self._reader
        if reader is None:
            return
        # What it makes this end say by itself (pongs) is part of what it leaves unread.
        wire = self._wire
        if wire.is_behind and wire.unread > wire.backlog_bytes + self._largest:
            self._cut()
            return
        message = None if self._pending or not self._has_spoken else reader.sole(data)
        if message is not None and not self._closing:
            self._adapter.message(self._client, message)
            return
        messages = reader.feed(data)
        if reader.has_passed_on:
            self._flush()
        held = reader.held
        if held != self._held:
            self._held = held
            self._wire.note_unfinished(held)
        if messages and not self._closing:
            if not self._has_spoken:
                self._has_spoken = True
                self._wire.spoke()
            self._pending += messages
            if not self._scheduled:
                self.handle_some()
        if reader.has_passed_on and self._protocol.close_expected() and not self._closing:
            self._wire.finish()

    def handle_some(self) -> None:
        """Have some of the messages handled that have come, and the others in the next turn."""
        was_scheduled, self._scheduled = self._scheduled, False
        for _ in range(_TURN_MESSAGES):
            if not self._pending:
                break
            self._adapter.message(self._client, self._pending.popleft())
        self._scheduled = bool(self._pending)
        if self._scheduled or was_scheduled:
            self._wire.hold_reading(self._scheduled)
        if self._scheduled:
            self._wire.handle_soon()

    def _flush(self) -> None:
        self.uncork()
        for data in self._protocol.data_to_send():
            if data:
                self._wire.write(data)
            else:
                # The end of our stream. The client may be in the middle of sending: it is heard
                # out, so that it can read why.
                self._wire.write_end()

    def _cut(self) -> None:
        self._closing = True
        self._pending.clear()
        self._corked.clear()
        self._wire.cut_off()


def _shortened(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode("utf-8", "ignore")
