"""What is to be seen: snapshots, events and keys go in; how it is drawn is said elsewhere."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal, NamedTuple

from codexd.cli.called import as_called
from codexd.cli.top.restarts import Restarts, Turns
from codexd.cli.top.shown import Away, Fed, Looked, Note, Past, Snapshot
from codexd.cli.top.thread_text import ThreadText
from codexd.contracts import Event
from codexd.eventlog.types import is_protocol
from codexd.shapes import Session

Effect = Literal["quit", "restart"]

# More than any screen has lines.
_KEPT_EVENTS: Final = 500
# Within which the second press of a key has to come.
CONFIRM_S: Final = 5.0
# How long it is to be seen what became of something.
_NOTE_S: Final = 15.0
# A thread on which a turn runs is read again after so long, or when that has taken its time, after
# so many times as long: reading a long one costs the server something.
_LOOK_S: Final = 2.0
_LOOK_SHARE: Final = 100
_TURN_EVENTS: Final = ("turn.started", "turn.completed", "turn.interrupted")


class Rates(NamedTuple):
    """Messages a second: those of clients, and those to them."""

    came: float
    went: float


class Look:
    """The thread that is looked into. ``scrolled`` is in lines from its end."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.text: ThreadText | None = None
        self.trouble: str | None = None
        self.scrolled = 0
        # How far it can be scrolled, and by how much at once; see `fit`.
        self.most = 0
        self.page = 1
        self.asked_at: float | None = None
        self.took_s = 0.0
        self.is_stale = True

    def is_due(self, now: float, *, runs: bool) -> bool:
        """Whether its thread should be read (again)."""
        if self.asked_at is not None and self.text is None and self.trouble is None:
            return False
        pause = max(_LOOK_S, self.took_s * _LOOK_SHARE)
        is_old = runs and (self.asked_at is None or now - self.asked_at > pause)
        return self.is_stale or is_old

    def fit(self, most: int, page: int) -> None:
        """It was drawn so."""
        self.most, self.page = most, page
        self.scrolled = min(self.scrolled, most)

    def move(self, key: str) -> None:
        """Scroll."""
        steps = {"up": 1, "down": -1, "page-up": self.page, "page-down": -self.page}
        ends = {"home": self.most, "end": 0}
        wanted = ends[key] if key in ends else self.scrolled + steps.get(key, 0)
        self.scrolled = max(0, min(wanted, self.most))


