"""The life of a spare: a second server that waits, without a thread, to take the first one's place.

A table of its own: whatever becomes of a spare, nothing of the child's machine knows of it but that
there is one. Nothing is touched here; :mod:`codexd.circus_ext.spare_watcher` does what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from codexd.child.backoff import Backoff

# Where the plugin notes, in the runtime directory, what one answered when it was greeted.
HANDSHAKE: Final = "spare-handshake.json"
# One that was ready for less has had no good life: what ends it, or makes it stale, may do so
# again and again, and each costs a boot.
_SETTLED_MS = 10_000


class SpareState(StrEnum):
    """Where its life is."""

    NONE = "none"
    DUE = "due"
    WAITING = "waiting"
    STARTED = "started"
    READY = "ready"
    ENDING = "ending"


SPARE_MEANING: Mapping[SpareState, str] = {
    SpareState.NONE: "No process; the server must be ready for a while first.",
    SpareState.DUE: "No process; one may start as soon as the server is ready.",
    SpareState.WAITING: "No process; one may start when the pause is over.",
    SpareState.STARTED: "A process that nobody has spoken with so far.",
    SpareState.READY: "A process that was introduced, and may take the server's place.",
    SpareState.ENDING: "A process that is not to be used, and is being ended.",
}


class SpareEvent(StrEnum):
    """What can happen to it."""

    WANTED = "wanted"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn failed"
    GREETED = "greeted"
    STALE = "stale"
    PROMOTED = "promoted"
    ENDED = "ended"
    PAUSE_OVER = "pause over"


class SpareAction(StrEnum):
    """What is done about an event; the text is for the page of states."""

    WAKE = "have circus start it"
    BEGIN = "note the start"
    NOTE_READY = "note since when it is ready"
    END = "end it"
    PAUSE = "set the timer to its pause"


_S, _E, _A = SpareState, SpareEvent, SpareAction
_Row = tuple[SpareState, tuple[SpareAction, ...]]

SPARE_TABLE: Mapping[tuple[SpareState, SpareEvent], _Row] = {
    (_S.NONE, _E.WANTED): (_S.DUE, (_A.WAKE,)),
    # Circus may have been busy with something else.
    (_S.DUE, _E.WANTED): (_S.DUE, (_A.WAKE,)),
    (_S.DUE, _E.SPAWNED): (_S.STARTED, (_A.BEGIN,)),
    (_S.DUE, _E.SPAWN_FAILED): (_S.WAITING, (_A.PAUSE,)),
    (_S.STARTED, _E.GREETED): (_S.READY, (_A.NOTE_READY,)),
    (_S.STARTED, _E.STALE): (_S.ENDING, (_A.END,)),
    (_S.READY, _E.STALE): (_S.ENDING, (_A.END,)),
    (_S.READY, _E.PROMOTED): (_S.NONE, ()),
    (_S.STARTED, _E.ENDED): (_S.WAITING, (_A.PAUSE,)),
    (_S.READY, _E.ENDED): (_S.WAITING, (_A.PAUSE,)),
    (_S.ENDING, _E.ENDED): (_S.WAITING, (_A.PAUSE,)),
    (_S.WAITING, _E.PAUSE_OVER): (_S.DUE, (_A.WAKE,)),
}


class Deed(msgspec.Struct, frozen=True):
    """One thing to do; ``delay_ms`` is that of :attr:`SpareAction.PAUSE`."""

    action: SpareAction
    delay_ms: int = 0


class SpareMachine:
    """Runs the table for one spare after the other.

    What is in no row changes nothing: it comes late, or twice. ``clock()`` gives seconds and never
    goes back.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float]) -> None:
        self.state = SpareState.NONE
        self.pid: int | None = None
        self._backoff = backoff
        self._clock = clock
        self._begun_at = 0.0
        self._ready_at: float | None = None

    @property
    def may_start(self) -> bool:
        """Whether circus may start one now."""
        return self.state is SpareState.DUE

    @property
    def ready_pid(self) -> int | None:
        """The spare that may take the server's place."""
        return self.pid if self.state is SpareState.READY else None

    @property
    def age_s(self) -> float:
        """How long ago the present one was started."""
        return self._clock() - self._begun_at

    def wanted(self) -> list[Deed]:
        """The server is ready, and a spare may be started beside it."""
        return self._handle(SpareEvent.WANTED)

    def spawned(self, pid: int) -> list[Deed]:
        """There is a process."""
        self.pid = pid
        return self._handle(SpareEvent.SPAWNED)

    def spawn_failed(self) -> list[Deed]:
        """There is none."""
        self._begun_at, self._ready_at = self._clock(), None
        return self._handle(SpareEvent.SPAWN_FAILED)

    def greeted(self, pid: int) -> list[Deed]:
        """The plugin vouches for the process."""
        return self._handle(SpareEvent.GREETED) if pid == self.pid else []

    def stale(self) -> list[Deed]:
        """The process is not to be used any more."""
        return self._handle(SpareEvent.STALE)

    def promoted(self) -> list[Deed]:
        """It is the child now."""
        deeds = self._handle(SpareEvent.PROMOTED)
        self.pid = None
        return deeds

    def ended(self, pid: int) -> list[Deed]:
        """The process has ended."""
        if pid != self.pid:
            return []
        deeds = self._handle(SpareEvent.ENDED)
        self.pid = None
        return deeds

    def pause_over(self) -> list[Deed]:
        """The timer has run out."""
        return self._handle(SpareEvent.PAUSE_OVER)

    def _handle(self, event: SpareEvent) -> list[Deed]:
        row = SPARE_TABLE.get((self.state, event))
        if row is None:
            return []
        self.state, actions = row
        return [self._do(action) for action in actions]

    def _do(self, action: SpareAction) -> Deed:
        if action is SpareAction.BEGIN:
            self._begun_at, self._ready_at = self._clock(), None
        elif action is SpareAction.NOTE_READY:
            self._ready_at = self._clock()
        elif action is SpareAction.PAUSE:
            return Deed(action, self._ask_backoff())
        return Deed(action)

    def _ask_backoff(self) -> int:
        now, ready_at = self._clock(), self._ready_at
        well_ms = None if ready_at is None else (now - ready_at) * 1000 - _SETTLED_MS
        return self._backoff.ended(age_ms=(now - self._begun_at) * 1000, well_ms=well_ms) or 0
