"""How many requests the child has in hand at once.

On stdio codex 0.163 refuses or drops requests once some 190 are on their way (measured: of 256
sent at once 63 are refused, of 3,000 some 300 never answered). A request that has been with it
for a second is at work, not in its queue, and is not counted any more: commands may run for
hours.
"""

from __future__ import annotations

ALL = 64
ONE_CLIENT = 32
_QUEUED_S = 1.0


class Window:
    """Counts the requests that the child may not have begun yet, by client."""

    def __init__(self) -> None:
        # By the id at the child: whose it is, and when it was sent; the oldest first.
        self._young: dict[str, tuple[int, float]] = {}
        self._of: dict[int, int] = {}

    def may_send(self, client: int) -> bool:
        """Whether this client may send one more."""
        return len(self._young) < ALL and self._of.get(client, 0) < ONE_CLIENT

    def sent(self, hub_id: str, client: int, now: float) -> None:
        """A request went to the child."""
        self._young[hub_id] = (client, now)
        self._of[client] = self._of.get(client, 0) + 1

    def done(self, hub_id: str) -> None:
        """It was answered, or is not waited for any more."""
        if hub_id not in self._young:
            return
        client, _ = self._young.pop(hub_id)
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]

    def grow_old(self, now: float) -> None:
        """Time passes."""
        while self._young:
            hub_id, (_, sent_at) = next(iter(self._young.items()))
            if now - sent_at <= _QUEUED_S:
                return
            self.done(hub_id)

    def clear(self) -> None:
        """The child is gone."""
        self._young.clear()
        self._of.clear()
