"""Which connections may have an open file for good, without ever using up what the rest needs.

What clients use up is not there for what must work: the connection to the child, files, pipes. So a
part of the open files is kept back. A descriptor is the lowest number that is free: a connection
whose number lies below what is kept back takes nothing of it. One whose number lies above came
while all below were in use, be it for a moment and by codexd's own files. It is a guest: it gets
answers over HTTP, and may stay as soon as a number below is free, which then is nobody else's.
"""

from __future__ import annotations

import os
from typing import Final

from codexd.platform.limits import files_left_above

# Kept back: what the plugin opens for a child and for its files is about a dozen. Guests may use
# some of the rest.
_RESERVE: Final = 32


def reserve() -> int:
    """How many open files are kept back; fewer where there are hardly any."""
    return min(_RESERVE, files_left_above(-1) // 4)


def is_lasting(descriptor: int) -> bool:
    """Whether a descriptor takes nothing of what is kept back."""
    return files_left_above(descriptor) >= reserve()


class Places:
    """The places below what is kept back. Each ``descriptor`` is an open one, to be doubled."""

    def __init__(self) -> None:
        # Those that stay with a number of what is kept back: each is owed a place below.
        self._owed: set[object] = set()

    def has_room(self, descriptor: int) -> bool:
        """Whether there is a place for one that comes now."""
        return _are_free(len(self._owed) + 1, descriptor)

    def left(self, descriptor: int) -> int:
        """How many more files can be opened after one that comes now, where there is no room."""
        try:
            lowest = os.dup(descriptor)
        except OSError:
            return 0
        os.close(lowest)
        return files_left_above(lowest)

    def take(self, holder: object, descriptor: int) -> bool:
        """Whether a connection may stay; if so, it has its place until :meth:`leave`."""
        is_guest = not is_lasting(descriptor)
        if not _are_free(len(self._owed - {holder}) + is_guest, descriptor):
            return False
        if is_guest:
            self._owed.add(holder)
        return True

    def leave(self, holder: object) -> None:
        """It is gone."""
        self._owed.discard(holder)


def _are_free(count: int, descriptor: int) -> bool:
    """Whether there are so many places."""
    taken: list[int] = []
    try:
        while len(taken) < count:
            taken.append(os.dup(descriptor))
            if not is_lasting(taken[-1]):
                return False
    except OSError:
        return False
    finally:
        for number in taken:
            os.close(number)
    return True
