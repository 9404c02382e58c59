"""Asking a running daemon how it is.

Two small requests over a Unix socket, in plain HTTP/1.1: `codexd status` is not to load what it
takes to speak the whole of it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import msgspec

from codexd.client.errors import DaemonAway, DaemonError
from codexd.encoding import UNDECODABLE
from codexd.platform.peer import require_own_peer

_ASK_TIMEOUT_S = 1.0
# The first page loads what makes it.
_PAGE_TIMEOUT_S = 10.0
_READ_BYTES = 64 << 10


def ask_hub(socket_path: str) -> dict[str, Any] | None:
    """What the hub tells in `GET /v1/status` on codexd.sock; None where nobody answers."""
    try:
        status, body = get(socket_path, "/v1/status", _ASK_TIMEOUT_S)
        document = msgspec.json.decode(body) if status == 200 else None
    except (DaemonError, *UNDECODABLE):
        return None
    if not isinstance(document, dict):
        return None
    # A daemon of an older version tells nothing else.
    hub = document.get("hub", document)
    return hub if isinstance(hub, dict) else None


def fetch_metrics(socket_path: str) -> bytes:
    """The page of `GET /metrics` on the codexd.sock at ``socket_path``.

    Raises:
        DaemonError: nobody gives it; the text says why.
    """
    status, body = get(socket_path, "/metrics", _PAGE_TIMEOUT_S)
    if status >= 400:
        text = f"{socket_path} answers {status} to GET /metrics"
        raise DaemonError(f"{text}: is that daemon of an older version?")
    return body


def get(socket_path: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    """The status and the body of what is answered to `GET PATH`, within ``timeout_s`` seconds.

    Raises:
        DaemonAway: nobody answers in time.
        DaemonError: what answers speaks no HTTP, or is another user's.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    deadline = time.monotonic() + timeout_s
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(socket_path)
            require_own_peer(connection)
        except OSError as error:
            text = f"No daemon answers at {socket_path}: {error.strerror or error}."
            raise DaemonAway(f"{text} `codexd status` tells more.") from error
        try:
            connection.sendall(request.encode())
            answer = _read(connection, deadline)
        except OSError as error:
            text = f"The daemon at {socket_path} is gone: {error.strerror or error}."
            raise DaemonAway(text) from error
    return _parsed(answer, socket_path)


def _read(connection: socket.socket, deadline: float) -> bytes:
    """All that comes until the other end hangs up."""
    pieces: list[bytes] = []
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left_s)
        piece = connection.recv(_READ_BYTES)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _parsed(answer: bytes, socket_path: str) -> tuple[int, bytes]:
    head, is_whole, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if not (words[0].startswith(b"HTTP/1.") and len(words) > 1 and words[1].isdigit()):
        raise DaemonError(f"What answers at {socket_path} speaks no HTTP.")
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    length = fields.get(b"content-length", b"")
    if not is_whole or (length.isdigit() and len(body) != int(length)):
        raise DaemonAway(f"The daemon at {socket_path} has hung up before it answered.")
    if b"transfer-encoding" in fields:
        raise DaemonError(f"What answers at {socket_path} sends its answer in chunks.")
    return int(words[1]), body