class Model:
    """``place`` names the daemon that is meant, whether it runs or not.

    Times are in seconds of a clock that only goes forward, unless they are said to be others.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.snapshot: Snapshot | None = None
        self.away: str | None = None
        self.rates: Rates | None = None
        self.restarts = Restarts()
        self.turns = Turns()
        self.events: deque[Event] = deque(maxlen=_KEPT_EVENTS)
        self.look: Look | None = None
        self.shows_help = False
        self.selected: str | None = None
        self._note = ""
        self._note_until = 0.0
        self._armed_until = 0.0
        self._restarts_now = False

    # -- what comes ----------------------------------------------------------------------------

    def hear(self, fed: Fed, now: float) -> None:
        """Something came."""
        if isinstance(fed, Snapshot):
            self._hear_snapshot(fed)
        elif isinstance(fed, Away):
            self.away, self.rates = as_called(fed.why), None
        elif isinstance(fed, Past):
            self._hear_past(fed)
        elif isinstance(fed, Event):
            self._hear_event(fed)
        elif isinstance(fed, Looked):
            self._hear_looked(fed, now)
        elif isinstance(fed, Note):
            self._restarts_now = not fed.is_over
            self._say(fed.text, now, _NOTE_S if fed.is_over else math.inf)
        else:
            raise fed.error

    def _hear_snapshot(self, snapshot: Snapshot) -> None:
        before = None if self.away else self.snapshot
        self.rates = _rates(before, snapshot)
        self.snapshot, self.away = snapshot, None
        ids = [session.session_id for session in snapshot.sessions]
        if self.selected not in ids:
            self.selected = ids[0] if ids else None

    def _hear_past(self, past: Past) -> None:
        self.restarts, self.turns = Restarts(), Turns()
        for event in past.counted:
            self.restarts.hear(event)
            self.turns.hear(event)
        self.events.clear()
        self.events.extend(event for event in past.recent if not is_protocol(event))

    def _hear_event(self, event: Event) -> None:
        self.restarts.hear(event)
        self.turns.hear(event)
        if not is_protocol(event):
            self.events.append(event)
        look, thread_id = self.look, (event.detail or {}).get("threadId")
        if look is not None and event.type in _TURN_EVENTS:
            look.is_stale = look.is_stale or thread_id == look.session.thread_id

    def _hear_looked(self, looked: Looked, now: float) -> None:
        look = self.look
        if look is None or look.session.thread_id != looked.thread_id:
            return
        look.took_s = now - (look.asked_at or now)
        if looked.thread is not None:
            look.text = ThreadText(looked.thread)
        look.trouble = looked.trouble

    # -- what is pressed -----------------------------------------------------------------------

    def press(self, key: str, now: float) -> Effect | None:
        """A key; returns what is to be done about it beyond showing something else."""
        was_armed, self._armed_until = now < self._armed_until, 0.0
        if key == "q":
            return "quit"
        if key == "r":
            return self._press_restart(now, was_armed=was_armed)
        if was_armed:
            self._say("Not restarted.", now, CONFIRM_S)
        if key == "?":
            self.shows_help = not self.shows_help
        elif self.shows_help:
            self.shows_help = key not in ("back", "enter")
        elif self.look is not None:
            self._press_in_look(key)
        else:
            self._press_in_list(key, now)
        return None

    def _press_restart(self, now: float, *, was_armed: bool) -> Effect | None:
        if self._restarts_now:
            self._say("A restart is asked for already.", now, CONFIRM_S)
        elif self.snapshot is None or self.away:
            self._say("There is no daemon that could restart a server.", now, CONFIRM_S)
        elif self.snapshot.status.daemon.child.strategy == "external":
            self._say("The server is external: restart it where it was started.", now, CONFIRM_S)
        elif was_armed:
            self._restarts_now = True
            return "restart"
        else:
            self._armed_until = now + CONFIRM_S
            self._say("Press r again to restart the server when no turn runs.", now, CONFIRM_S)
        return None

    def _press_in_look(self, key: str) -> None:
        if key == "back":
            self.look = None
        elif self.look is not None:
            self.look.move(key)

    def _press_in_list(self, key: str, now: float) -> None:
        sessions = self.sessions
        if key == "enter":
            self._look_into(now)
        elif key in ("up", "down", "home", "end") and sessions:
            ids = [session.session_id for session in sessions]
            at = ids.index(self.selected) if self.selected in ids else 0
            wanted = {"up": at - 1, "down": at + 1, "home": 0, "end": len(ids) - 1}[key]
            self.selected = ids[max(0, min(wanted, len(ids) - 1))]

    def _look_into(self, now: float) -> None:
        chosen = next((one for one in self.sessions if one.session_id == self.selected), None)
        if chosen is None:
            self._say("There is no session to look into.", now, CONFIRM_S)
        elif chosen.thread_id is None:
            self._say("This session has no thread.", now, CONFIRM_S)
        else:
            self.look = Look(chosen)

    # -- what is asked -------------------------------------------------------------------------

    @property
    def sessions(self) -> list[Session]:
        """Those that are active, the newest first."""
        return [] if self.snapshot is None else self.snapshot.sessions

    def note(self, now: float) -> str:
        """What is to be said beside all that; empty for nothing."""
        return self._note if now < self._note_until else ""

    def thread_to_read(self, now: float) -> str | None:
        """The thread that should be read now, for the user looks into it; it counts as asked."""
        look = self.look
        if look is None or self.away:
            return None
        last = self.turns.of(look.session.thread_id)
        runs = last is not None and last.state == "running"
        if not look.is_due(now, runs=runs):
            return None
        look.asked_at, look.is_stale = now, False
        return look.session.thread_id

    def _say(self, text: str, now: float, for_s: float) -> None:
        self._note, self._note_until = text, now + for_s


def _rates(before: Snapshot | None, after: Snapshot) -> Rates | None:
    """None where there is nothing to compare with: the first time, or the hub was made anew."""
    if before is None or after.at <= before.at:
        return None
    then, now = before.status.hub.messages, after.status.hub.messages
    if then is None or now is None:
        return None
    came, went = now.from_clients - then.from_clients, now.to_clients - then.to_clients
    if came < 0 or went < 0:
        return None
    seconds = after.at - before.at
    return Rates(came / seconds, went / seconds)
