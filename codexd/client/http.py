"""Asking a running daemon how it is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from codexd.client import calls
from codexd.client.errors import DaemonError, Refused
from codexd.client.sync import Client
from codexd.shapes import PageCode

_ASK_TIMEOUT_S = 1.0
# The first page loads what makes it.
_PAGE_TIMEOUT_S = 10.0


def ask_hub(socket_path: str) -> dict[str, Any] | None:
    """What the hub tells in `GET /v1/status` on codexd.sock; None where nobody answers."""
    client = Client(socket_path=socket_path, timeout_s=_ASK_TIMEOUT_S)
    try:
        document = client.status()
    except DaemonError:
        return None
    # A daemon of an older version tells nothing else.
    hub = document.get("hub", document)
    return hub if isinstance(hub, dict) else None


def fetch_metrics(socket_path: str) -> bytes:
    """The page of `GET /metrics` on the codexd.sock at ``socket_path``.

    Raises:
        DaemonError: nobody gives it; the text says why.
    """
    try:
        return Client(socket_path=socket_path, timeout_s=_PAGE_TIMEOUT_S).metrics().encode()
    except Refused as error:
        text = f"{socket_path} answers {error.status} to GET /metrics"
        raise DaemonError(f"{text}: is that daemon of an older version?") from error


def make_page_code(socket_path: str) -> PageCode:
    """A code for the page of the daemon whose codexd.sock is at ``socket_path``.

    Raises:
        DaemonError: it gives none; the text says why.
    """
    client = Client(socket_path=socket_path, timeout_s=_PAGE_TIMEOUT_S)
    try:
        return client._call(calls.page_code())
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        text = "The daemon has no page, it is of an older version: stop it, and start this one."
        raise DaemonError(text) from error
