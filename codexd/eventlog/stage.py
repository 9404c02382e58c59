"""Where much output is on its way from a child's pipe into the log.

splice(2) into a file keeps the pipe locked until the file has taken everything, so a child that
writes much and whoever empties its pipe take turns. From one pipe into another only pages change
hands: the child goes on writing while that other one, the stage, is emptied into the file. circusd
holds it open as well: what is in it outlives this process, like what is in the child's own pipe.
"""

from __future__ import annotations

import os
from typing import Final

from codexd.platform.pipes import set_pipe_capacity, splice, unread_bytes

# As much as the child's own pipe.
_CAPACITY: Final = 1 << 20


class Stage:
    """A named pipe that nobody else reads; ``held`` bytes are in it."""

    def __init__(self, path: str) -> None:
        """Open it, with what an earlier process left. Raises OSError where it is not there."""
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = unread_bytes(self.descriptor)
        self._is_large = False

    def fill(self, pipe_fd: int, max_bytes: int) -> int:
        """Take up to ``max_bytes`` of what is in a child's pipe; returns how many.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        if not self._is_large:
            set_pipe_capacity(self.descriptor, _CAPACITY)
            self._is_large = True
        count = splice(pipe_fd, self.descriptor, max_bytes)
        self.held += count
        return count

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)
