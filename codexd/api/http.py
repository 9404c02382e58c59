"""As much of HTTP/1.1 as a local API needs: one request, one answer, one connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import msgspec

# A request line and headers; anything longer is no client of ours.
HEAD_LIMIT: Final = 16 << 10
HEAD_END: Final = b"\r\n\r\n"


class BadRequest(Exception):
    """A request head that cannot be understood. The text goes to the client."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its body. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks to go on as a WebSocket (RFC 6455, section 4.2.1)."""
        return self.headers.get("upgrade", "").strip().lower() == "websocket"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer: a JSON text, and headers besides those that every answer has."""

    status: HTTPStatus
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The bytes for the wire."""
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


HttpHandler = Callable[[HttpRequest], HttpResponse]


def error_response(
    status: HTTPStatus, text: str, headers: dict[str, str] | None = None
) -> HttpResponse:
    """An answer that says in one line what was wrong."""
    return HttpResponse(status, msgspec.json.encode({"error": text}) + b"\n", headers or {})


def parse_head(head: bytes) -> HttpRequest:
    """Read a request line and headers, up to and without the empty line.

    Raises:
        BadRequest: it is not HTTP/1.x.
    """
    request_line, *header_lines = head.decode("latin-1").split("\r\n")
    words = request_line.split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/1."):
        raise BadRequest("This is not an HTTP/1.1 request.")
    headers: dict[str, str] = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest("A header of the request is malformed.")
        headers[name.lower()] = value.strip()
    return HttpRequest(words[0], words[1].partition("?")[0], headers)
