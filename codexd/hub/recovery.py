"""What survives the death of a child: threads are resumed, and turns end for who waits."""

from __future__ import annotations

import functools
from collections import deque
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.hub import jsonrpc
from codexd.hub.actions import ToClient
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Message
from codexd.hub.notifications import Notifications
from codexd.hub.requests import Requests
from codexd.hub.threads import Thread

# Threads resumed at the same time after a restart; a server that has just booted is busy.
_RESUMES_AT_ONCE = 16
_REASON_LENGTH = 200
# Asked of a server that has lived on: how its last turns stand.
_LAST_TURNS = {"limit": 5, "sortDirection": "desc", "itemsView": "notLoaded"}


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _ResumedThread(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class _TurnsPage(msgspec.Struct, frozen=True):
    data: list[dict[str, Any]] = []


class _Resumed(msgspec.Struct, rename="camel", frozen=True):
    thread: _ResumedThread = _ResumedThread()
    initial_turns_page: _TurnsPage | None = None


class _Loaded(msgspec.Struct, frozen=True):
    data: list[str] = []


class _ErrorText(msgspec.Struct, frozen=True):
    message: str = "unknown"


class _Failed(msgspec.Struct, frozen=True):
    error: _ErrorText = _ErrorText()


class Recovery:
    """Takes the hub from one child to the next."""

    def __init__(self, core: Core, requests: Requests, notifications: Notifications) -> None:
        self._core = core
        self._requests = requests
        self._notifications = notifications
        self._waiting: deque[Thread] = deque()
        self._under_way = 0
        self._same_child = False
        self._loaded: frozenset[str] = frozenset()

    def begin(self, *, same_child: bool) -> None:
        """Connected: resume every thread there is, also those that the child has from others."""
        self._core.state = "recovering"
        self._waiting.clear()
        self._under_way = 1
        self._same_child = same_child
        self._requests.own("thread/loaded/list", {}, self._listed)

    def _listed(self, answer: Message) -> None:
        self._under_way = 0
        self._loaded = frozenset(answer.result(_Loaded).data)
        for thread_id in self._loaded:
            self._core.threads.get(thread_id)
            self._core.book.used(thread_id)
        self._waiting.extend(self._core.threads)
        for thread in self._waiting:
            thread.hearing = "joined"

    def go_on(self, now: float) -> None:
        """Resume the next threads; once all are, let the waiting requests through."""
        if self._core.state != "recovering":
            return
        while self._waiting and self._under_way < _RESUMES_AT_ONCE:
            self._under_way += 1
            # A thread that is loaded still has its config.
            self._resume(self._waiting.popleft(), with_config=not self._same_child)
        if self._under_way == 0:
            self._finish(now)

    def end_what_the_old_child_began(self) -> None:
        """Its approvals are void, and its turns end: it will never say so itself."""
        self._core.asked.ended()
        for thread in self._core.threads:
            if thread.is_busy:
                self._end_turn(thread, {"status": "interrupted"})

    def end_processes(self) -> None:
        """Processes of clients end with the server; file watches are set again later."""
        for client in self._core.clients.values():
            for full, opened_by in list(client.handles.items()):
                if opened_by.method == "fs/watch":
                    continue
                del client.handles[full]
                if opened_by.method == "process/spawn" and client.wants("process/exited"):
                    data = _process_exited(self._core.handles.original(full))
                    self._core.act(ToClient(client.number, data))

    def _resume(self, thread: Thread, *, with_config: bool) -> None:
        params: dict[str, Any] = {"threadId": thread.id, "excludeTurns": True}
        if with_config and thread.config:
            params["config"] = thread.config
        if self._same_child:
            params["initialTurnsPage"] = _LAST_TURNS
        on_answer = functools.partial(self._resumed, thread, "config" in params)
        self._requests.own("thread/resume", params, on_answer)

    def _resumed(self, thread: Thread, had_config: bool, answer: Message) -> None:
        is_ok = "result" in answer.fields
        if not is_ok and had_config:
            # The server may refuse it; the thread matters more.
            self._resume(thread, with_config=False)
            return
        self._under_way -= 1
        if not is_ok and thread.id in self._loaded:
            # It never had a turn, so there is nothing to resume; it is alive all the same.
            thread.hearing = "left"
        elif not is_ok:
            self._lose(thread, _error_text(answer))
        elif self._same_child:
            self._catch_up(thread, answer.result(_Resumed))
        else:
            self._core.book.recovered(thread.id)

    def _catch_up(self, thread: Thread, resumed: _Resumed) -> None:
        """What went on while there was no connection to a child that has lived on."""
        page = resumed.initial_turns_page
        turns = {turn.get("id"): turn for turn in (page.data if page is not None else ())}
        is_active = resumed.thread.status.type == "active"
        unended = [turn for turn in turns.values() if turn.get("status") == "inProgress"]
        running = unended[0] if unended else None
        known = thread.turn
        is_other = running is not None and known is not None and running["id"] != known["id"]
        if thread.is_busy and (not is_active or is_other):
            missed = turns.get(known["id"], {}) if known is not None else {}
            self._end_turn(thread, {"status": "interrupted", **missed})
        thread.is_active = is_active
        if running is not None and is_active:
            thread.began(running)

    def _end_turn(self, thread: Thread, last: dict[str, Any]) -> None:
        """Tell that the turn is over whose end nobody heard; ``last`` is how it ended."""
        turn = thread.turn
        thread.is_active = False
        self._core.fabricate(thread, "thread/status/changed", {"status": {"type": "idle"}})
        if turn is None:
            return
        over = {"items": [], "itemsView": "notLoaded", **turn, **last}
        if self._core.turn_ended(thread, over, is_cut=over["status"] == "interrupted"):
            self._core.fabricate(thread, "turn/completed", {"turn": over})

    def _lose(self, thread: Thread, reason: str) -> None:
        if thread.is_busy:
            self._end_turn(thread, {"status": "interrupted"})
        self._core.fabricate(thread, "thread/closed", {})
        self._core.threads.forget(thread.id)
        self._core.book.lost(thread.id, reason)

    def _finish(self, now: float) -> None:
        self._core.state = "up"
        for client in self._core.clients.values():
            for opened_by in client.handles.values():
                if opened_by.method == "fs/watch":
                    self._requests.own("fs/watch", opened_by.params(dict[str, Any]))
        self._requests.release(now)
        for thread in self._core.threads:
            self._notifications.leave_if_idle(thread)


def _process_exited(handle: str) -> bytes:
    output = {"stdout": "", "stdoutCapReached": False, "stderr": "", "stderrCapReached": False}
    params = {"processHandle": handle, "exitCode": -1, **output}
    return jsonrpc.notification("process/exited", params)


def _error_text(answer: Message) -> str:
    try:
        text = msgspec.json.decode(answer.data, type=_Failed).error.message
    except UNDECODABLE:
        text = "unknown"
    return text[:_REASON_LENGTH]
