"""Whoever looks at a daemon from outside, or drives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codexd.client.aio import AsyncClient
    from codexd.client.errors import DaemonAbsent, DaemonAway, DaemonError, Refused, TurnUnknown
    from codexd.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "DaemonAbsent",
    "DaemonAway",
    "DaemonError",
    "Refused",
    "TurnUnknown",
]

_HOMES = {
    "AsyncClient": "codexd.client.aio",
    "Client": "codexd.client.sync",
    "DaemonAbsent": "codexd.client.errors",
    "DaemonAway": "codexd.client.errors",
    "DaemonError": "codexd.client.errors",
    "Refused": "codexd.client.errors",
    "TurnUnknown": "codexd.client.errors",
}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: most commands need other modules of this room, and are quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
