"""How much all connections together hold of messages that are not whole yet.

One message may be long; a limit for each connection alone would let a few dozen of them take the
memory of the machine.
"""

from __future__ import annotations

from typing import Final, Protocol

UNFINISHED_BYTES: Final = 256 << 20


class Holder(Protocol):
    """A connection that holds the beginning of a message."""

    def drop_unfinished(self) -> None:
        """Let go of it, and of who sends it."""


class Unfinished:
    """Adds up what is held; above ``limit`` bytes, who holds most has to let go."""

    def __init__(self, limit: int = UNFINISHED_BYTES) -> None:
        self._limit = limit
        self._held: dict[Holder, int] = {}
        self._total = 0

    def note(self, holder: Holder, held: int) -> None:
        """A connection holds so many bytes now."""
        self._total += held - self._held.get(holder, 0)
        if held:
            self._held[holder] = held
        else:
            self._held.pop(holder, None)
        while self._total > self._limit:
            largest = max(self._held, key=lambda other: self._held[other])
            self._total -= self._held.pop(largest)
            largest.drop_unfinished()
