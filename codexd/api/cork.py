"""What is said to many clients in one go leaves in one write for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from codexd.wire.frames import Framer


class Corked(Protocol):
    """Whoever keeps what it has to say while the cork is in."""

    def uncork(self) -> None:
        """Say it now."""


class Cork:
    """One for all connections, with what frames their messages.

    In it goes for one call, and never stays in over a turn of the loop.
    """

    def __init__(self) -> None:
        self.is_in = False
        self.framer = Framer()
        self._corked: list[Corked] = []

    def keeps(self, corked: Corked) -> None:
        """Somebody keeps something: it is told when the cork is out."""
        self._corked.append(corked)

    def around(self, feed: Callable[[bytes], None], data: bytes) -> None:
        """Call ``feed(data)`` with the cork in."""
        if self.is_in:
            feed(data)
            return
        self.is_in = True
        try:
            feed(data)
        finally:
            self.is_in = False
            corked, self._corked = self._corked, []
            for end in corked:
                end.uncork()
