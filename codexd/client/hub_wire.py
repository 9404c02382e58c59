"""One connection to the daemon's hub, for whoever carries a client's messages to it.

One loop over select(2), without asyncio: a tool that starts an app-server waits for it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from codexd.hub.profile import NOTHING, PROFILE_HEADER, ClientProfile
from codexd.platform.peer import ForeignPeer, require_own_peer
from codexd.wire.frames import MessageAssembler, send_message

READ_BYTES = 256 << 10
_CONNECT_S = 10.0
# A daemon whose plugin is being restarted has its socket back within about a second, or, where it
# hangs, within the time of the health checks.
_RETRY_S = 60.0
# A request head is at most 16 KiB.
_PROFILE_LIMIT = 14 << 10


class BridgeError(Exception):
    """The other side cannot be reached, or has gone. The text is one line for the user."""


class NoAnswer(BridgeError):
    """Somebody was there and did not answer, or not yet: it may pass."""


def connect(socket_path: str) -> socket.socket:
    """Connect to a Unix socket.

    Raises:
        ForeignPeer: another user serves it.
        OSError: nobody is there.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(socket_path)
        require_own_peer(connected)
    except BaseException:
        connected.close()
        raise
    return connected


class HubWire:
    """One WebSocket connection to the daemon.

    Raises:
        NoAnswer: it was not accepted, and may be later.
        BridgeError: it is refused.
    """

    def __init__(self, connected: socket.socket, profile: ClientProfile) -> None:
        self.socket = connected
        self.unsent = Outgoing()
        self.is_open = True
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self._assembler = MessageAssembler(self._protocol)
        self._profile = profile
        self._response: Response | None = None
        self.early: list[bytes] = []
        try:
            self._upgrade()
        except BaseException:
            connected.close()
            raise
        connected.setblocking(False)

    @property
    def farewell(self) -> str:
        """Why the daemon closed the connection, where it said so."""
        return self._protocol.close_rcvd.reason if self._protocol.close_rcvd else ""

    def send(self, message: bytes) -> None:
        """Queue a message."""
        if self._protocol.state is State.OPEN:
            send_message(self._protocol, message)
            self.unsent.extend(self._protocol.data_to_send())

    def write(self) -> None:
        """Send of what is queued as much as can be sent now."""
        try:
            self.unsent.sent(self.socket.send(self.unsent.first))
        except BlockingIOError:
            return
        except OSError:
            # What it said before it went may still be there to read; then comes the end.
            self.unsent.clear()

    def read(self) -> list[bytes]:
        """The messages that have come."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        messages = self._receive(data)
        if self.is_open:
            self.unsent.extend(self._protocol.data_to_send())
        else:
            self.unsent.clear()
        return messages

    def close(self) -> None:
        """Say farewell where that is possible at once."""
        self.unsent.clear()
        with self.socket, contextlib.suppress(OSError):
            if self.is_open:
                self._protocol.send_close(1000)
                for data in self._protocol.data_to_send():
                    self.socket.send(data)

    def _upgrade(self) -> None:
        request = self._protocol.connect()
        if self._profile is not NOTHING:
            request.headers[PROFILE_HEADER] = profile_header(self._profile)
        self._protocol.send_request(request)
        try:
            for data in self._protocol.data_to_send():
                self.socket.sendall(data)
            while self._is_awaited and self.is_open:
                self.early += self._receive(self.socket.recv(READ_BYTES))
        except OSError as error:
            raise NoAnswer(f"The daemon did not answer: {error}.") from error
        refusal = self._protocol.handshake_exc
        # Once accepted it may be closing already: a farewell may come in one piece with the answer.
        if refusal is not None or self._protocol.state is State.CONNECTING:
            raise _refused(refusal)
        taken = self._response is not None and PROFILE_HEADER in self._response.headers
        if self._profile.config and not taken:
            raise BridgeError(
                "The daemon that runs is older than this command and cannot give "
                f"{', '.join(self._profile.config)}: restart it."
            )

    @property
    def _is_awaited(self) -> bool:
        """Whether the answer to the upgrade is still to come."""
        protocol = self._protocol
        return protocol.state is State.CONNECTING and protocol.handshake_exc is None

    def _receive(self, data: bytes) -> list[bytes]:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self.is_open = False
        messages = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._response = event
            elif isinstance(event, Frame):
                message = self._assembler.add(event)
                if message is not None:
                    messages.append(message)
        if self._protocol.state in (State.CLOSING, State.CLOSED):
            self.is_open = False
        return messages


def _refused(refusal: Exception | None) -> BridgeError:
    if not isinstance(refusal, InvalidStatus):
        return NoAnswer("The daemon closed the connection at once.")
    status = refusal.response.status_code
    # With 503 it says that it may open no file more, for now.
    kind = NoAnswer if status == HTTPStatus.SERVICE_UNAVAILABLE else BridgeError
    return kind(f"The daemon refused the connection: HTTP {status}.")


class HubConnector:
    """Connects to the daemon's socket, as long as there is a daemon that may serve it."""

    def __init__(
        self, socket_path: str, daemon_runs: Callable[[], bool], profile: ClientProfile = NOTHING
    ) -> None:
        self._path = socket_path
        self._daemon_runs = daemon_runs
        self._profile = profile
        self._failing_since: float | None = None

    def __call__(self) -> HubWire | None:
        """A connection, or None where there is none yet.

        Raises:
            BridgeError: there is to be none any more.
        """
        connected = self._connected()
        if connected is None:
            return None
        try:
            wire = HubWire(connected, self._profile)
        except NoAnswer as error:
            if not self._daemon_runs():
                raise
            self._fail(str(error), error)
            return None
        self._failing_since = None
        return wire

    def check(self) -> None:
        """See that somebody serves the socket, or will soon.

        Raises:
            BridgeError: nobody, or nobody who may.
        """
        connected = self._connected()
        if connected is not None:
            connected.close()

    def _connected(self) -> socket.socket | None:
        try:
            return connect(self._path)
        except ForeignPeer as error:
            raise BridgeError(f"{self._path} is not used: {error.strerror}.") from error
        except OSError as error:
            if not self._daemon_runs():
                text = f"No daemon serves {self._path}: start it with `codexd start`."
                raise BridgeError(text) from error
            reason = error.strerror or str(error)
            self._fail(f"The daemon does not serve {self._path}: {reason}.", error)
            return None

    def _fail(self, text: str, error: Exception) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > _RETRY_S:
            raise BridgeError(text) from error


