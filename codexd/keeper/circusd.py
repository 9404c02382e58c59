"""What the keeper needs of circusd, whatever carries it there."""

from __future__ import annotations

from typing import Any, Protocol

# The watcher of the child, as circus.ini names it.
WATCHER = "codex-app-server"
# That of a second one that waits to take its place.
SPARE = "codex-spare"


class CircusError(Exception):
    """circusd did not answer in time, or refused. The text is one line."""


class Circusd(Protocol):
    """Takes circus's commands, and those that codexd adds to them."""

    async def call(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        """Send ``command`` and return the answer.

        Raises:
            CircusError: no answer within ``timeout_s`` seconds, or a refusal.
        """
        ...


class Orders(Circusd, Protocol):
    """And those that it takes its time for."""

    async def order(self, command: str, *, timeout_s: float, **properties: Any) -> dict[str, Any]:
        """As :meth:`call`; meanwhile other calls go on.

        Raises:
            CircusError: as there.
        """
        ...
