"""What is to be asked once more, and when. The time is the caller's."""

from __future__ import annotations

from typing import Generic, TypeVar

_Key = TypeVar("_Key")

FIRST_S = 0.1
_LONGEST_S = 2.0


def pause_after(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(FIRST_S * 2.0 ** (failures - 1), _LONGEST_S)


class Pauses(Generic[_Key]):
    """Keys, each with a pause that begins when the time is told next."""

    def __init__(self) -> None:
        self._new: dict[_Key, float] = {}
        self._due_at: dict[_Key, float] = {}

    def add(self, key: _Key, pause_s: float) -> None:
        """Have it be due after a pause."""
        self._new[key] = pause_s

    def due(self, now: float) -> list[_Key]:
        """Those whose pause is over; each is told once."""
        self._due_at |= {key: now + pause_s for key, pause_s in self._new.items()}
        self._new.clear()
        over = [key for key, due_at in self._due_at.items() if due_at <= now]
        for key in over:
            del self._due_at[key]
        return over

    @property
    def next_at(self) -> float | None:
        """When the next pause is over that has begun."""
        return min(self._due_at.values(), default=None)

    def clear(self) -> None:
        """Nothing is to be asked."""
        self._new.clear()
        self._due_at.clear()