class Outgoing:
    """Bytes that wait to be written."""

    def __init__(self) -> None:
        self._chunks: deque[memoryview] = deque()
        self.size = 0

    @property
    def first(self) -> memoryview:
        """What is to be written next."""
        return self._chunks[0]

    def extend(self, chunks: list[bytes]) -> None:
        """Put more behind it."""
        for chunk in chunks:
            if chunk:
                self._chunks.append(memoryview(chunk))
                self.size += len(chunk)

    def sent(self, count: int) -> None:
        """So much of :attr:`first` is written."""
        self.size -= count
        if count == len(self._chunks[0]):
            self._chunks.popleft()
        else:
            self._chunks[0] = self._chunks[0][count:]

    def clear(self) -> None:
        """Forget it: nobody takes it any more."""
        self._chunks.clear()
        self.size = 0


def profile_header(profile: ClientProfile) -> str:
    """The profile as the hub takes it.

    Raises:
        BridgeError: it cannot be told.
    """
    try:
        (profile.cwd or "").encode()
    except UnicodeEncodeError as error:
        text = f"The working directory {profile.cwd!r} is no text: start it in another."
        raise BridgeError(text) from error
    text = json.dumps(msgspec.to_builtins(profile))
    if len(text) > _PROFILE_LIMIT:
        raise BridgeError(f"The overrides are longer than {_PROFILE_LIMIT} bytes.")
    return text
