"""The clients of the hub, and the handles that each has open on the one connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub import experimental, jsonrpc
from codexd.hub.introduction import Capabilities, ClientInfo, can_answer
from codexd.hub.jsonrpc import Fields, Message
from codexd.hub.methods import ENDS_HANDLE, HANDLES, RELEASES
from codexd.hub.profile import NOTHING, ClientProfile


class NotIntroduced(ValueError):
    """An `initialize` that codex would refuse too. The text is for the client."""


class InitializeParams(msgspec.Struct, rename="camel"):
    """params of `initialize`."""

    client_info: ClientInfo
    capabilities: Capabilities | None = None


class _Spoken(msgspec.Struct, rename="camel", frozen=True):
    tty: bool = False
    stream_stdin: bool = False
    stream_stdout_stderr: bool = False

    @property
    def is_spoken_with(self) -> bool:
        return self.tty or self.stream_stdin or self.stream_stdout_stderr


# Of a client that hears of its own threads only, and has been here for long.
_PAST_THREADS = 1000
# Of a name, which its client chooses itself.
_NAME_CHARS = 80
_NOBODY = ClientInfo("", "")
_NOTHING = Capabilities()


@dataclass(slots=True)
class Client:
    """One connection. ``initialize`` is its request for as long as it waits for the answer."""

    number: int
    opened_at: float
    info: ClientInfo = _NOBODY
    opt_outs: frozenset[str] = frozenset()
    capabilities: Capabilities = _NOTHING
    initialize: Message | None = None
    initialize_at: float = 0.0
    is_initialized: bool = False
    handles: dict[str, Message] = field(default_factory=dict)
    profile: ClientProfile = NOTHING
    _own: set[str] = field(default_factory=set)
    # Those that it has asked to join, and was not answered yet.
    _asked: set[str] = field(default_factory=set)
    # Those that are gone. Something may still be told of them, and they may come back.
    _past: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name as it is shown."""
        return self.info.name[:_NAME_CHARS]

    def hears_of(self, thread_id: str | None) -> bool:
        """Whether what everybody is told of a thread is for this client too."""
        return not self.profile.private or thread_id is None or self._owns(thread_id)

    def _owns(self, thread_id: str) -> bool:
        return thread_id in self._own or thread_id in self._past or thread_id in self._asked

    def asks_for(self, thread_id: str) -> None:
        """It would join a thread; until it is answered that is one of its own."""
        if self.profile.private:
            self._asked.add(thread_id)

    def uses(self, thread_id: str) -> None:
        """A thread is one of the client's own; of whoever hears of all, that is not kept."""
        if self.profile.private:
            self._asked.discard(thread_id)
            self._own.add(thread_id)

    def was_refused(self, thread_id: str) -> None:
        """It may not join a thread, which is its own only if it was before."""
        self._asked.discard(thread_id)

    def noticed(self, thread_id: str, parent_id: str | None) -> bool:
        """A thread began: what a subagent does is part of what its parent does.

        Returns:
            Whether it is one of the client's own only now.
        """
        if parent_id is None or not self._owns(parent_id) or self._owns(thread_id):
            return False
        self.uses(thread_id)
        return self.profile.private

    def lost(self, thread_id: str) -> None:
        """A thread is gone; the last ones are remembered."""
        if thread_id in self._own:
            self._own.discard(thread_id)
            # The last one to go is the last one to be forgotten.
            self._past.pop(thread_id, None)
            self._past[thread_id] = None
            if len(self._past) > _PAST_THREADS:
                del self._past[next(iter(self._past))]

    def leave_out_others(self, answer: Message) -> None:
        """Of the threads that are loaded, a server of its own would have the client's only."""
        result = answer.result(Fields)
        try:
            loaded = decode_json(result.get("data", b""), list[str])
        except UNDECODABLE:
            return
        own = [thread_id for thread_id in loaded if self._owns(thread_id)]
        result["data"] = msgspec.Raw(msgspec.json.encode(own))
        answer.fields = {**answer.fields, "result": msgspec.Raw(msgspec.json.encode(result))}

    def wants(self, method: str | None) -> bool:
        """Whether the client is to get notifications of this method."""
        return (
            self.is_initialized
            and method not in self.opt_outs
            and (self.capabilities.experimental_api or method not in experimental.NOTIFICATIONS)
        )

    @property
    def is_experimental(self) -> bool:
        """Whether the client gets what is experimental."""
        return self.capabilities.experimental_api

    def can_answer(self, message: Message) -> bool:
        """Whether the server would ask this client that."""
        params = bytes(message.fields.get("params", b"{}"))
        return can_answer(self.capabilities, message.method, params)

    def as_asked(self, message: Message) -> Message:
        """The server's request as this client is to get it."""
        return message if self.is_experimental else experimental.stripped(message)

    def introduce(self, message: Message, now: float) -> None:
        """Take what `initialize` says.

        Raises:
            NotIntroduced: it does not say who the client is, or the client is known.
        """
        try:
            params = decode_json(message.fields.get("params", b"{}"), InitializeParams)
        except UNDECODABLE as error:
            raise NotIntroduced(f"Invalid request: {_as_codex_says(str(error))}") from error
        if self.is_initialized or self.initialize is not None:
            raise NotIntroduced("Already initialized")
        name = params.client_info.name
        if not _fits_a_header(name):
            raise NotIntroduced(
                f"Invalid clientInfo.name: {name!r}. Must be a valid HTTP header value."
            )
        self.info = params.client_info
        if params.capabilities is not None:
            self.capabilities = params.capabilities
            self.opt_outs = frozenset(params.capabilities.opt_out_notification_methods or ())
        self.initialize = message
        self.initialize_at = now


