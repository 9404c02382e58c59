"""How turns end of which the server does not tell the end itself."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from codexd.clock import now_ms
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Message
from codexd.hub.requests import Requests
from codexd.hub.threads import Thread

# Asked of a server that lives on: how its last turns stand.
LAST_TURNS: dict[str, Any] = {"limit": 5, "sortDirection": "desc", "itemsView": "notLoaded"}
TURNS_WITH_ITEMS: dict[str, Any] = {**LAST_TURNS, "itemsView": "full"}
# A thread is told idle just before its turn is told to have ended.
_IDLE_S = 1.0
# How long the server may take to say how a turn stands.
_ASK_S = 10.0
_UNHEARD = "The app-server did not say how the turn ended."


class TurnsPage(msgspec.Struct, frozen=True):
    """A page of turns, the newest first."""

    data: list[dict[str, Any]] = []


class Turns:
    """Ends turns for everybody who waits for their end."""

    def __init__(self, core: Core, requests: Requests) -> None:
        self._core = core
        self._requests = requests
        self._asked: dict[str, tuple[str, float]] = {}

    def cut(self, thread: Thread, reason: str) -> None:
        """The server that ran the thread's turn is gone: its clients are told so, and why."""
        self.end(thread, {"status": "interrupted", "error": _error(reason)})

    def end(self, thread: Thread, last: dict[str, Any]) -> None:
        """Tell that the turn is over whose end nobody heard; ``last`` is how it ended."""
        turn = thread.turn
        thread.is_active = False
        if turn is None:
            self._idle(thread)
            return
        over = {"items": [], "itemsView": "notLoaded", **turn, **last}
        error = over.get("error")
        if error is not None:
            params = {"error": error, "turnId": turn["id"], "willRetry": False}
            self._core.fabricate(thread, "error", params)
        self._idle(thread)
        self._core.turn_ended(thread, over, is_cut=over["status"] == "interrupted")
        self._core.fabricate(thread, "turn/completed", {"turn": over})

    def catch_up(self, thread: Thread, turn: dict[str, Any], *, is_over: bool) -> None:
        """Tell of the items that ended unheard; of a turn that runs, the last one may go on."""
        items = turn.get("items") or []
        if not thread.seen:
            # Who came while it ran has them from its own resume.
            return
        ended_at_ms = int((turn.get("completedAt") or 0) * 1000) or now_ms()
        for item in items if is_over else items[:-1]:
            if item.get("id") in thread.seen:
                continue
            thread.seen.add(str(item.get("id")))
            params = {"turnId": turn["id"], "item": item, "completedAtMs": ended_at_ms}
            self._core.fabricate(thread, "item/completed", params)

    def _idle(self, thread: Thread) -> None:
        self._core.fabricate(thread, "thread/status/changed", {"status": {"type": "idle"}})

    def end_as_recorded(self, thread: Thread, page: TurnsPage | None) -> None:
        """End the thread's turn as the server has written it down."""
        known = thread.turn
        turns = {turn.get("id"): turn for turn in (page.data if page is not None else ())}
        last = turns.get(known["id"], {}) if known is not None else {}
        if last.get("status") in (None, "inProgress"):
            self.cut(thread, _UNHEARD)
        else:
            self.catch_up(thread, last, is_over=True)
            self.end(thread, {**last, "items": [], "itemsView": "notLoaded"})

    # -- a server that lives and does not say that a turn has ended --------------------------

    def child_lost(self) -> None:
        """What was asked is not answered any more."""
        self._asked.clear()

    def tick(self) -> None:
        """Look for turns that are open while their thread is idle."""
        if self._core.state != "up":
            return
        now = self._core.now
        for thread in self._core.threads:
            turn = thread.turn
            if turn is None or thread.idle_at is None or now - thread.idle_at < _IDLE_S:
                continue
            turn_id, asked_at = self._asked.get(thread.id, ("", 0.0))
            if turn_id != turn["id"]:
                self._ask(thread, turn["id"])
            elif now - asked_at > _ASK_S:
                self._answered(thread, turn_id, None)

    @property
    def deadline(self) -> float | None:
        """When the first of such turns is asked after, or given up; None where there is none."""
        if self._core.state != "up":
            return None
        return min(
            (
                self._asked[thread.id][1] + _ASK_S
                if thread.id in self._asked
                else thread.idle_at + _IDLE_S
                for thread in self._core.threads
                if thread.turn is not None and thread.idle_at is not None
            ),
            default=None,
        )

    def _ask(self, thread: Thread, turn_id: str) -> None:
        self._asked[thread.id] = (turn_id, self._core.now)
        on_answer = functools.partial(self._answered, thread, turn_id)
        params = {"threadId": thread.id, **TURNS_WITH_ITEMS}
        self._requests.own("thread/turns/list", params, on_answer)

    def _answered(self, thread: Thread, turn_id: str, answer: Message | None) -> None:
        self._asked.pop(thread.id, None)
        is_open = thread.turn is not None and thread.turn["id"] == turn_id
        if is_open and thread.idle_at is not None:
            self.end_as_recorded(thread, None if answer is None else answer.result(TurnsPage))


def _error(reason: str) -> dict[str, Any]:
    """A TurnError (codex 0.163, schema).

    It is of none of codex's own kinds; and a client that takes a kind for an object, while codex
    sends the plain ones as text, reads nothing more at all (codex-app-server-client 0.1.0).
    """
    return {"message": reason, "codexErrorInfo": None, "additionalDetails": None}
