"""How turns end of which the server does not tell the end itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from codexd.clock import now_ms
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Message
from codexd.hub.requests import Requests
from codexd.hub.server_requests import TURN_ENDED
from codexd.hub.threads import Thread
from codexd.turn_record import ToldItems, items_of, record_of, tells_its_end

# Asked of a server that lives on: how its last turns stand.
_LAST_TURNS = 5
LAST_TURNS: dict[str, Any] = {
    "limit": _LAST_TURNS,
    "sortDirection": "desc",
    "itemsView": "notLoaded",
}
TURNS_WITH_ITEMS: dict[str, Any] = {**LAST_TURNS, "itemsView": "full"}
# Where a turn is not among the last ones.
_MORE_TURNS = 50
# A thread is told idle just before its turn is told to have ended.
_IDLE_S = 1.0
# How long the server may take to say how a turn ended, and between two times that it is asked.
_ASK_S = 10.0
_AGAIN_S = 0.1
_UNHEARD = "The app-server did not say how the turn ended."


class TurnsPage(msgspec.Struct, frozen=True):
    """A page of turns, the newest first."""

    data: list[dict[str, Any]] = []


@dataclass(slots=True)
class _Question:
    """How did a turn end? ``record`` is what the server has said so far, and is not certain.

    It is None while the server has said nothing, ``since`` while it was not asked, ``next_at``
    while an answer is waited for. ``seen`` are the turn's items that were told, ``limit`` is among
    how many of the last turns it is looked for.
    """

    thread: Thread
    turn: dict[str, Any]
    seen: ToldItems
    next_at: float | None
    since: float | None = None
    asked_at: float = 0.0
    pause_s: float = _AGAIN_S
    record: dict[str, Any] | None = None
    limit: int = _LAST_TURNS

    @property
    def is_overtaken(self) -> bool:
        """Whether the thread has gone on to another turn."""
        return self.thread.turn is None or self.thread.turn["id"] != self.turn["id"]

    @property
    def is_at_work(self) -> bool:
        """Whether the thread, idle as it was told before, is at work on this turn again."""
        return not self.is_overtaken and self.thread.idle_at is None

    def gives_up_at(self, now: float) -> float:
        """From when on something certain is not waited for any more."""
        idle_at = None if self.is_overtaken else self.thread.idle_at
        return max(now if self.since is None else self.since, idle_at or 0.0) + _ASK_S


class Turns:
    """Ends turns for everybody who waits for their end.

    ``on_quiet`` is called with a thread that has nothing going on any more.
    """

    def __init__(self, core: Core, requests: Requests) -> None:
        self._core = core
        self._requests = requests
        self._questions: dict[tuple[str, str], _Question] = {}
        self.on_quiet: Callable[[Thread], None] = lambda _thread: None

    def cut(self, thread: Thread, reason: str) -> None:
        """What ran the thread's turn is gone: its clients are told so, and why."""
        for turn_id, turn in list(thread.overtaken.items()):
            if (thread.id, turn_id) not in self._questions:
                self._end(thread, turn, _interrupted(reason), idles=False)
        if thread.turn is None:
            self._idle(thread)
        else:
            self._end(thread, thread.turn, _interrupted(reason), idles=True)

    def closed(self, thread: Thread, reason: str) -> None:
        """The thread is gone: nothing more is to be learnt of how its turns ended."""
        for (thread_id, _), question in list(self._questions.items()):
            if thread_id == thread.id:
                self._tell_record(question, question.record or {})
                del self._questions[thread_id, question.turn["id"]]
        self.cut(thread, reason)

    def settle(self, thread: Thread, page: TurnsPage, *, is_idle: bool) -> None:
        """The thread's turn is over: it ends as the server has it on record.

        Where that is not certain, the server is asked again before anything is told.
        """
        turn = thread.turn
        if turn is None:
            self._idle(thread)
            return
        if is_idle:
            thread.is_active, thread.idle_at = False, self._core.now
        question = self._ask_after(thread, turn)
        question.since = self._core.now
        self._take(question, page)

    def catch_up(self, thread: Thread, turn: dict[str, Any], *, is_over: bool) -> None:
        """Tell of the items that ended unheard; of a turn that runs, the last one may go on."""
        items = items_of(turn)
        # Who came while it ran has them from its own resume.
        is_news = bool(thread.seen)
        if is_over:
            self._tell_items(thread, turn, thread.may_be_over, thread.seen, is_news=is_news)
            self._tell_items(thread, turn, items, thread.seen, is_news=is_news)
        else:
            self._tell_items(thread, turn, items[:-1], thread.seen, is_news=is_news)
            thread.may_be_over = [item for item in items[-1:] if item.get("status") != "inProgress"]

    def _tell_items(
        self,
        thread: Thread,
        turn: dict[str, Any],
        items: list[dict[str, Any]],
        seen: ToldItems,
        *,
        is_news: bool,
    ) -> None:
        ended_at_ms = int((turn.get("completedAt") or 0) * 1000) or now_ms()
        for item in list(seen.untold(items)):
            seen.add(item)
            if is_news:
                params = {"turnId": turn["id"], "item": item, "completedAtMs": ended_at_ms}
                self._core.fabricate(thread, "item/completed", params)

    def _end(
        self, thread: Thread, turn: dict[str, Any], last: dict[str, Any], *, idles: bool
    ) -> None:
        """Tell that a turn is over; ``last`` is how it ended."""
        self._questions.pop((thread.id, turn["id"]), None)
        over = {**turn, **last, "items": [], "itemsView": "notLoaded"}
        error = over.get("error")
        if error is not None:
            params = {"error": error, "turnId": turn["id"], "willRetry": False}
            self._core.fabricate(thread, "error", params)
        if idles:
            self._core.asked.ended(TURN_ENDED, thread.id)
            self._idle(thread)
        self._core.turn_ended(thread, over, is_cut=over["status"] == "interrupted")
        self._core.fabricate(thread, "turn/completed", {"turn": over})

    def _idle(self, thread: Thread) -> None:
        thread.is_active = False
        self._core.fabricate(thread, "thread/status/changed", {"status": {"type": "idle"}})

    def is_open(self, thread: Thread, turn_id: str) -> bool:
        """Whether the end of a turn that has begun was not told yet."""
        is_last = thread.turn is not None and thread.turn["id"] == turn_id
        is_before = turn_id in thread.overtaken
        return is_last or is_before or (thread.id, turn_id) in self._questions

    # -- a server that lives and does not say how a turn has ended ---------------------------

    def child_lost(self) -> None:
        """What was asked is not answered any more; how a thread stands comes with its resume."""
        for key, question in list(self._questions.items()):
            if question.is_overtaken:
                question.next_at, question.since = 0.0, None
            else:
                del self._questions[key]

    def heard(self, thread: Thread, turn_id: str, before: dict[str, Any] | None) -> None:
        """The server itself told an end, by whatever id; the thread's turn was ``before``."""
        self._questions.pop((thread.id, turn_id), None)
        if before is not None and thread.turn is None:
            self._questions.pop((thread.id, before["id"]), None)

    def tick(self) -> None:
        """Ask after turns that are open while their thread is idle."""
        if self._core.state != "up":
            return
        now = self._core.now
        for thread, turn, due_at in self._unasked():
            if due_at <= now:
                self._ask_after(thread, turn)
        for question in list(self._questions.values()):
            if question.next_at is None and now - question.asked_at > _ASK_S:
                self._give_up(question)
            elif question.next_at is not None and question.next_at <= now:
                self._ask(question)

    @property
    def deadline(self) -> float | None:
        """When the first of such turns is asked after, or given up; None where there is none."""
        if self._core.state != "up":
            return None
        asked = [
            question.asked_at + _ASK_S if question.next_at is None else question.next_at
            for question in self._questions.values()
        ]
        return min([*asked, *(due_at for _, _, due_at in self._unasked())], default=None)

    def _unasked(self) -> list[tuple[Thread, dict[str, Any], float]]:
        """Turns that are open while their thread is idle, or at another, and when to ask."""
        return [
            (thread, turn, due_at)
            for thread in self._core.threads
            for turn, due_at in _not_told_in_time(thread)
            if (thread.id, turn["id"]) not in self._questions
        ]

    def _ask_after(self, thread: Thread, turn: dict[str, Any]) -> _Question:
        question = _Question(thread, turn, thread.seen.copy(), self._core.now)
        self._questions[thread.id, turn["id"]] = question
        return question

    def _ask(self, question: _Question) -> None:
        question.next_at, question.asked_at = None, self._core.now
        if question.since is None:
            question.since = self._core.now
        params = {
            "threadId": question.thread.id,
            **TURNS_WITH_ITEMS,
            "limit": question.limit,
        }
        on_answer = functools.partial(self._answered, question)
        self._requests.own("thread/turns/list", params, on_answer)

    def _answered(self, question: _Question, answer: Message) -> None:
        if self._questions.get((question.thread.id, question.turn["id"])) is not question:
            return
        if "result" in answer.fields:
            self._take(question, answer.result(TurnsPage))
        else:
            # A refusal says nothing of the turn.
            self._ask_later(question)

    def _take(self, question: _Question, page: TurnsPage) -> None:
        record = record_of(question.turn["id"], page.data)
        if record:
            question.record = record
        else:
            question.limit = _MORE_TURNS
        if tells_its_end(record):
            self._close(question, record)
        else:
            self._ask_later(question)

    def _ask_later(self, question: _Question) -> None:
        now = self._core.now
        if now >= question.gives_up_at(now):
            self._give_up(question)
        else:
            question.next_at = min(now + question.pause_s, question.gives_up_at(now))
            question.pause_s *= 2

    def _give_up(self, question: _Question) -> None:
        if question.is_at_work:
            del self._questions[question.thread.id, question.turn["id"]]
        else:
            self._close(question, {**(question.record or {}), **_interrupted(_UNHEARD)})

    def _close(self, question: _Question, record: dict[str, Any]) -> None:
        is_last = not question.is_overtaken
        self._tell_record(question, record)
        thread = question.thread
        self._end(thread, question.turn, record, idles=is_last and not question.is_at_work)
        self.on_quiet(thread)

    def _tell_record(self, question: _Question, record: dict[str, Any]) -> None:
        thread = question.thread
        seen = question.seen if question.is_overtaken else thread.seen
        told = {**question.turn, **record}
        self._tell_items(thread, told, items_of(record), seen, is_news=bool(seen))


def _not_told_in_time(thread: Thread) -> Iterator[tuple[dict[str, Any], float]]:
    """Turns whose end the server would have told by then."""
    if thread.turn is None or thread.has_begun:
        # It tells how a turn ended before it begins another.
        yield from ((turn, 0.0) for turn in thread.overtaken.values())
    if thread.turn is not None and thread.idle_at is not None:
        yield thread.turn, thread.idle_at + _IDLE_S


def _interrupted(reason: str) -> dict[str, Any]:
    """How a turn ends that was cut off.

    Its error is of none of codex's own kinds; and a client that takes a kind for an object, while
    codex sends the plain ones as text, reads nothing more at all (codex-app-server-client 0.1.0).
    The shape is a TurnError's (codex 0.163, schema).
    """
    error = {"message": reason, "codexErrorInfo": None, "additionalDetails": None}
    return {"status": "interrupted", "error": error}
