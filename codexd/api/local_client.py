"""A client of the hub in this process: what comes over HTTP goes the way of everybody's requests.

It is let in, numbered, waited for and refused as one on a socket is. What it is asked to approve it
leaves to whoever decides (see :mod:`.approvals`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from codexd import __version__
from codexd.api.http import Problem
from codexd.api.websocket import HubAdapter
from codexd.encoding import UNDECODABLE, decode_json, json_decoder
from codexd.hub.jsonrpc import METHOD_NOT_FOUND, OVERLOADED, SERVER_RESTARTED
from codexd.hub.profile import ClientProfile

NAME: Final = "codexd_http"

_INITIALIZE: Final = {
    "clientInfo": {"name": NAME, "title": "codexd over HTTP", "version": __version__},
    "capabilities": {"experimentalApi": True},
}
# It hears of its own threads only.
_PROFILE: Final = ClientProfile(private=True)
# JSON-RPC 2.0, section 5.1: an internal error.
SERVER_FAILED: Final = -32603
# No code of anybody's: the hub has ended the connection, or did not answer.
HUNG_UP: Final = 0
# The hub answers everything in time; this is for a hub that does not.
_PATIENCE_S: Final = 600.0


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Subject(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str | None = None
    conversation_id: str | None = None


class _Message(msgspec.Struct, frozen=True):
    id: int | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None


_decode = json_decoder(_Message).decode
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The server, or the hub for it, has answered with an error; or the hub has hung up."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class LocalClient:
    """One client; a :class:`.websocket.ClientEnd`.

    ``told(method, params, message)`` hears every notification: its params as raw JSON, and the
    whole of it. ``gone()`` is called when the hub has hung up. Both may be set later.
    """

    def __init__(self, adapter: HubAdapter) -> None:
        self._adapter = adapter
        self.told: Callable[[str, msgspec.Raw, bytes], None] | None = None
        self.gone: Callable[[], None] | None = None
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._is_open = True
        self._number = adapter.opened(_PROFILE, self)

    async def introduce(self) -> None:
        """Say who this is; the first thing to be done.

        Raises:
            Refused: the server did not come in time.
        """
        await self.ask("initialize", _INITIALIZE)
        self._say({"method": "initialized"})

    async def ask(self, method: str, params: Any) -> msgspec.Raw:
        """The result of a request, as raw JSON.

        Raises:
            Refused: it was answered with an error.
        """
        if not self._is_open:
            raise Refused(HUNG_UP, "The hub has ended the connection.")
        id_ = next(self._ids)
        answer = self._waiting[id_] = asyncio.get_running_loop().create_future()
        self._say({"id": id_, "method": method, "params": params})
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return msgspec.Raw(await answer)
        except TimeoutError:
            raise Refused(HUNG_UP, f"{method} was not answered in time.") from None
        finally:
            self._waiting.pop(id_, None)

    @property
    def is_open(self) -> bool:
        """Whether the hub still has it as a client."""
        return self._is_open

    def leave(self) -> None:
        """Go; what was asked is not answered any more."""
        if self._is_open:
            self._end()
            self._adapter.closed(self._number)

    def _say(self, message: dict[str, Any]) -> None:
        self._adapter.message(self._number, _encode(message))

    def _end(self) -> None:
        self._is_open = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Refused(HUNG_UP, "The hub has ended the connection."))

    # -- for the hub (ClientEnd) ---------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """A message for this client. Nothing is said to the hub from here: it is not done yet."""
        try:
            message = _decode(data)
        except UNDECODABLE:
            return
        if message.method is None:
            self._answered(message)
        elif message.id is not None:
            self._asked(message, message.id)
        elif self.told is not None:
            self.told(message.method, message.params, data)

    def close(self, code: int, reason: str) -> None:
        """The hub wants no more of it."""
        del code, reason
        if self._is_open:
            self._end()
            asyncio.get_running_loop().call_soon(self._lost)

    def _lost(self) -> None:
        self._adapter.closed(self._number)
        if self.gone is not None:
            self.gone()

    def _answered(self, message: _Message) -> None:
        answer = self._waiting.get(-1 if message.id is None else message.id)
        if answer is None or answer.done():
            return
        if message.error is not None:
            answer.set_exception(Refused(message.error.code, message.error.message))
        else:
            answer.set_result(message.result)

    def _asked(self, message: _Message, id_: int) -> None:
        """What concerns a thread waits for whoever decides; the rest is for a client that can."""
        try:
            subject = decode_json(message.params, _Subject)
        except UNDECODABLE:
            subject = _Subject()
        if (subject.thread_id or subject.conversation_id) is None:
            text = f"{NAME} cannot do {message.method}."
            error = {"code": METHOD_NOT_FOUND, "message": text}
            asyncio.get_running_loop().call_soon(self._refuse, {"id": id_, "error": error})

    def _refuse(self, answer: dict[str, Any]) -> None:
        if self._is_open:
            self._say(answer)


# What codex 0.163 says of a thread that it does not have (measured).
_UNKNOWN: Final = (
    "thread not found",
    "no rollout found",
    "invalid thread id",
    "invalid session id",
)


# What it calls a failure of its own, and is the asker's.
_ASKERS: Final = ("emptyinput",)


def problem_of(refused: Refused) -> Problem:
    """What a refusal is over HTTP: the server's own words, and what to do."""
    # In one line: a fault in a configuration has several.
    words = " ".join(str(refused).split())
    text = f"The server says: {words}" if words else "It was refused without a word."
    unavailable, soon = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}
    if any(part in text.lower() for part in _UNKNOWN):
        return Problem(HTTPStatus.NOT_FOUND, "thread-not-found", text)
    if refused.code == OVERLOADED:
        return Problem(unavailable, "overloaded", text, headers=soon)
    if refused.code == SERVER_RESTARTED:
        return Problem(unavailable, "server-restarted", text, headers=soon)
    if refused.code == SERVER_FAILED and not any(part in text.lower() for part in _ASKERS):
        return Problem(unavailable, "server-failed", text, headers=soon)
    if refused.code == HUNG_UP:
        return Problem(unavailable, "server-away", text, headers=soon)
    return Problem(HTTPStatus.BAD_REQUEST, "refused", text)
