"""What the hub wants done, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codexd.contracts import EventLevel, SessionRecord
from codexd.hub.introduction import Capabilities, ClientInfo


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send a message to a client."""

    client: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ToChild:
    """Send a message to the child."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Introduced:
    """A client has said who it is and what it can do; the server may not have been told yet."""

    info: ClientInfo
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class CloseClient:
    """End a client's connection with a WebSocket close code."""

    client: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Record an event."""

    level: EventLevel
    type: str
    message: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """Record a session as it is now."""

    record: SessionRecord


@dataclass(frozen=True, slots=True)
class Keep:
    """Write down what the next hub must know, before the client hears that it holds."""


Action = ToClient | ToChild | Introduced | CloseClient | Emit | SessionChanged | Keep
