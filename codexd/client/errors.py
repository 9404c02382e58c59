"""Why a daemon could not be driven."""

from __future__ import annotations


class DaemonError(Exception):
    """The daemon did not answer, or not as hoped. The text is one line for the user."""


class DaemonAway(DaemonError):
    """Nobody answers there, or whoever did is gone."""


class DaemonAbsent(DaemonAway):
    """Nobody answers there: nothing was asked of anybody."""


class Refused(DaemonError):
    """The daemon has answered that it does not do it.

    ``status`` is that of HTTP, ``kind`` what follows `urn:codexd:` in the problem's type, and
    ``field`` the name of what was wrong, where it is one.
    """

    def __init__(self, status: int, kind: str, text: str, field: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind
        self.field = field


class TurnUnknown(DaemonError):
    """The daemon went away while a turn was being started: it may run, or not."""
