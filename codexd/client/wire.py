"""One HTTP exchange as a client has it, without I/O (h11): bytes to be sent, bytes that came."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import h11
import msgspec

from codexd.client.address import Address
from codexd.client.errors import DaemonAway, DaemonError, Refused
from codexd.encoding import UNDECODABLE, decode_json, encode_json

EVENT_STREAM = "text/event-stream"


def target(path: str, *parts: str, **query: Any) -> str:
    """A request's target: ``parts`` go into the path's braces, and None stays out of the query."""
    text = path.format(*(quote(part, safe="") for part in parts))
    given: list[tuple[str, str]] = []
    for name, value in query.items():
        values = value if isinstance(value, list | tuple) else [value]
        given += [(name, _text(entry)) for entry in values if entry is not None]
    return f"{text}?{urlencode(given)}" if given else text


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Exchange:
    """One request and its answer. ``last_event_id`` is for a stream that goes on.

    ``location`` is where that is which the answer tells of, if it says.
    """

    def __init__(
        self,
        address: Address,
        method: str,
        path: str,
        body: Any = None,
        *,
        accept: str | None = None,
        last_event_id: str | None = None,
    ) -> None:
        self._address = address
        self._h11 = h11.Connection(h11.CLIENT)
        self.status = 0
        self.location: str | None = None
        data = b"" if body is None else encode_json(body)
        headers = [("Host", address.authority), ("Connection", "close")]
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        elif method != "GET":
            headers.append(("Content-Length", "0"))
        if accept is not None:
            headers.append(("Accept", accept))
        if last_event_id is not None:
            headers.append(("Last-Event-ID", last_event_id))
        if address.token is not None:
            headers.append(("Authorization", f"Bearer {address.token}"))
        sent = self._h11.send(h11.Request(method=method, target=path, headers=headers)) or b""
        if data:
            sent += self._h11.send(h11.Data(data=data)) or b""
        self.request = sent + (self._h11.send(h11.EndOfMessage()) or b"")
        self.is_over = False

    def feed(self, data: bytes) -> bytes:
        """Bytes came (none: the connection has ended); returns what they hold of the body.

        Raises:
            DaemonAway: it ended before the answer did.
            DaemonError: that is no HTTP.
        """
        body = b""
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                    found = [value for name, value in event.headers if name == b"location"]
                    self.location = found[0].decode("ascii", "replace") if found else None
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.is_over = True
                    return body
                elif event is h11.NEED_DATA or not isinstance(event, h11.InformationalResponse):
                    return body
        except h11.RemoteProtocolError as error:
            if not data:
                text = f"The daemon at {self._address.name} has hung up before it answered."
                raise DaemonAway(text) from error
            text = f"What answers at {self._address.name} speaks no HTTP: {error}."
            raise DaemonError(text) from error

    @property
    def is_refused(self) -> bool:
        """Whether the answer is a problem, and no answer to what was asked."""
        return self.status >= 400


class _Problem(msgspec.Struct):
    type: str = ""
    title: str = ""
    detail: str = ""
    field: str | None = None


def refusal(status: int, body: bytes) -> Refused:
    """What a problem says."""
    try:
        problem = decode_json(body, _Problem)
    except UNDECODABLE:
        problem = _Problem()
    kind = problem.type.rpartition(":")[2] or "unknown"
    text = problem.detail or problem.title or f"The daemon answered with status {status}."
    return Refused(status, kind, text, problem.field)


_Answer = TypeVar("_Answer")


def decoded(data: bytes, type_: type[_Answer]) -> _Answer:
    """An answer as what it should be.

    Raises:
        DaemonError: it is none.
    """
    try:
        return decode_json(data, type_)
    except UNDECODABLE as error:
        raise DaemonError(f"The daemon's answer is not understood: {error}.") from error


def no_answer(address: Address, error: OSError) -> str:
    """One line for who found nobody there."""
    why = error.strerror or str(error)
    return f"No daemon answers at {address.name}: {why}. `codexd status` tells more."


def gone(address: Address, error: OSError) -> str:
    """One line for who was in the middle of it."""
    return f"The daemon at {address.name} is gone: {error.strerror or error}."


class Events:
    """Server-sent events out of a stream's bytes (WHATWG HTML, section 9.2)."""

    def __init__(self) -> None:
        self._held = b""
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Every event that is whole now: its name, and its data."""
        *lines, self._held = (self._held + data).split(b"\n")
        found: list[tuple[str, bytes]] = []
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if name == b"event":
                self._event = value.decode("utf-8", "replace")
            elif name == b"data":
                self._data.append(value)
            elif not name and not value and self._data:
                found.append((self._event or "message", b"\n".join(self._data)))
                self._event, self._data = "", []
        return found
