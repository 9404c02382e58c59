"""How long whoever sent a wrong token waits for the answer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_FIRST_S: Final = 0.25
_LONGEST_S: Final = 5.0
_FORGOTTEN_S: Final = 60.0
_ADDRESSES: Final = 1024


class Penalties:
    """A bounded table of addresses; each wrong token makes the next answer later."""

    def __init__(self) -> None:
        # How many in a row, and when the last was; the oldest first.
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wrong(self, address: str, now: float) -> float:
        """Another wrong token from there; seconds until it is to be answered."""
        count, last = self._seen.pop(address, (0, now))
        count = 1 if now - last > _FORGOTTEN_S else count + 1
        self._seen[address] = (count, now)
        if len(self._seen) > _ADDRESSES:
            self._seen.popitem(last=False)
        return float(min(_FIRST_S * 2 ** min(count - 1, 16), _LONGEST_S))