class Handles:
    """Gives each client's handles names of their own on the shared connection.

    ``prefix`` keeps them apart from those of an earlier hub on the same connection.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._unnamed = 0

    def outgoing(self, client: Client, message: Message) -> None:
        """Rename the handle in a client's request, and note what it opens or ends."""
        method = message.method or ""
        name = HANDLES.get(method)
        if name is None:
            return
        raw = message.params(Fields).get(name)
        value = self._name() if _needs_name(message, raw) else _text(raw)
        if value is None:
            return
        full = f"{self._prefix}{client.number}:{value}"
        message.replace_param(name, full)
        if method in RELEASES:
            # A name that is in use already stays with the request that opened it.
            client.handles.setdefault(full, message)
        elif method in ENDS_HANDLE:
            client.handles.pop(full, None)

    def _name(self) -> str:
        # Without a name the server gives the command one of its own, and it could not be ended
        # when its client leaves. A name changes nothing else (measured).
        self._unnamed += 1
        return f"unnamed-{self._unnamed}"

    def restore(self, client: Client, method: str | None, answer: Message) -> None:
        """Have an error, which may cite the handle, name it as the client knows it."""
        error = answer.fields.get("error")
        if error is not None and method in HANDLES:
            text = bytes(error).replace(f"{self._prefix}{client.number}:".encode(), b"")
            answer.fields = {**answer.fields, "error": msgspec.Raw(text)}

    def answered(self, client: Client, message: Message, *, ok: bool) -> None:
        """A request that opened a handle was answered: `command/exec` by its end."""
        if message.method in RELEASES and (not ok or message.method == "command/exec"):
            full = _text(message.params(Fields).get(HANDLES[message.method])) or ""
            if client.handles.get(full) is message:
                del client.handles[full]

    def incoming(self, message: Message) -> tuple[int, bytes] | None:
        """Whose handle a notification is about, and the notification as that client knows it."""
        name = HANDLES[message.method or ""]
        params = message.params(Fields)
        number, colon, value = (
            (_text(params.get(name)) or "").removeprefix(self._prefix).partition(":")
        )
        if not colon or not number.isdecimal() or len(number) > 20:
            return None
        params[name] = msgspec.Raw(msgspec.json.encode(value))
        fields = {**message.fields, "params": params}
        return int(number), msgspec.json.encode(fields)

    def ended(self, client: Client, message: Message) -> None:
        """The server says that a handle is over."""
        if message.method in ENDS_HANDLE:
            full = _text(message.params(Fields).get(HANDLES[message.method or ""]))
            client.handles.pop(full or "", None)

    def original(self, full: str) -> str:
        """The handle as its client knows it."""
        return full.removeprefix(self._prefix).partition(":")[2]

    @staticmethod
    def release(full: str, method: str) -> tuple[str, dict[str, Any]]:
        """The request that lets a handle go which ``method`` has opened."""
        return RELEASES[method], {HANDLES[method]: full}


def process_exited(handle: str) -> bytes:
    """What is told of a process whose end nobody has seen: no output of it is known."""
    output = {"stdout": "", "stdoutCapReached": False, "stderr": "", "stderrCapReached": False}
    params = {"processHandle": handle, "exitCode": -1, **output}
    return jsonrpc.notification("process/exited", params)


def _as_codex_says(text: str) -> str:
    found = re.match(r"Object missing required field (`\w+`)", text)
    return f"missing field {found[1]}" if found else text


def _fits_a_header(name: str) -> bool:
    """codex makes an HTTP header of it, of UTF-8: whatever is no control character."""
    return all(char == "\t" or (char >= " " and char != "\x7f") for char in name)


def _needs_name(message: Message, raw: msgspec.Raw | None) -> bool:
    """Whether it is a command without a name; one that is spoken with the server refuses."""
    if message.method != "command/exec" or not (raw is None or bytes(raw) == b"null"):
        return False
    return not message.params(_Spoken).is_spoken_with


def _text(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return decode_json(raw, str)
    except UNDECODABLE:
        return None
