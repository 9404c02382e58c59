"""A daemon that cannot begin tells the `codexd start --detach` that started it why.

They share a log with whoever else is started there: its last line may be another daemon's.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

# The descriptor of a pipe to the starter.
_VARIABLE: Final = "CODEXD_TELL_STARTER"
_MOST_BYTES: Final = 8192


class Starter:
    """In the daemon: whoever started it, if anybody waits for a word."""

    def __init__(self) -> None:
        # For this process alone: what it starts is told nothing of it.
        told = os.environ.pop(_VARIABLE, "")
        self._pipe: int | None = int(told) if told.isascii() and told.isdigit() else None
        if self._pipe is not None:
            try:
                os.set_inheritable(self._pipe, False)
            except OSError:
                self._pipe = None

    def tell(self, reason: str) -> None:
        """Why there will be no daemon."""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe, reason.encode("utf-8", "replace")[:_MOST_BYTES])
        self.leave()

    def leave(self) -> None:
        """There is nothing to tell any more."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            os.close(pipe)


class Word:
    """In the starter: what the daemon says of why it ends. Open for as long as that may be."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)

    def __enter__(self) -> Word:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reader)
        os.close(self.writer)

    @property
    def environment(self) -> dict[str, str]:
        """What tells the daemon of it; it inherits ``writer``."""
        return {_VARIABLE: str(self.writer)}

    def read(self) -> str:
        """All of it, once the daemon has ended; empty where it said nothing."""
        try:
            return os.read(self._reader, _MOST_BYTES).decode("utf-8", "replace")
        except BlockingIOError:
            return ""
