"""Asking a running daemon how it is."""

from __future__ import annotations

from typing import Any

from codexd.client.errors import DaemonError
from codexd.client.sync import Client

_ASK_TIMEOUT_S = 1.0


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
