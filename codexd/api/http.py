"""What an HTTP request and its answers are, to those who answer it: values, no bytes on a wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

import msgspec

from codexd.encoding import encode_json

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
EVENT_STREAM: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"

# A request line and headers; anything longer is no client of ours.
HEAD_LIMIT: Final = 16 << 10
BODY_LIMIT: Final = 1 << 20

_TYPES: Final = "urn:codexd:"


class Access(IntEnum):
    """What whoever asks may do; each includes those before it."""

    OPEN = 0
    METRICS = 1
    READ = 2
    ADMIN = 3
    # Who is on the machine, as the user that codexd runs as.
    OWNER = 4


class Problem(Exception):
    """An answer that says what was wrong (RFC 9457).

    ``kind`` is the stable part of its type, `urn:codexd:KIND`; ``detail`` says in a sentence or
    two what is wrong and what to do; ``more`` are further members. Whoever is told of it waits for
    ``delay_s`` seconds first, and is then asked to leave.
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        self.delay_s = 0.0

    def document(self) -> dict[str, Any]:
        """The members of the answer."""
        return {
            "type": f"{_TYPES}{self.kind}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            **self.more,
        }


class Head(msgspec.Struct, frozen=True):
    """A request without its body. Header names are in lower case; of several with one name, the
    values are joined by commas. ``target`` is the path with its query, as it was sent.
    """

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The target without its query, still in percent-encoding."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self.target.partition("?")[2]

    @property
    def accepts(self) -> tuple[str, ...]:
        """The media types that are asked for, the most wanted first."""
        return _accepted(self.headers.get("accept", ""))

    def wants(self, *offered: str) -> str:
        """Which of the media types that can be had is to be sent; the first if none was named."""
        for accepted in self.accepts:
            for media_type in offered:
                if accepted in (media_type, "*/*", f"{media_type.partition('/')[0]}/*"):
                    return media_type
        return offered[0]


def _accepted(header: str) -> tuple[str, ...]:
    found: list[tuple[float, int, str]] = []
    for place, part in enumerate(header.split(",")):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = _weight(value.strip())
        if media_type and weight > 0:
            found.append((-weight, place, media_type.lower()))
    return tuple(media_type for _, _, media_type in sorted(found))


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


Query = TypeVar("Query")
Body = TypeVar("Body")


class Call(msgspec.Struct, Generic[Query, Body], frozen=True):
    """A request as a handler gets it: checked, and decoded into the types of its route."""

    head: Head
    access: Access
    params: Mapping[str, str]
    query: Query
    body: Body


class Answer(msgspec.Struct, frozen=True):
    """An answer that is there as a whole. ``body`` is bytes, or a value that becomes JSON."""

    body: Any = b""
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    media_type: str = JSON

    def encoded(self) -> bytes:
        """The body as bytes; JSON ends with a newline."""
        if isinstance(self.body, bytes):
            return self.body
        return encode_json(self.body) + b"\n"


class Stream(msgspec.Struct, frozen=True):
    """An answer that comes piece by piece, each sent as it comes.

    Whoever sends it closes ``pieces``, also where the client has left.
    """

    pieces: AsyncGenerator[bytes, None]
    media_type: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


def problem_answer(problem: Problem) -> Answer:
    """The answer that tells of a problem."""
    body = msgspec.json.encode(problem.document()) + b"\n"
    return Answer(body, problem.status, problem.headers, PROBLEM_JSON)


def event_frame(data: bytes, *, event: str | None = None, number: int | None = None) -> bytes:
    """One server-sent event; ``data`` is JSON, and so has no line breaks."""
    lines = [] if number is None else [b"id: %d\n" % number]
    if event is not None:
        lines.append(b"event: " + event.encode() + b"\n")
    return b"".join([*lines, b"data: ", data, b"\n\n"])
