"""`initialize`: each client's own, answered from the one that codexd did with the child."""

from __future__ import annotations

from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.hub import jsonrpc, methods
from codexd.hub.actions import CloseClient, Emit, ToClient
from codexd.hub.clients import Client, NotIntroduced
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Fields, Message

# WebSocket's "policy violation" (RFC 6455, section 7.4.1).
_POLICY_VIOLATION = 1008
# A server that warns without end must not fill the memory, nor greet its clients without end.
_KEPT = 100
# The name under which codexd itself shook hands.
_OWN_NAME = "codexd"


class _ConfigWarning(msgspec.Struct):
    summary: str = ""
    details: str | None = None
    path: str | None = None


class Greeting:
    """Answers `initialize`, and tells new clients what the server tells a new connection."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._result: bytes | None = None
        self._told: dict[tuple[str, bytes], bytes] = {}

    def child_ready(self, initialize_result: bytes) -> None:
        """A child has answered codexd: now clients that waited for that can be answered."""
        self._result = initialize_result
        self._told.clear()
        for client in self._core.clients.values():
            if client.initialize is not None:
                self._answer(client)

    def noticed(self, message: Message) -> None:
        """The server told something that it tells every new connection."""
        if message.method in methods.GREETING:
            # Of warnings there may be several; of anything else the last one holds.
            key = message.data if message.method == "configWarning" else b""
            self._told[message.method or "", key] = message.data
            if len(self._told) > _KEPT:
                del self._told[next(iter(self._told))]

    @property
    def config_faults(self) -> list[str]:
        """What the server says is wrong with its configuration, where it names the file."""
        messages = [jsonrpc.parse(data) for data in self._told.values()]
        warnings = [
            message.params(_ConfigWarning)
            for message in messages
            if message is not None and message.method == "configWarning"
        ]
        return [f"{entry.summary} {entry.details or ''}" for entry in warnings if entry.path]

    def initialize(self, client: Client, message: Message, now: float) -> None:
        """A client wants to initialize."""
        assert message.id is not None
        if client.is_initialized or client.initialize is not None:
            text = "Already initialized"
            self._core.error(client.number, message.id, jsonrpc.INVALID_REQUEST, text)
            return
        try:
            client.introduce(message, now)
        except NotIntroduced as error:
            self._core.error(client.number, message.id, jsonrpc.INVALID_REQUEST, str(error))
            return
        if self._result is not None and self._core.state != "away":
            self._answer(client)

    def left(self, client: Client) -> None:
        """A client is gone."""
        if client.is_initialized:
            self._emit("disconnected", client)

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

    def _refuse(self, client: Client, now: float) -> None:
        request, client.initialize = client.initialize, None
        client.opened_at = now
        assert request is not None
        assert request.id is not None
        text = "The app-server is away and did not come back in time."
        code, data = jsonrpc.OVERLOADED, {"codexd": {"reason": "away"}}
        self._core.error(client.number, request.id, code, text, data)

    def _answer(self, client: Client) -> None:
        request, client.initialize = client.initialize, None
        assert request is not None
        assert request.id is not None
        client.is_initialized = True
        answer = jsonrpc.response(request.id, self._result_for(client))
        self._core.act(ToClient(client.number, answer))
        for (method, _), data in self._told.items():
            if client.wants(method):
                self._core.act(ToClient(client.number, data))
        self._emit("connected", client)

    def _result_for(self, client: Client) -> Any:
        """The child's own answer, with the client's name where the server puts it."""
        try:
            result: Fields = msgspec.json.decode(self._result or b"{}", type=Fields)
        except UNDECODABLE:
            # Whatever it is, it is what the server says.
            return msgspec.Raw(self._result or b"{}")
        agent = _text(result.get("userAgent"))
        if agent is not None and client.info.name:
            result["userAgent"] = msgspec.Raw(msgspec.json.encode(_rename(agent, client)))
        return result

    def _emit(self, what: str, client: Client) -> None:
        detail = {"client": client.number, "name": client.info.name[:80]}
        self._core.act(Emit("info", f"client.{what}", f"A client {what}.", detail))


def _text(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except UNDECODABLE:
        return None


def _rename(agent: str, client: Client) -> str:
    """codex 0.163: ``NAME/VERSION (system) terminal (NAME; CLIENT VERSION)``."""
    if agent.startswith(f"{_OWN_NAME}/"):
        agent = client.info.name + agent[len(_OWN_NAME) :]
    head, mark, _ = agent.rpartition(f" ({_OWN_NAME};")
    return f"{head} ({client.info.name}; {client.info.version})" if mark else agent
