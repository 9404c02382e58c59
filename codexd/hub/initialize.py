"""`initialize`: each client's own, answered as the server has answered codexd."""

from __future__ import annotations

import re

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub import jsonrpc, methods
from codexd.hub.actions import CloseClient, Emit, Introduced, ToClient
from codexd.hub.clients import Client, NotIntroduced
from codexd.hub.core import Core
from codexd.hub.counts import LEFT, OK
from codexd.hub.jsonrpc import Message

# WebSocket's "policy violation" (RFC 6455, section 7.4.1).
_POLICY_VIOLATION = 1008
# A server that warns without end must not fill the memory, nor greet its clients without end.
_KEPT = 100
_METHOD = "initialize"


class _ConfigWarning(msgspec.Struct):
    summary: str = ""
    details: str | None = None
    path: str | None = None


class _Introduced(msgspec.Struct, rename="camel"):
    user_agent: str = ""


class _RemoteControl(msgspec.Struct):
    status: str = ""


class Greeting:
    """Answers `initialize`, and tells new clients what the server tells a new connection."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._result: bytes | None = None
        self._told: dict[tuple[str, bytes], bytes] = {}
        # Every warning about the configuration, also what only one client was told.
        self._warnings: dict[bytes, Message] = {}

    def child_ready(self, initialize_result: bytes | None) -> None:
        """There is a child; None: it has not been told yet with whom it speaks."""
        self._told.clear()
        self._warnings.clear()
        self._result = None
        if initialize_result is not None:
            self.introduced(initialize_result)

    def introduced(self, initialize_result: bytes) -> None:
        """A child has answered codexd: now clients that waited for that can be answered."""
        self._result = initialize_result
        for client in self._core.clients.values():
            if client.initialize is not None:
                self._answer(client)

    def noticed(self, message: Message) -> None:
        """The server told something that it tells every new connection."""
        if message.method in methods.GREETING:
            # Of warnings there may be several, each told again on a new connection; of anything
            # else the last one holds.
            is_one_of_several = message.method == "configWarning"
            key = bytes(message.fields.get("params", b"")) if is_one_of_several else b""
            self._told[message.method or "", key] = message.data
            if len(self._told) > _KEPT:
                del self._told[next(iter(self._told))]

    def warned(self, message: Message) -> None:
        """The server warned of its configuration, whoever was told."""
        if message.method == "configWarning":
            self._warnings[bytes(message.fields.get("params", b""))] = message
            if len(self._warnings) > _KEPT:
                del self._warnings[next(iter(self._warnings))]

    @property
    def server_version(self) -> str | None:
        """The version in the server's User-Agent; None before it has told that."""
        try:
            told = decode_json(self._result or b"{}", _Introduced).user_agent
        except UNDECODABLE:
            return None
        # "NAME/VERSION (SYSTEM) …"
        found = re.search(r"/(\d[^\s/]*) ", told)
        return found[1] if found else None

    @property
    def config_faults(self) -> list[str]:
        """What the server says is wrong with its configuration, where it names the file."""
        warnings = [message.params(_ConfigWarning) for message in self._warnings.values()]
        return [f"{entry.summary} {entry.details or ''}" for entry in warnings if entry.path]

    @property
    def remote_control(self) -> str | None:
        """How the server's remote control stands; None before it has told that."""
        data = self._told.get((methods.REMOTE_CONTROL, b""))
        message = None if data is None else jsonrpc.parse(data)
        return None if message is None else message.params(_RemoteControl).status or None

    def initialize(self, client: Client, message: Message, now: float) -> None:
        """A client wants to initialize."""
        assert message.id is not None
        try:
            client.introduce(message, now)
        except NotIntroduced as error:
            text = str(error)
            self._core.error(
                client.number, message.id, jsonrpc.INVALID_REQUEST, text, method=_METHOD, since=now
            )
            return
        self._core.act(Introduced(client.info, client.capabilities))
        if self._result is not None and self._core.state != "away":
            self._answer(client)

    def left(self, client: Client) -> None:
        """A client is gone."""
        if client.is_initialized:
            self._emit("disconnected", client)
        elif client.initialize is not None:
            waited_s = self._core.now - client.initialize_at
            self._core.counts.request_ended(_METHOD, LEFT, waited_s)

    def check_patience(self, now: float) -> None:
        """Nobody stays uninitialized for ever, and nobody waits for a child for ever."""
        limits = self._core.limits
        for client in list(self._core.clients.values()):
            if client.is_initialized:
                continue
            if client.initialize is not None:
                if now - client.initialize_at > limits.wait_s:
                    self._refuse(client, now)
            elif now - client.opened_at > limits.initialize_timeout_s:
                reason = "not initialized in time"
                self._core.act(CloseClient(client.number, _POLICY_VIOLATION, reason))

    @property
    def deadline(self) -> float | None:
        """When the patience with the first of those who wait ends; None where nobody does."""
        limits = self._core.limits
        return min(
            (
                client.opened_at + limits.initialize_timeout_s
                if client.initialize is None
                else client.initialize_at + limits.wait_s
                for client in self._core.clients.values()
                if not client.is_initialized
            ),
            default=None,
        )

    def _refuse(self, client: Client, now: float) -> None:
        request, client.initialize = client.initialize, None
        client.opened_at = now
        assert request is not None
        assert request.id is not None
        text = "The app-server is away and did not come back in time."
        code, data = jsonrpc.OVERLOADED, {"codexd": {"reason": "away"}}
        since = client.initialize_at
        self._core.error(client.number, request.id, code, text, data, method=_METHOD, since=since)

    def _answer(self, client: Client) -> None:
        request, client.initialize = client.initialize, None
        assert request is not None
        assert request.id is not None
        client.is_initialized = True
        self._core.counts.request_ended(_METHOD, OK, self._core.now - client.initialize_at)
        answer = jsonrpc.response(request.id, msgspec.Raw(self._result or b"{}"))
        self._core.act(ToClient(client.number, answer))
        for (method, _), data in self._told.items():
            if client.wants(method):
                self._core.act(ToClient(client.number, data))
        self._emit("connected", client)

    def _emit(self, what: str, client: Client) -> None:
        detail = {"client": client.number, "name": client.name}
        self._core.act(Emit("info", f"client.{what}", f"A client {what}.", detail))
