"""What a server has on record of a turn: whether it can be believed, and what of it is news."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

# Where an item has what people and agents say, and think.
_WORDS = ("text", "content", "summary")
_BEGINS_AGENTS = ("resumeAgent", "spawnAgent")

_encode = msgspec.json.Encoder(order="sorted").encode


def record_of(turn_id: str, turns: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A turn as it is on record; empty where it is not.

    A review is told to begin as a turn within it, whose own end is told and written down nowhere:
    that one is over with the review, and by the review's id (codex 0.163 and 0.169, measured).
    """
    by_id = {turn.get("id"): turn for turn in turns}
    found: dict[str, Any] = by_id.get(turn_id, {})
    root = by_id.get(found.get("rootTurnId"), found)
    return root if tells_its_end(root) else found


def unended(turns: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that run, as they are on record."""
    turns = list(turns)
    running = [turn for turn in turns if turn.get("status") == "inProgress"]
    return [turn for turn in running if record_of(str(turn.get("id")), turns) is turn]


def tells_its_end(record: Mapping[str, Any]) -> bool:
    """Whether a turn as it was read from a server says for certain how it ended.

    A server that reads a thread takes each turn for interrupted that does not run and whose end is
    not written down. Of a turn that has ended just now it is not, for some milliseconds; of one
    that was cut off with its server it never will be. A turn that really was interrupted has the
    time of its end, or its reason, with it (measured on codex 0.163).
    """
    status = record.get("status")
    if status == "interrupted":
        return record.get("completedAt") is not None or record.get("error") is not None
    return status not in (None, "inProgress")


def items_of(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of a turn, whatever it is that a server has sent."""
    items = turn.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


class ToldItems:
    """The items of a turn whose end was told.

    Of a turn that runs, a server gives what was said another id than it was told under (`item-2`,
    measured on codex 0.163); so of those the words are compared.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._words: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._ids)

    def copy(self) -> ToldItems:
        """Another with the same items."""
        other = ToldItems()
        other._ids, other._words = set(self._ids), self._words.copy()
        return other

    def clear(self) -> None:
        """None was told yet."""
        self._ids.clear()
        self._words.clear()

    def add(self, item: Mapping[str, Any]) -> None:
        """Its end is told."""
        self._ids.add(str(item.get("id")))
        words = _words_of(item)
        if words is not None:
            self._words[words] += 1

    def untold(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Those whose end was not told, of items of the turn in their order."""
        met: Counter[int] = Counter()
        for item in items:
            words = _words_of(item)
            if words is not None:
                met[words] += 1
            was_said = words is not None and met[words] <= self._words[words]
            if str(item.get("id")) not in self._ids and not was_said:
                yield item


def _words_of(item: Mapping[str, Any]) -> int | None:
    """Stands for the words of an item; None where it has none."""
    words = [item.get(name) or None for name in _WORDS]
    return hash(_encode([item.get("type"), *words])) if any(words) else None


def begun_agents(item: dict[str, Any]) -> list[str]:
    """The threads of the subagents that an item of a turn has begun.

    codex 0.163 says nowhere else whose they are (measured for the first kind; the other one, of its
    second way to have subagents, is in its schema).
    """
    if item.get("type") == "collabAgentToolCall" and item.get("tool") in _BEGINS_AGENTS:
        named = item.get("receiverThreadIds")
        found = named if isinstance(named, list) else []
    elif item.get("type") == "subAgentActivity" and item.get("kind") == "started":
        found = [item.get("agentThreadId")]
    else:
        return []
    return [entry for entry in found if entry and isinstance(entry, str)]
