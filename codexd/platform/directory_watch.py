"""Being told that something was taken away from a directory, put there or written by somebody.

Linux has inotify(7). Of a file that stays open (a log) nothing is told, so that what codexd itself
writes there wakes nobody. macOS has nothing that tells all of this of a directory and what is in
it: there one looks every second.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from typing import Final, Protocol

# inotify(7). Of a directory: an entry came, went, was closed after writing, or its mode changed.
_ENTRIES: Final = 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200
# Of the directory itself, which may be taken away with the directories above it.
_ITSELF: Final = 0x400 | 0x800
# Add to what is watched already; directories only.
_ADDING: Final = 0x20000000 | 0x01000000
_READ_BYTES: Final = 1 << 16


class DirectoryWatch(Protocol):
    """A watch over some directories."""

    def look(self) -> bool:
        """Watch what stands at the paths now; whether all of it is watched."""

    @property
    def is_still(self) -> bool:
        """Whether all was there at the last look as at the one before, and nothing told between."""

    def close(self) -> None:
        """End it."""


def watch_directories(
    loop: asyncio.AbstractEventLoop, paths: Iterable[str], on_change: Callable[[], None]
) -> DirectoryWatch | None:
    """Call ``on_change`` from the loop when something happens in one of ``paths``.

    Their being taken away counts, and that of a directory above them. After that, and where a
    directory was not there, :meth:`DirectoryWatch.look` is to be called. None where nobody tells.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    return None if descriptor < 0 else _Inotify(libc, descriptor, loop, paths, on_change)


class _Inotify:
    def __init__(
        self,
        libc: ctypes.CDLL,
        descriptor: int,
        loop: asyncio.AbstractEventLoop,
        paths: Iterable[str],
        on_change: Callable[[], None],
    ) -> None:
        self._libc = libc
        self._descriptor = descriptor
        self._loop = loop
        self._on_change = on_change
        self._masks: dict[bytes, int] = {}
        # What the system calls each directory that is watched: another one has another number.
        self._found: list[int] = []
        self._was_told = False
        self.is_still = False
        for path in paths:
            self._add(path, _ENTRIES | _ITSELF)
            while (above := os.path.dirname(path)) != path:
                path = above
                self._add(path, _ITSELF)
        loop.add_reader(descriptor, self._read)

    def _add(self, path: str, mask: int) -> None:
        name = os.fsencode(path)
        self._masks[name] = self._masks.get(name, 0) | mask

    def look(self) -> bool:
        add = self._libc.inotify_add_watch
        # Of what is watched already this changes nothing.
        found: list[int] = [
            add(self._descriptor, path, mask | _ADDING) for path, mask in self._masks.items()
        ]
        is_watched = min(found) >= 0
        self.is_still = is_watched and found == self._found and not self._was_told
        self._found, self._was_told = found, False
        return is_watched

    def _read(self) -> None:
        try:
            os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        self._was_told = True
        self._on_change()

    def close(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
