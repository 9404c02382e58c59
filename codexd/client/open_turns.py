"""The turns of a thread that a client was told to begin, and not to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codexd.turn_record import ToldItems, items_of

# So many turns that are over are remembered.
_KEPT = 100


class OpenTurns:
    """In the order in which they began: the last one runs, or is about to.

    That a turn begins is known from the answer to its request, or from the server's word. A review
    is answered under the id under which it ends, and told to begin under another (codex 0.163).
    """

    def __init__(self) -> None:
        # With the items of each whose end was told.
        self._open: dict[str, ToldItems] = {}
        self._ended: dict[str, None] = {}
        self._review: str | None = None
        self._has_begun = False

    def __bool__(self) -> bool:
        return bool(self._open)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._open))

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self._open

    @property
    def last(self) -> str | None:
        """The one that began last."""
        return next(reversed(self._open), None)

    def answered(self, turn_id: str, *, is_review: bool) -> None:
        """The server has answered that it will begin one."""
        self._add(turn_id)
        if is_review and turn_id == self.last:
            self._review = turn_id

    def began(self, turn_id: str) -> None:
        """The server has told that one has begun."""
        self._add(turn_id)
        self._has_begun |= self.last in (turn_id, self._review)

    def _add(self, turn_id: str) -> None:
        is_inside = self.last is not None and self.last == self._review
        # The answer may come after the end.
        if not (is_inside or turn_id in self._open or turn_id in self._ended or not turn_id):
            self._open[turn_id] = ToldItems()
            self._has_begun = False

    def ended(self, turn_id: str) -> bool:
        """The client is to be told the end of one; False if it was."""
        if turn_id in self._ended:
            return False
        over = turn_id
        if turn_id not in self._open and self._has_begun and self.last is not None:
            # A review that somebody else asked for: it has begun under the other id. What the
            # server has only answered that it will begin is not over when another turn is.
            over = self.last
        if over == self.last:
            self._review, self._has_begun = None, False
        self._open.pop(over, None)
        self._ended |= {turn_id: None, over: None}
        while len(self._ended) > _KEPT:
            del self._ended[next(iter(self._ended))]
        return True

    def item_ended(self, turn_id: str | None, item: Mapping[str, Any]) -> None:
        """The client is told the end of an item."""
        known = turn_id if turn_id in self._open else self.last
        if known is not None:
            self._open[known].add(item)

    def untold(self, turn_id: str, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The items of an open turn, as it is on record, whose end was not told."""
        return list(self._open[turn_id].untold(items_of(record)))
