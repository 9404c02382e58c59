"""Handles that a client of `codexd attach` has open, which end with a connection to the hub."""

from __future__ import annotations

from codexd.encoding import decode_json
from codexd.hub.clients import process_exited
from codexd.hub.jsonrpc import Fields, Message
from codexd.hub.methods import ENDS_HANDLE, HANDLES, RELEASES, REOPENED

_PROCESS = "process/spawn"


class OpenHandles:
    """Watches and the like are opened again over the next connection; processes have ended."""

    def __init__(self) -> None:
        # By what would end it, and its name.
        self._open: dict[tuple[str, bytes], Message] = {}

    def answered(self, request: Message) -> None:
        """A request of the client was answered with a result."""
        method = request.method or ""
        if method in REOPENED or method == _PROCESS:
            end = "process/exited" if method == _PROCESS else RELEASES[method]
            self._open[end, _name(request)] = request

    def asked(self, request: Message) -> None:
        """The client asks for something: it may be an end."""
        self._ended(request)

    def told(self, notification: Message) -> None:
        """The server tells something: it may be an end."""
        self._ended(notification)

    def _ended(self, message: Message) -> None:
        if message.method in ENDS_HANDLE:
            self._open.pop((message.method or "", _name(message)), None)

    def lost(self) -> list[bytes]:
        """The connection is gone, and processes with it: what the client is told of them."""
        over = [key for key, request in self._open.items() if request.method == _PROCESS]
        for key in over:
            del self._open[key]
        return [process_exited(_text(name)) for _, name in over]

    def to_reopen(self) -> list[Message]:
        """The requests that open again what goes on."""
        return list(self._open.values())


def _name(message: Message) -> bytes:
    return bytes(message.params(Fields).get(HANDLES[message.method or ""], b"null"))


def _text(raw: bytes) -> str:
    found: str = decode_json(raw, str)
    return found
