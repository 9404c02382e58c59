"""How many requests the child has in hand at once.

On stdio codex 0.163 refuses or drops requests once some 190 are on their way (measured: of 256
sent at once 63 are refused, of 3,000 some 300 never answered). A request that has been with it
for a second is at work, not in its queue, and is not counted any more: commands may run for
hours.
"""

from __future__ import annotations

from collections import Counter, deque

ALL = 64
ONE_CLIENT = 32
_QUEUED_S = 1.0


class Window:
    """Counts the requests that the child may not have begun yet, by client."""

    def __init__(self) -> None:
        self._young: dict[str, int] = {}
        self._by_age: deque[tuple[float, str]] = deque()
        self._of: Counter[int] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether nobody may send anything."""
        return len(self._young) >= ALL

    def may_send(self, client: int) -> bool:
        """Whether this client may send one more."""
        return len(self._young) < ALL and self._of[client] < ONE_CLIENT

    def sent(self, hub_id: str, client: int, now: float) -> None:
        """A request went to the child."""
        self._young[hub_id] = client
        self._by_age.append((now, hub_id))
        self._of[client] += 1

    def done(self, hub_id: str) -> None:
        """It was answered, or is not waited for any more."""
        client = self._young.pop(hub_id, None)
        if client is None:
            return
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]

    def grow_old(self, now: float) -> None:
        """Time passes."""
        while self._by_age and (
            now - self._by_age[0][0] > _QUEUED_S or self._by_age[0][1] not in self._young
        ):
            self.done(self._by_age.popleft()[1])

    def clear(self) -> None:
        """The child is gone."""
        self._young.clear()
        self._by_age.clear()
        self._of.clear()
