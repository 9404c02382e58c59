"""What has gone through the hub since it was made: plain numbers that only grow.

What a client or the server sends never becomes a key as it is: a method, code or status that is
not known counts as ``other``, so there are never more numbers than there are words here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from codexd.histogram import Histogram
from codexd.hub.request_methods import REQUESTS

OTHER: Final = "other"
OK: Final = "ok"
# The client had left before there was an answer.
LEFT: Final = "left"
# JSON-RPC 2.0, section 5.1, and what codex and the hub say beside it.
CODES: Final[Mapping[int, str]] = {
    code: str(code) for code in (-32700, -32603, -32602, -32601, -32600, -32050, -32001, -32000)
}
# TurnStatus (codex 0.163, schema) of a turn that is over.
TURN_STATUSES: Final = ("completed", "failed", "interrupted")

# In seconds. A small request takes less than a millisecond, one that waits for a server to come
# back some tenths; a turn takes from a second to hours.
REQUEST_BOUNDS: Final = (0.001, 0.005, 0.025, 0.1, 1.0, 10.0, 60.0)
TURN_BOUNDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)


class HubCounts:
    """``requests`` and ``durations`` are of the clients' requests, by method (and code)."""

    def __init__(self) -> None:
        self.from_clients = self.to_clients = 0
        self.from_server = self.to_server = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Histogram] = {}
        self.turns: Counter[str] = Counter()
        self.turn_durations = Histogram(TURN_BOUNDS)

    def request_ended(self, method: str | None, code: str, seconds: float) -> None:
        """A client's request has its answer, ``seconds`` after it came. See :func:`code_of`."""
        if method is None or method not in REQUESTS:
            method = OTHER
        self.requests[method, code] += 1
        durations = self.durations.get(method)
        if durations is None:
            durations = self.durations[method] = Histogram(REQUEST_BOUNDS)
        durations.observe(seconds)

    def turn_ended(self, turn: Mapping[str, Any], seconds: float | None) -> None:
        """A turn is over, ``seconds`` after it began; None where nobody saw that."""
        status = turn.get("status")
        self.turns[status if status in TURN_STATUSES else OTHER] += 1
        told_ms = turn.get("durationMs")
        if isinstance(told_ms, int) and 0 <= told_ms < 1 << 53:
            seconds = told_ms / 1000
        if seconds is not None:
            self.turn_durations.observe(seconds)


def code_of(code: int) -> str:
    """The word for the code of an error."""
    return CODES.get(code, OTHER)
