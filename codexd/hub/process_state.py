"""What clients have set or begun in the server's process, which a new one knows nothing of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.hub import jsonrpc, methods
from codexd.hub.actions import ToClient
from codexd.hub.core import Core
from codexd.hub.gateway_login import GatewayLogin
from codexd.hub.jsonrpc import Message
from codexd.hub.requests import Pending, Requests

# Setting it again must not keep everybody waiting.
_EACH_S = 5.0
# A client that sets or begins ever new things must not fill the memory.
_KEPT = 1000
# A login by tokens that the client looks after: the server has them in memory alone.
_IN_MEMORY = "chatgptAuthTokens"
_TOKENS = ("account/login/start", "")
_ENDED = "The app-server was restarted before this was done."


class _Login(msgspec.Struct, rename="camel", frozen=True):
    type: str | None = None
    login_id: str | None = None
    name: str | None = None
    thread_id: str | None = None
    success: bool = False


@dataclass(slots=True)
class _Setting:
    method: str
    params: dict[str, Any]
    client: int


class ProcessState:
    """Remembers what was set for the whole process, and sets it again in the next one."""

    def __init__(self, core: Core, requests: Requests) -> None:
        self._core = core
        self._requests = requests
        self.gateway = GatewayLogin(core, requests)
        # In the order in which they were set.
        self._settings: dict[tuple[str, str], _Setting] = {}
        self._logins: dict[tuple[str, str], _Login] = {}
        self._todo: list[_Setting] = []
        self._current: _Setting | None = None
        self._asked_at = 0.0
        self._then: Callable[[], None] = lambda: None

    # -- what is set and begun ---------------------------------------------------------------

    def succeeded(self, entry: Pending, answer: Message) -> None:
        """A client's request was answered with a result."""
        method = entry.message.method or ""
        if method in methods.PROCESS_SETTINGS and entry.client is not None:
            self._set(_Setting(method, entry.message.params(dict[str, Any]), entry.client))
        elif method in methods.PROCESS_RESETS:
            self._settings.pop((methods.PROCESS_RESETS[method], ""), None)
        elif method in methods.LOGINS:
            self._login_began(method, entry, answer)
        elif method == "account/login/cancel":
            login = entry.message.params(_Login)
            self._logins.pop(("account/login/start", login.login_id or ""), None)

    def _set(self, setting: _Setting) -> None:
        name = methods.PROCESS_SETTINGS.get(setting.method)
        value = setting.params.get(name) if name is not None else None
        # What turns features on and off goes by the features.
        what = sorted(value) if isinstance(value, dict) else value
        key = (setting.method, "" if what is None else str(what))
        self._settings.pop(key, None)
        self._settings[key] = setting
        if len(self._settings) > _KEPT:
            del self._settings[next(iter(self._settings))]

    def _login_began(self, method: str, entry: Pending, answer: Message) -> None:
        asked, got = entry.message.params(_Login), answer.result(_Login)
        if method == "account/login/start" and got.login_id is None:
            # With a key there is nothing to wait for; and what is not written down is set.
            self._settings.pop(_TOKENS, None)
            if asked.type == _IN_MEMORY and entry.client is not None:
                self._set(_Setting(method, entry.message.params(dict[str, Any]), entry.client))
            return
        self._logins[method, got.login_id or asked.name or ""] = _Login(
            login_id=got.login_id, name=asked.name, thread_id=asked.thread_id
        )
        if len(self._logins) > _KEPT:
            del self._logins[next(iter(self._logins))]

    def told(self, message: Message) -> None:
        """The server tells something: it may be that a login is over."""
        self.gateway.told(message)
        if message.method == "account/login/completed":
            over = message.params(_Login)
            if over.success and over.login_id is not None:
                # It takes the place of the tokens that were handed over.
                self._settings.pop(_TOKENS, None)
        for method, over in methods.LOGINS.items():
            if message.method == over:
                login = message.params(_Login)
                self._logins.pop((method, login.login_id or ""), None)
                self._logins.pop((method, login.name or ""), None)

    @property
    def has_settings(self) -> bool:
        """Whether there is anything to set again."""
        return bool(self._settings)

    # -- a new process -----------------------------------------------------------------------

    def end_logins(self) -> None:
        """Nobody will hear any more how they went: they failed."""
        self.gateway.ended(_ENDED)
        logins, self._logins = self._logins, {}
        for (method, _), login in logins.items():
            params: dict[str, Any] = {"success": False, "error": _ENDED, "loginId": login.login_id}
            if method == "mcpServer/oauth/login":
                params |= {"name": login.name or "", "threadId": login.thread_id}
            over = methods.LOGINS[method]
            data = jsonrpc.notification(over, params)
            self._core.tell(tuple(self._core.clients), Message(data, {}, over))

    def set_again(self, then: Callable[[], None]) -> None:
        """Set everything again, one after the other; call ``then`` once that is done."""
        self._todo = list(self._settings.values())
        self._then = then
        self._next()

    def child_lost(self) -> None:
        """The child is gone: the next one is to be told anew."""
        self._todo, self._current = [], None

    def tick(self) -> None:
        """Time passes: an answer may never come."""
        if self._current is not None and self._core.now - self._asked_at > _EACH_S:
            self._answered(self._current, None)

    def _next(self) -> None:
        self._current = self._todo.pop(0) if self._todo else None
        if self._current is not None:
            self._asked_at = self._core.now
            on_answer = functools.partial(self._answered, self._current)
            self._requests.own(self._current.method, self._current.params, on_answer)
        else:
            self._then()

    def _answered(self, setting: _Setting, answer: Message | None) -> None:
        if setting is not self._current:
            return
        if answer is None or "result" not in answer.fields:
            why = "it did not answer in time" if answer is None else error_text(answer)
            text = f"The app-server was restarted and did not take {setting.method} again: {why}"
            if self._core.wants(setting.client, "warning"):
                data = jsonrpc.notification("warning", {"message": text, "threadId": None})
                self._core.act(ToClient(setting.client, data))
        self._next()


class _ErrorText(msgspec.Struct, frozen=True):
    message: str = "unknown"


class _Failed(msgspec.Struct, frozen=True):
    error: _ErrorText = _ErrorText()


_REASON_LENGTH = 200


def error_text(answer: Message) -> str:
    """What an error answer says, for a log."""
    return whole_error_text(answer)[:_REASON_LENGTH]


def whole_error_text(answer: Message) -> str:
    """What an error answer says, however long that is."""
    try:
        return msgspec.json.decode(answer.data, type=_Failed).error.message
    except UNDECODABLE:
        return "unknown"
