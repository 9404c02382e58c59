"""A client on a WebSocket that is served here."""

from __future__ import annotations

import contextlib
import os
import select
import time

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from codexd.client.bridge import ClientGone
from codexd.client.hub_wire import READ_BYTES, Outgoing
from codexd.wire.frames import (
    CODEX_FRAME_BYTES,
    CODEX_MESSAGE_BYTES,
    FRAME_LIMIT_HEADER,
    MessageAssembler,
)

# Of a client that pings and does not read.
_UNREAD_PINGS = 10_000
# RFC 6455, section 5.5: a control frame holds 125 bytes, two of them the close code.
_REASON_BYTES = 123
_FAREWELL_S = 1.0


class NoUpgrade(Exception):
    """The head asks for no WebSocket. The text is for the client."""


class WebSocketEnd:
    """A :class:`codexd.client.bridge.ClientEnd`, from an upgrade that is accepted.

    ``head`` is that of the request, ``rest`` what came behind it. ``reader`` and ``writer`` are one
    descriptor that does not block, or two pipes.

    Raises:
        NoUpgrade: it is none.
    """

    hears_on = False

    def __init__(self, reader: int, writer: int, head: bytes, rest: bytes = b"") -> None:
        self.reader = reader
        self.writer = writer
        self.unsent = Outgoing()
        self.is_open = True
        # It is hung up on without a word.
        self.is_cut = False
        self._protocol = ServerProtocol(max_size=CODEX_MESSAGE_BYTES)
        self._assembler = MessageAssembler(self._protocol)
        self._unread_pings = 0
        self._accept(head)
        self._protocol.receive_data(rest)

    def early(self) -> list[bytes]:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        return self._messages()

    def read(self) -> list[bytes]:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        try:
            data = os.read(self.reader, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ClientGone from error
        if not data:
            self.is_open = False
            return []
        self._protocol.receive_data(data)
        return self._messages()

    def write(self) -> None:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        piece = READ_BYTES if self.reader == self.writer else select.PIPE_BUF
        try:
            self.unsent.sent(os.write(self.writer, self.unsent.first[:piece]))
        except BlockingIOError:
            return
        except OSError as error:
            raise ClientGone from error
        if not self.unsent.size:
            self._unread_pings = 0

    def send(self, message: bytes) -> None:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(message)
            self._flush()

    def leave(self, reason: str) -> None:
        """Say farewell: 1001, going away. A client has a second to take what there is for it."""
        if self.is_cut:
            return
        if self._protocol.state is State.OPEN:
            text = reason.encode()[:_REASON_BYTES].decode("utf-8", "ignore")
            self._protocol.send_close(CloseCode.GOING_AWAY, text)
            self._flush()
        deadline = time.monotonic() + _FAREWELL_S
        with contextlib.suppress(ClientGone):
            while self.unsent.size and (left_s := deadline - time.monotonic()) > 0:
                if select.select([], [self.writer], [], left_s)[1]:
                    self.write()

    def _accept(self, head: bytes) -> None:
        self._protocol.receive_data(head)
        requests = [e for e in self._protocol.events_received() if isinstance(e, Request)]
        if not requests:
            raise NoUpgrade("This is no WebSocket upgrade.")
        response = self._protocol.accept(requests[0])
        if response.status_code != 101:
            text = response.body.decode("utf-8", "replace") if response.body else ""
            raise NoUpgrade(text.partition("\n")[0])
        response.headers[FRAME_LIMIT_HEADER] = str(CODEX_FRAME_BYTES)
        self._protocol.send_response(response)
        self._flush()

    def _messages(self) -> list[bytes]:
        messages = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue
            message = self._assembler.add(event)
            if message is not None:
                messages.append(message)
            self._unread_pings += event.opcode is Opcode.PING
        self._flush()
        if self._unread_pings > _UNREAD_PINGS:
            self.is_cut = True
            raise ClientGone
        if self._protocol.state is not State.OPEN:
            self.is_open = False
        return messages

    def _flush(self) -> None:
        self.unsent.extend(self._protocol.data_to_send())
