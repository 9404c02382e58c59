"""A turn from the command line: heard in a thread, while the terminal is listened to."""

from __future__ import annotations

import contextlib
import functools
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Protocol, TypeVar

from codexd.cli.desk import Desk, Verdict
from codexd.cli.kin import Kin
from codexd.cli.server_ready import why_not_ready
from codexd.client.errors import (
    DaemonAbsent,
    DaemonAway,
    DaemonError,
    Refused,
    TurnUnknown,
)
from codexd.client.sync import Client
from codexd.shapes import Approval, FinishedTurn

_Answer = TypeVar("_Answer")

_TICK_S: Final = 0.2
# While nothing is told, it may be that somebody is to give leave.
_LOOK_S: Final = 0.5
# How long an interrupted turn may take to end.
_PATIENCE_S: Final = 10.0
# After this, one wants to know what is waited for.
_QUIET_S: Final = 1.0
# After this, also where the daemon has not a word to say.
_MUTE_S: Final = 4.0
# As long as the daemon itself waits for it, by default.
_SERVER_S: Final = 120.0
# A service manager has a daemon back by then.
_ABSENCE_S: Final = 60.0


class Left(Exception):
    """The turn was left before its end. The text says what is known of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run. ``thread_id`` is None for a new thread."""

    prompt: str
    thread_id: str | None
    cwd: str | None
    model: str | None
    output_schema: dict[str, Any] | None


class Watcher(Protocol):
    """Who shows what happens; all of it is called in the thread of :meth:`TurnDriver.run`."""

    def heard(self, notification: dict[str, Any]) -> None:
        """A notification of the protocol."""

    def tell(self, text: str) -> None:
        """A sentence about codexd's own doings."""

    def refused(self, approval: Approval) -> None:
        """It was declined because nobody was there to decide."""


