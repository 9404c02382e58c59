"""Asking a running daemon over codexd.sock."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import msgspec

from codexd.client.errors import DaemonError
from codexd.config import Config
from codexd.encoding import UNDECODABLE
from codexd.platform.peer import require_own_peer

_ASK_TIMEOUT_S = 1.0
# The first page loads what makes it.
_PAGE_TIMEOUT_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ASK_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        require_own_peer(self.sock)


def ask_hub(config: Config) -> dict[str, Any] | None:
    """What the hub tells in `GET /v1/status` on codexd.sock; None where nobody answers."""
    connection = _UnixConnection(config.runtime.hub_socket_path)
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


def fetch_metrics(socket_path: str) -> bytes:
    """The page of `GET /metrics` on the codexd.sock at ``socket_path``.

    Raises:
        DaemonError: nobody gives it; the text says why.
    """
    connection = _UnixConnection(socket_path)
    connection.timeout = _PAGE_TIMEOUT_S
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        page = response.read()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DaemonError(f"Nobody answers on {socket_path}: {why}.") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        text = f"{socket_path} answers {response.status} to GET /metrics"
        raise DaemonError(f"{text}: is that daemon of an older version?")
    return page
