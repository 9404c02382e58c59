"""Requests that wait: how many may, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Room:
    """How much may wait: of one client, and of all together."""

    client_requests: int
    client_bytes: int
    requests: int
    bytes: int


class Load:
    """Counts what waits, and says whether there is room for more.

    Where all together have too much, a client that has less than its share is let in all the
    same: nobody can fill the room for the others.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._requests: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._all_bytes = 0
        self.total = 0

    def has_room(self, client: int, size: int) -> bool:
        """Whether ``client`` may have one more request of ``size`` bytes wait."""
        room = self._room
        requests = self._requests.get(client, 0) + 1
        held = self._bytes.get(client, 0) + size
        sharers = len(self._requests) or 1
        if requests > room.client_requests or held > room.client_bytes:
            return False
        fits = self.total < room.requests or requests <= room.requests // sharers
        return fits and (self._all_bytes + size <= room.bytes or held <= room.bytes // sharers)

    def add(self, client: int, size: int) -> None:
        """A request waits."""
        self._requests[client] = self._requests.get(client, 0) + 1
        self._bytes[client] = self._bytes.get(client, 0) + size
        self._all_bytes += size
        self.total += 1

    def remove(self, client: int, size: int) -> None:
        """It waits no more."""
        self._requests[client] -= 1
        self._bytes[client] -= size
        self._all_bytes -= size
        self.total -= 1
        if not self._requests[client]:
            del self._requests[client], self._bytes[client]

    def of(self, client: int) -> int:
        """How many requests of a client wait."""
        return self._requests.get(client, 0)


class FairQueue(Generic[Item]):
    """Items of many owners: each owner's in their order, the owners in turn."""

    def __init__(self) -> None:
        self._by_owner: dict[int, deque[Item]] = {}
        # Whether there is any.
        self.has_any = False

    def __iter__(self) -> Iterator[Item]:
        for items in self._by_owner.values():
            yield from items

    def put(self, owner: int, item: Item) -> None:
        """Add an item behind the others of its owner."""
        self.has_any = True
        self._by_owner.setdefault(owner, deque()).append(item)

    def take(self, may: Callable[[int], bool]) -> Item | None:
        """The next item of an owner that ``may`` have one now."""
        for owner, items in self._by_owner.items():
            if may(owner):
                del self._by_owner[owner]
                item = items.popleft()
                if items:
                    # Behind those who wait as well.
                    self._by_owner[owner] = items
                self.has_any = bool(self._by_owner)
                return item
        return None

    def clear(self) -> list[Item]:
        """Take everything."""
        items = list(self)
        self._by_owner.clear()
        self.has_any = False
        return items
