"""Who comes in where codexd stands in for `codex app-server --listen`: the head of a connection.

As codex has it (0.163 and 0.169, measured): any path is upgraded, `/readyz` and `/healthz` are
answered, and what carries an Origin comes from a web page and is sent away.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from http import HTTPStatus

from codexd.client.bearer import Bearer, Unauthorized, authorize
from codexd.client.bridge import ClientGone
from codexd.client.websocket_end import NoUpgrade, WebSocketEnd

# codex takes 16 KiB, as most do.
_HEAD_LIMIT = 16 << 10
_HEAD_END = b"\r\n\r\n"
_HEAD_S = 30.0
_ANSWER_S = 5.0
_READ_BYTES = 64 << 10
_NOT_ASKED = "Connection header did not include 'upgrade'"


class _Answered(Exception):
    """It is no upgrade, and gets this."""

    def __init__(
        self, status: HTTPStatus, text: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


class Doorway:
    """Lets clients in, and answers whoever asks over HTTP.

    ``is_ready()`` tells whether a client that comes in now is served. ``refuses_pages``: a request
    with an Origin is refused.
    """

    def __init__(
        self,
        is_ready: Callable[[], bool],
        bearer: Bearer | None = None,
        *,
        refuses_pages: bool = True,
    ) -> None:
        self._is_ready = is_ready
        self._bearer = bearer
        self._refuses_pages = refuses_pages

    def enter(self, reader: int, writer: int) -> WebSocketEnd | None:
        """The client that comes in on these descriptors; None for one that does not."""
        method = ""
        try:
            with contextlib.suppress(OSError, ClientGone):
                head, rest = _read_head(reader)
                method = head.partition(b" ")[0].decode("latin-1")
                end = self._upgrade(head, rest, reader, writer)
                # It is let in at once, however long the hub may take.
                end.write()
                return end
        except _Answered as answer:
            _answer(writer, answer, is_head=method == "HEAD")
        return None

    def turn_away(self, reader: int, writer: int) -> None:
        """Say to whoever comes in that there is no room."""
        with contextlib.suppress(OSError, _Answered):
            _read_head(reader)
        _answer(writer, _Answered(HTTPStatus.SERVICE_UNAVAILABLE), is_head=False)

    def _upgrade(self, head: bytes, rest: bytes, reader: int, writer: int) -> WebSocketEnd:
        method, path, headers = _parse(head)
        if self._refuses_pages and "origin" in headers:
            raise _Answered(HTTPStatus.FORBIDDEN)
        if method not in ("GET", "HEAD"):
            raise _Answered(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "GET,HEAD"})
        if path == "/healthz":
            raise _Answered(HTTPStatus.OK)
        if path == "/readyz":
            ready = self._is_ready()
            raise _Answered(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)
        if "upgrade" not in headers.get("connection", "").lower():
            raise _Answered(HTTPStatus.BAD_REQUEST, _NOT_ASKED)
        try:
            authorize(self._bearer, headers.get("authorization"))
            return WebSocketEnd(reader, writer, head, rest)
        except Unauthorized as error:
            raise _Answered(HTTPStatus.UNAUTHORIZED, str(error)) from error
        except NoUpgrade as error:
            raise _Answered(HTTPStatus.BAD_REQUEST, str(error)) from error


def _read_head(reader: int) -> tuple[bytes, bytes]:
    """The head, with its end, and what came behind it."""
    data = bytearray()
    deadline = time.monotonic() + _HEAD_S
    while (end := data.find(_HEAD_END)) < 0 and len(data) <= _HEAD_LIMIT:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([reader], [], [], left_s)[0]:
            raise TimeoutError
        piece = os.read(reader, _READ_BYTES)
        if not piece:
            raise ConnectionResetError
        data += piece
    if end < 0 or end > _HEAD_LIMIT:
        raise _Answered(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    end += len(_HEAD_END)
    return bytes(data[:end]), bytes(data[end:])


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """The method, the path without its query, and the headers by their names in lower case."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    pairs = [line.partition(":") for line in lines]
    is_odd = len(words) != 3 or not words[2].startswith("HTTP/1.")
    if is_odd or any(not colon or name != name.strip() for name, colon, _ in pairs):
        raise _Answered(HTTPStatus.BAD_REQUEST)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return words[0], words[1].partition("?")[0], headers


def _answer(writer: int, answer: _Answered, *, is_head: bool) -> None:
    body = answer.text.encode()
    headers = {**answer.headers, "content-length": str(len(body)), "connection": "close"}
    if body:
        headers["content-type"] = "text/plain; charset=utf-8"
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if is_head else body)
    # It is short: whoever has no room for it does not read.
    with contextlib.suppress(OSError):
        if select.select([], [writer], [], _ANSWER_S)[1]:
            os.write(writer, data)
