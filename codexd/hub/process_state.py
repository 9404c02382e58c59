"""What clients have set or begun in the server's process, which a new one knows nothing of."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub import jsonrpc, methods
from codexd.hub.actions import Keep
from codexd.hub.core import Core
from codexd.hub.gateway_login import GatewayLogin
from codexd.hub.jsonrpc import Message
from codexd.hub.kept import KeptLogin, KeptSetting
from codexd.hub.requests import Pending, Requests

# Setting it again must not keep everybody waiting.
_EACH_S = 5.0
_ALL_S = 10.0
# A client that sets or begins ever new things must not fill the memory, nor push out what others
# have set.
_KEPT = 1000
_KEPT_BYTES = 8 << 20
_KEPT_OF_CLIENT = 250
_KEPT_BYTES_OF_CLIENT = 1 << 20
# A login by tokens that the client looks after: the server has them in memory alone.
_IN_MEMORY = "chatgptAuthTokens"
_TOKENS = ("account/login/start", "")
_ENDED = "The app-server was restarted before this was done."


class _Login(msgspec.Struct, rename="camel", frozen=True):
    type: str | None = None
    login_id: str | None = None
    name: str | None = None
    thread_id: str | None = None
    import_id: str | None = None
    success: bool = False

    @property
    def key(self) -> str:
        """By what it is told from others of its kind."""
        return self.login_id or self.import_id or self.name or ""


@dataclass(slots=True)
class _Setting:
    method: str
    params: dict[str, Any]
    client: int
    size: int


def _nothing() -> None:
    pass


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
        self._asked_at = self._begun_at = 0.0
        self._then: Callable[[], None] = _nothing
        # Whether the server may not have been given everything yet.
        self.is_unset = False

    # -- what is set and begun ---------------------------------------------------------------

    def succeeded(self, entry: Pending, answer: Message) -> None:
        """A client's request was answered with a result."""
        method = entry.message.method or ""
        if method in methods.PROCESS_SETTINGS and entry.client is not None:
            params = entry.message.params(dict[str, Any])
            self._set(_Setting(method, params, entry.client, len(entry.message.data)))
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
        while (client := self._who_has_too_much(setting.client)) is not None:
            first = next(key for key, kept in self._settings.items() if kept.client == client)
            dropped = self._settings.pop(first)
            self._warn(
                client, f"Too much is set: after a restart {dropped.method} is not repeated."
            )

    def _who_has_too_much(self, newest: int) -> int | None:
        """The client whose oldest setting must go; None where there is room for all."""
        counts, sizes = Counter[int](), Counter[int]()
        for kept in self._settings.values():
            counts[kept.client] += 1
            sizes[kept.client] += kept.size
        if counts[newest] > _KEPT_OF_CLIENT or sizes[newest] > _KEPT_BYTES_OF_CLIENT:
            return newest
        if counts.total() > _KEPT:
            return counts.most_common(1)[0][0]
        return sizes.most_common(1)[0][0] if sizes.total() > _KEPT_BYTES else None

    def _warn(self, client: int, text: str) -> None:
        data = jsonrpc.notification("warning", {"message": text, "threadId": None})
        # Who set it for an earlier hub has another number now, if it is there.
        who = (client,) if client > 0 else tuple(self._core.clients)
        self._core.tell(who, Message(data, {}, "warning"))

    def _login_began(self, method: str, entry: Pending, answer: Message) -> None:
        asked, got = entry.message.params(_Login), answer.result(_Login)
        if method == "account/login/start" and got.login_id is None:
            # With a key there is nothing to wait for; and what is not written down is set.
            self._settings.pop(_TOKENS, None)
            if asked.type == _IN_MEMORY and entry.client is not None:
                params = entry.message.params(dict[str, Any])
                self._set(_Setting(method, params, entry.client, len(entry.message.data)))
            return
        login = _Login(None, got.login_id, asked.name, asked.thread_id, got.import_id)
        self._logins[method, login.key] = login
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
                self._logins.pop((method, message.params(_Login).key), None)

    @property
    def has_settings(self) -> bool:
        """Whether there is anything to set again."""
        return bool(self._settings)

    # -- for the next hub --------------------------------------------------------------------

    @property
    def kept_settings(self) -> list[KeptSetting]:
        """What is to be set again, in order."""
        return [
            KeptSetting(entry.method, entry.params, entry.client)
            for entry in self._settings.values()
            # Tokens that are in memory alone are not for a file.
            if entry.method in methods.PROCESS_SETTINGS
        ]

    @property
    def kept_logins(self) -> list[KeptLogin]:
        """The logins that are in progress."""
        return [
            KeptLogin(method, login.login_id, login.name, login.thread_id, login.import_id)
            for (method, _), login in self._logins.items()
        ]

    def restore(self, settings: Iterable[KeptSetting], logins: Iterable[KeptLogin]) -> None:
        """Take over what an earlier hub kept. Its clients have other numbers now, if any."""
        for kept in settings:
            if kept.method in methods.PROCESS_SETTINGS:
                size = len(msgspec.json.encode(kept.params))
                self._set(_Setting(kept.method, kept.params, -abs(kept.client), size))
        for login in logins:
            if login.method in methods.LOGINS:
                known = _Login(None, login.login_id, login.name, login.thread_id, login.import_id)
                self._logins[login.method, known.key] = known

    # -- a new process -----------------------------------------------------------------------

    def end_logins(self) -> None:
        """Nobody will hear any more how they went: they failed."""
        self.gateway.ended(_ENDED)
        logins, self._logins = self._logins, {}
        for (method, _), login in logins.items():
            self._tell(methods.LOGINS[method], _ended(method, login))

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        data = jsonrpc.notification(method, params)
        self._core.tell(tuple(self._core.clients), Message(data, {}, method))

    def set_again(self, then: Callable[[], None]) -> None:
        """Set everything again, one after the other; call ``then`` once that is done."""
        self._todo = list(self._settings.values())
        self._is_unset(bool(self._todo))
        self._then = then
        self._begun_at = self._core.now
        self._next()

    def child_lost(self) -> None:
        """The child is gone: the next one is to be told anew."""
        self._todo, self._current = [], None

    @property
    def is_waiting(self) -> bool:
        """Whether an answer of the child is waited for."""
        return self._current is not None

    def tick(self) -> None:
        """Time passes: an answer may never come, and many may take long."""
        if self._current is not None and self._core.now - self._begun_at > _ALL_S:
            self._go_on()
        if self._current is not None and self._core.now - self._asked_at > _EACH_S:
            self._answered(self._current, None)

    def _next(self) -> None:
        self._current = self._todo.pop(0) if self._todo else None
        if self._current is not None:
            self._asked_at = self._core.now
            on_answer = functools.partial(self._answered, self._current)
            self._requests.own(self._current.method, self._current.params, on_answer)
            return
        self._is_unset(is_unset=False)
        self._go_on()

    def _is_unset(self, is_unset: bool) -> None:
        if self.is_unset != is_unset:
            self.is_unset = is_unset
            self._core.act(Keep())

    def _go_on(self) -> None:
        then, self._then = self._then, _nothing
        then()

    def _answered(self, setting: _Setting, answer: Message | None) -> None:
        if setting is not self._current:
            return
        if answer is None or "result" not in answer.fields:
            why = "it did not answer in time" if answer is None else error_text(answer)
            text = f"The app-server was restarted and did not take {setting.method} again: {why}"
            self._warn(setting.client, text)
        self._next()


def _ended(method: str, login: _Login) -> dict[str, Any]:
    """The params that tell of an end which the server will not tell."""
    if method == "externalAgentConfig/import":
        return {"importId": login.import_id or "", "itemTypeResults": []}
    params = {"success": False, "error": _ENDED, "loginId": login.login_id}
    if method == "mcpServer/oauth/login":
        params |= {"name": login.name or "", "threadId": login.thread_id}
    return params


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
        return decode_json(answer.data, _Failed).error.message
    except UNDECODABLE:
        return "unknown"
