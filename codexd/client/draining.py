"""What a server that is about to end lets nobody begin (codex 0.163, measured)."""

from __future__ import annotations

from codexd.hub import jsonrpc, methods

_BEGINNING = (
    methods.SUBSCRIBING
    | methods.TURN_STARTING
    | {"turn/steer", "thread/compact/start", "thread/shellCommand"}
)
_TEXT = "Server is draining; retry after reconnecting"


def refusal(data: bytes) -> bytes | None:
    """The answer to a request that would begin something; None for any other message."""
    message = jsonrpc.parse(data)
    if message is None or message.id is None or message.method not in _BEGINNING:
        return None
    return jsonrpc.error(
        message.id, jsonrpc.INVALID_REQUEST, _TEXT, {"reason": "serverShuttingDown"}
    )