class TurnDriver:
    """Runs one turn. ``looker`` is a client that is not waited for long.

    ``daemon_lives()`` tells whether there is a daemon at all. Attributes:
        thread_id, turn_id: As soon as they are known.
        was_broken: Whether something of the turn was not heard.
        was_stopped: Whether it was interrupted from here.
    """

    def __init__(
        self,
        client: Client,
        looker: Client,
        watcher: Watcher,
        desk: Desk,
        *,
        daemon_lives: Callable[[], bool],
        timeout_s: float | None = None,
    ) -> None:
        self._client = client
        self._looker = looker
        self._kin = Kin(looker)
        self._watcher = watcher
        self._daemon_lives = daemon_lives
        self._desk = desk
        self.thread_id: str | None = None
        self.turn_id: str | None = None
        self.was_broken = False
        self.was_stopped = False
        self._told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._heard_at = self._looked_at = time.monotonic()
        self._deadline = None if timeout_s is None else self._heard_at + timeout_s
        self._give_up_at: float | None = None
        self._wants_stop = False
        self._signals_came = 0
        self._is_told_of_silence = False
        self._is_asked_for = False
        self._beginning = threading.Lock()
        self._absent_since: float | None = None
        self._decided: set[str] = set()

    @property
    def has_begun(self) -> bool:
        """Whether the turn may run."""
        return self._is_asked_for

    def stops(self) -> bool:
        """Whether the turn is being interrupted, or about to be."""
        return self._wants_stop or self._signals_came > 0 or self._is_due(time.monotonic())

    def _is_due(self, now: float) -> bool:
        return self._deadline is not None and now >= self._deadline

    def run(self, order: Order) -> FinishedTurn:
        """Run it to its end.

        Raises:
            DaemonError: it could not be run.
            Left: it was not waited for.
        """
        self.thread_id = order.thread_id
        worker = threading.Thread(target=self._work, args=(order,), daemon=True)
        with self._signals():
            worker.start()
            while True:
                self._see_to_its_end(time.monotonic())
                try:
                    kind, value = self._told.get(timeout=_TICK_S)
                except queue.Empty:
                    self._look_around(time.monotonic())
                    continue
                self._heard_at = time.monotonic()
                if kind == "end":
                    finished: FinishedTurn = value
                    return finished
                self._take(kind, value)

    def stop(self, why: str) -> None:
        """Interrupt the turn, now or as soon as it runs.

        Raises:
            Left: there is none yet, and there will be none.
        """
        if self._wants_stop:
            return
        with self._beginning:
            self._wants_stop = self.was_stopped = True
        self._watcher.tell(why)
        if not self._is_asked_for:
            raise Left("The turn had not begun.")
        self._give_up_at = time.monotonic() + _PATIENCE_S
        self._interrupt()

    def abandon(self) -> None:
        """Interrupt the turn, also one that is just beginning, and do not wait for its end."""
        with self._beginning:
            self._wants_stop = self.was_stopped = True
        deadline = time.monotonic() + _PATIENCE_S
        while self._is_asked_for and self.turn_id is None and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                kind, value = self._told.get(timeout=_TICK_S)
                if kind in ("end", "error"):
                    return
                self.turn_id = value if kind == "turn" else None
        self._interrupt()

    # -- in a thread of its own ----------------------------------------------------------------

    def _work(self, order: Order) -> None:
        try:
            self._await_server()
            thread_id = order.thread_id
            if thread_id is None:
                # One without a turn is nobody's loss: it may be asked for twice.
                thread_id = self._patiently(lambda: self._start_thread(order), DaemonAway)
                self._told.put(("thread", thread_id))
            with self._beginning:
                if self._wants_stop:
                    return
                self._is_asked_for = True
            finished = self._patiently(lambda: self._run(thread_id, order), DaemonAbsent)
            self._told.put(("end", finished))
        except BaseException as error:
            self._told.put(("error", error))

    def _await_server(self) -> None:
        """Wait until a turn can begin: one that is asked for now would begin when the server is
        back, whoever has left meanwhile.
        """
        began, is_told = time.monotonic(), False
        while not self._wants_stop:
            status = self._patiently(self._looker.status, DaemonAway)
            reason = why_not_ready(status)
            waited = time.monotonic() - began
            if reason is None:
                return
            if waited >= _SERVER_S:
                raise DaemonError(f"The server does not come: {reason}")
            if waited >= _QUIET_S and not is_told:
                is_told = True
                self._told.put(("waiting", reason))
            time.sleep(_TICK_S)

    def _start_thread(self, order: Order) -> str:
        return self._client.threads.start(cwd=order.cwd, model=order.model).thread_id

    def _run(self, thread_id: str, order: Order) -> FinishedTurn:
        try:
            return self._client.run(
                order.prompt,
                thread=thread_id,
                # A new thread has them already, and an old one keeps its own.
                cwd=order.cwd if order.thread_id else None,
                model=order.model if order.thread_id else None,
                output_schema=order.output_schema,
                on_start=lambda turn_id: self._told.put(("turn", turn_id)),
                on_event=lambda notification: self._told.put(("event", notification)),
                on_break=lambda error: self._told.put(("break", error)),
            )
        except TurnUnknown as error:
            turn_id = None if order.thread_id else self._only_turn(thread_id)
            if turn_id is None:
                raise
            self._told.put(("break", error))
            self._told.put(("turn", turn_id))
            return self._client.wait(thread_id, turn_id)

    def _only_turn(self, thread_id: str) -> str | None:
        """The turn of a thread that is nobody else's."""
        thread = self._patiently(lambda: self._client.threads.get(thread_id), DaemonAway)
        turns = thread.get("turns")
        return turns[0].get("id") if isinstance(turns, list) and turns else None

    def _patiently(self, ask: Callable[[], _Answer], trouble: type[DaemonAway]) -> _Answer:
        """Ask again over ``trouble``, while the daemon lives: it has its plugin back within about
        a second.
        """
        deadline = time.monotonic() + _ABSENCE_S
        while True:
            try:
                return ask()
            except trouble:
                if not self._daemon_lives() or time.monotonic() >= deadline:
                    raise
            time.sleep(_TICK_S)

    # -- what it tells -------------------------------------------------------------------------

    def _take(self, kind: str, value: Any) -> None:
        if kind == "thread":
            self.thread_id = value
        elif kind == "turn":
            self.turn_id = value
            if self._wants_stop:
                self._interrupt()
        elif kind == "error":
            raise value
        elif kind == "waiting":
            self._watcher.tell(f"the server is waited for: {value}")
        elif kind == "break":
            self.was_broken = True
            self._watcher.tell(
                "the daemon has hung up and is waited for; what the agent says meanwhile comes "
                "at the end of the turn"
            )
        else:
            self._heard(value)

    def _heard(self, notification: dict[str, Any]) -> None:
        is_first = self.turn_id is None
        if is_first:
            params = notification.get("params") or {}
            turn = params.get("turn") or {}
            self.turn_id = turn.get("id") or params.get("turnId")
        self._watcher.heard(notification)
        if is_first and self._wants_stop:
            self._interrupt()

    # -- while nothing is told -----------------------------------------------------------------

    def _look_around(self, now: float) -> None:
        if now - max(self._looked_at, self._heard_at) < _LOOK_S:
            return
        self._looked_at = now
        self._tell_of_silence(now)
        self._see_whether_there_is_one(now)
        if self.turn_id is not None and not self._wants_stop:
            self._see_to_approvals()

    def _see_whether_there_is_one(self, now: float) -> None:
        if self._daemon_lives():
            self._absent_since = None
            return
        self._absent_since = self._absent_since or now
        if now - self._absent_since > _ABSENCE_S:
            raise Left(self._unknown("has lost its daemon, which does not come back"))

    def _tell_of_silence(self, now: float) -> None:
        """A turn that runs may be silent; before that, something hangs."""
        is_mute = self.turn_id is None and now - self._heard_at >= _MUTE_S
        if is_mute and not self._is_told_of_silence:
            self._is_told_of_silence = True
            self._watcher.tell("the turn has not begun yet: the daemon is waited for")

    def _see_to_approvals(self) -> None:
        for approval in self._waiting():
            if approval.approval_id in self._decided:
                continue
            self._decided.add(approval.approval_id)
            waits = functools.partial(self._waits, approval.approval_id)
            self._answer(approval, self._desk.decide(approval, waits))

    def _answer(self, approval: Approval, verdict: Verdict) -> None:
        if verdict.word is None:
            return
        try:
            self._looker.decide(approval.approval_id, verdict.word)
            if verdict.is_nobodys:
                self._watcher.refused(approval)
        except Refused as error:
            self._watcher.tell(str(error))
        except DaemonError:
            # It is asked again when the daemon is back.
            self._decided.discard(approval.approval_id)

    def _waiting(self) -> list[Approval]:
        try:
            found = self._looker.approvals()
        except DaemonError:
            return []
        return [approval for approval in found if self._concerns(approval)]

    def _concerns(self, approval: Approval) -> bool:
        """Whether it is this turn that waits for it, or an agent that works for it."""
        if self.thread_id is None:
            return False
        if approval.thread_id == self.thread_id:
            return approval.turn_id in (None, self.turn_id)
        return self._kin.works_for(approval.thread_id, self.thread_id)

    def _waits(self, approval_id: str) -> bool:
        try:
            return any(entry.approval_id == approval_id for entry in self._looker.approvals())
        except DaemonError:
            return True

    # -- its end from here ---------------------------------------------------------------------

    def _see_to_its_end(self, now: float) -> None:
        if self._signals_came:
            self.stop("the turn is interrupted; Ctrl-C once more leaves at once")
        elif self._is_due(now):
            self.stop("the time is over: the turn is interrupted")
        if self._give_up_at is not None and now >= self._give_up_at:
            raise Left(self._unknown("does not end"))

    def _interrupt(self) -> None:
        if self.thread_id is None or self.turn_id is None:
            return
        try:
            self._looker.interrupt(self.thread_id, self.turn_id)
        except DaemonError as error:
            self._watcher.tell(f"the turn could not be interrupted: {error}")

    def _unknown(self, what: str) -> str:
        thread = self.thread_id
        where = "" if thread is None else f" `codexd threads show {thread}` tells what came of it."
        return f"The turn {what}: it is left.{where}"

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM or a hang-up interrupts the turn; once more, and it is left at once."""

        def came(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._signals_came += 1
            if self._signals_came > 1:
                raise Left(self._unknown("was being interrupted"))

        # One that was ignored stays so: Ctrl-C is not meant for what runs in the background.
        before = {
            number: signal.signal(number, came)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
