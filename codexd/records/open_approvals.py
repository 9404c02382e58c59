"""Approvals that were asked for and are not resolved, on record: they end with their turn.

The hub tells of each that it is resolved. Where it died with the server, or the daemon did, nobody
is left who knows of it but the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from codexd.contracts import Event

TURN_ENDS: Final = ("turn.completed", "turn.interrupted")
# A turn that began longer ago than so many events about turns.
_LOOK_BACK: Final = 10_000

Detail = dict[str, Any]


class OpenApprovals:
    """Hears of every event."""

    def __init__(self) -> None:
        self._open: dict[str, dict[tuple[str, ...], Detail]] = {}

    @classmethod
    def found(cls, newest_first: Iterable[Event], running: Mapping[str, str]) -> OpenApprovals:
        """Those of the turns that run; ``running`` gives the id of each by that of its thread."""
        approvals = cls()
        begins = set(running.values())
        events: list[Event] = []
        for event in islice(newest_first, _LOOK_BACK) if begins else ():
            events.append(event)
            if event.type == "turn.started":
                begins.discard(str((event.detail or {}).get("turnId")))
            if not begins:
                break
        for event in reversed(events):
            if (event.detail or {}).get("threadId") in running:
                approvals.heard(event.type, event.detail)
        return approvals

    def heard(self, type_: str, detail: Detail | None) -> None:
        """Something happened."""
        thread_id = (detail or {}).get("threadId")
        if detail is None or not isinstance(thread_id, str):
            return
        key = tuple(str(detail.get(name)) for name in ("method", "turnId", "itemId"))
        if type_ == "approval.requested":
            self._open.setdefault(thread_id, {})[key] = detail
        elif type_ == "approval.resolved":
            self._open.get(thread_id, {}).pop(key, None)
        elif type_ in TURN_ENDS:
            self.end(detail)

    def end(self, turn: Detail | None) -> list[Detail]:
        """A turn ends: what it, or nobody knows which turn of its thread, still asked for."""
        thread_id, turn_id = (turn or {}).get("threadId"), (turn or {}).get("turnId")
        on_thread = self._open.pop(thread_id, {}) if isinstance(thread_id, str) else {}
        ended = {
            key: detail
            for key, detail in on_thread.items()
            if detail.get("turnId") in (None, turn_id)
        }
        others = {key: detail for key, detail in on_thread.items() if key not in ended}
        if others:
            self._open[str(thread_id)] = others
        return list(ended.values())
