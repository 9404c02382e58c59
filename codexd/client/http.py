"""Asking a running daemon over codexd.sock."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.platform.peer import require_own_peer

_ASK_TIMEOUT_S = 1.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ASK_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        require_own_peer(self.sock)


def ask_hub(socket_path: str) -> dict[str, Any] | None:
    """What the hub tells in `GET /v1/status` on codexd.sock; None where nobody answers."""
    connection = _UnixConnection(socket_path)
    try:
        connection.request("GET", "/v1/status")
        response = connection.getresponse()
        document = msgspec.json.decode(response.read())
    except (OSError, http.client.HTTPException, *UNDECODABLE):
        return None
    finally:
        connection.close()
    if not isinstance(document, dict) or response.status != 200:
        return None
    # A daemon of an older version tells nothing else.
    hub = document.get("hub", document)
    return hub if isinstance(hub, dict) else None
