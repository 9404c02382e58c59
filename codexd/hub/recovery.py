"""What survives the death of a child: threads are resumed, each for those who wait for it.

Threads that somebody listens to or asks for are resumed at once, those that wait for an answer
first; each one's requests go the moment it is there, and nobody else waits for it. What nobody
uses is left until somebody asks. Only one answer to a resume is final: that there is no such
thread. Everything else may be a passing trouble, and is tried again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from codexd.hub import jsonrpc
from codexd.hub.actions import Keep, ToClient
from codexd.hub.clients import Client, process_exited
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Message
from codexd.hub.methods import REOPENED
from codexd.hub.notifications import Notifications
from codexd.hub.process_state import ProcessState, error_text, whole_error_text
from codexd.hub.refusals import refusal_of
from codexd.hub.requests import Requests, ThreadRef
from codexd.hub.server_requests import SERVER_GONE
from codexd.hub.threads import Described, Thread
from codexd.hub.told_settings import Standing
from codexd.hub.turns import LAST_TURNS, TURNS_WITH_ITEMS, Turns, TurnsPage
from codexd.hub.young_threads import YoungThreads
from codexd.turn_record import record_of, tells_its_end, unended

# Threads resumed at the same time after a restart; a server that has just booted is busy. One
# that takes longer than a second waits for something else, and does not hold up the others.
_RESUMES_AT_ONCE = 16
_SLOW_S = 1.0
# Between two tries of a resume that fails. A client that asks does not wait for it.
_PAUSE_FIRST_S = 0.5
_PAUSE_MAX_S = 60.0
_DOUBLED = 10
_PAUSE_ASKED_S = 0.25
# After the answer to a resume the server says how some things stand (methods.FOLLOWS_RESUME).
RETOLD_S = 2.0
# How long the child may take to say which threads it has.
_LIST_S = 5.0
# Answers of codex 0.163 to a resume of what is gone or put away.
_GONE = ("no rollout found", "invalid session id")
_ARCHIVED = " is archived."
# And of what was made when its server was killed, before a byte of it was written ("failed to read
# thread: …: rollout at PATH is empty").
_EMPTY = " is empty"
# And to a config that it does not take. If its own file is to blame, the path follows.
_BAD_CONFIG = "failed to load configuration: "


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _ResumedThread(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class _Resumed(msgspec.Struct, rename="camel", frozen=True):
    thread: _ResumedThread = _ResumedThread()
    initial_turns_page: TurnsPage | None = None


class _Loaded(msgspec.Struct, frozen=True):
    data: list[str] = []


@dataclass(slots=True)
class _Try:
    """How the resume of a thread stands: ``failed`` times so far, the next one at ``next_at``.

    ``is_for_next`` says that the child takes nothing new, because it is about to end.
    """

    next_at: float
    last_at: float = 0.0
    failed: int = 0
    is_under_way: bool = False
    is_for_next: bool = False
    without_config: bool = False
    is_written_down: bool = False
    reason: str = ""


class Recovery:
    """Takes the hub from one child to the next."""

    def __init__(
        self,
        core: Core,
        requests: Requests,
        notifications: Notifications,
        process: ProcessState,
        turns: Turns,
        young: YoungThreads,
    ) -> None:
        self._core = core
        self._requests = requests
        self._notifications = notifications
        self._process = process
        self._turns = turns
        self._young = young
        # In the order in which they are to be resumed.
        self._tries: dict[str, _Try] = {}
        self._same_child = False
        # While it is not known which threads the child has; the time at which that was asked.
        self._listing_at: float | None = None
        self._loaded: frozenset[str] = frozenset()
        self._reason = "The app-server was restarted before the turn had ended."
        requests.on_thread_wanted = self._wanted

    @property
    def waiting_threads(self) -> int:
        """How many threads are being resumed, or tried again."""
        return len(self._tries)

    @property
    def knows_turns(self) -> bool:
        """Whether a child that lived on has said which turns run in it; a new one runs none."""
        is_asked = self._listing_at is None and not any(
            thread_id in self._loaded for thread_id in self._tries
        )
        return not self._same_child or is_asked

    # -- from child to child -----------------------------------------------------------------

    def child_lost(self, reason: str) -> None:
        """The child is gone, or the connection to it: nothing is known of its threads."""
        self._reason = f"The app-server ended before the turn had ({reason})."
        self._tries.clear()
        self._end_processes()

    def begin(self, *, same_child: bool) -> None:
        """Connected: from now on requests go, but for threads that are not loaded again."""
        self._core.state = "recovering"
        self._tries.clear()
        self._same_child = same_child
        self._loaded = frozenset()
        if same_child:
            self._core.asked.connected_anew()
        else:
            self.end_what_the_old_child_began()
            self._nothing_is_set()
        for thread in self._core.threads:
            self._core.threads.away.add(thread.id)
            thread.hearing = "left"
            if not thread.subscribers and thread.left_at is None:
                thread.left_at = self._core.now
        self.ask_for_threads()
        if same_child and not self._process.is_unset:
            self._open()
        else:
            self._process.set_again(self._open)

    def _nothing_is_set(self) -> None:
        """A new child: if this hub ends as well, the next one must know what is to be done."""
        for thread in self._core.threads:
            thread.is_unset = True
        self._core.act(Keep())

    def ask_for_threads(self) -> None:
        """Ask the child which threads it has loaded, also for others."""
        self._listing_at = self._core.now
        self._requests.own("thread/loaded/list", {}, self._listed)

    def end_what_the_old_child_began(self) -> None:
        """Its approvals are void, and its turns end: it will never say so itself."""
        self._core.asked.ended(SERVER_GONE)
        self._process.end_logins()
        for thread in self._core.threads:
            if thread.is_busy:
                self._turns.cut(thread, self._reason)
            if thread.is_realtime:
                thread.is_realtime = False
                self._core.fabricate(thread, "thread/realtime/closed", {"reason": self._reason})
            if thread.is_ephemeral:
                self._forget(thread)
                self._core.book.closed(thread.id)

    def _open(self) -> None:
        self._core.state = "up"
        self._reopen(None)
        self._requests.release()

    def _reopen(self, thread_id: str | None) -> None:
        """Open again the watches of clients, and the like, of one thread or of none."""

        def goes_on(request: Message) -> bool:
            is_of_it = request.params(ThreadRef).thread_id == thread_id
            return request.method in REOPENED and is_of_it

        for _, _, opened_by in self._open_handles(goes_on):
            self._requests.own(opened_by.method or "", opened_by.params(dict[str, Any]))

    def _end_processes(self) -> None:
        """Processes of clients end with the server; watches and the like are opened again."""
        for client, full, opened_by in self._open_handles(lambda by: by.method not in REOPENED):
            del client.handles[full]
            if opened_by.method == "process/spawn" and client.wants("process/exited"):
                data = process_exited(self._core.handles.original(full))
                self._core.act(ToClient(client.number, data))

    def _open_handles(self, takes: Callable[[Message], bool]) -> list[tuple[Client, str, Message]]:
        """Those of all clients that are open, by the requests that opened them.

        One whose request is still to be read by a server is not.
        """
        found = [
            (client, full, opened_by)
            for client in self._core.clients.values()
            for full, opened_by in client.handles.items()
            if takes(opened_by)
        ]
        waiting = set(map(id, self._requests.unanswered)) if found else ()
        return [entry for entry in found if id(entry[2]) not in waiting]

    # -- which threads, and when -------------------------------------------------------------

    def _listed(self, answer: Message) -> None:
        self._list(answer.result(_Loaded).data)

    def _list(self, loaded: Iterable[str]) -> None:
        if self._listing_at is None:
            return
        self._listing_at = None
        self._loaded = frozenset(filter(None, loaded))
        for thread_id in self._loaded:
            if self._core.threads.find(thread_id) is None:
                # The child has it from others.
                self._core.threads.get(thread_id)
                self._core.threads.away.add(thread_id)
                self._core.book.used(thread_id)
        wanted = self._requests.wanted_threads
        threads = [
            thread
            for thread in self._core.threads
            if thread.id in self._core.threads.away
            and (
                thread.id in self._loaded
                or thread.id in wanted
                or thread.subscribers
                or thread.is_busy
            )
        ]
        threads.sort(key=lambda thread: _urgency(thread, wanted))
        for thread in threads:
            self._tries.setdefault(thread.id, _Try(self._core.now))
        self._go_on()

    def _wanted(self, thread_id: str) -> None:
        """A request waits for a thread: it is resumed before others, whatever failed before."""
        attempt = self._tries.pop(thread_id, None) or _Try(self._core.now)
        attempt.next_at = min(attempt.next_at, attempt.last_at + _PAUSE_ASKED_S)
        self._tries = {thread_id: attempt, **self._tries}
        self._go_on()

    def tick(self) -> None:
        """Time passes."""
        if self._core.state != "up":
            return
        if self._listing_at is not None and self._core.now - self._listing_at > _LIST_S:
            self._list(())
        for thread_id, attempt in list(self._tries.items()):
            if attempt.failed and not attempt.is_under_way:
                self._refuse(thread_id, attempt)
        self._go_on()
        self._unload()

    def deadline(self, now: float) -> float | None:
        """When there may be something to do again; None where nothing waits for a time."""
        if self._core.state != "up":
            return None
        if self._listing_at is not None or self._tries:
            return now
        away = map(self._core.threads.find, self._core.threads.away)
        left = [thread.left_at for thread in away if thread is not None and not thread.subscribers]
        first = min((at for at in left if at is not None), default=None)
        return None if first is None else first + self._core.limits.unload_s

    def _go_on(self) -> None:
        if self._listing_at is not None or self._core.state == "away":
            return
        now = self._core.now
        under_way = sum(
            attempt.is_under_way and now - attempt.last_at < _SLOW_S
            for attempt in self._tries.values()
        )
        for thread, attempt in self._due():
            if under_way >= _RESUMES_AT_ONCE or (thread.is_slow and self._quick_ones_are_under_way):
                return
            under_way += 1
            self._resume(thread, attempt)

    def _due(self) -> list[tuple[Thread, _Try]]:
        """What may be resumed now, the quick ones first.

        codex 0.163 resumes one thread after the other, whoever asks: behind one that waits for
        its MCP servers all others would wait.
        """
        found: list[tuple[Thread, _Try]] = []
        for thread_id, attempt in list(self._tries.items()):
            if attempt.is_under_way or attempt.next_at > self._core.now:
                continue
            thread = self._core.threads.find(thread_id)
            if thread is None or not self._is_still_wanted(thread, attempt):
                del self._tries[thread_id]
            else:
                found.append((thread, attempt))
        return sorted(found, key=lambda entry: entry[0].is_slow)

    @property
    def _quick_ones_are_under_way(self) -> bool:
        now = self._core.now
        for thread_id, attempt in self._tries.items():
            thread = self._core.threads.find(thread_id)
            is_young = attempt.is_under_way and now - attempt.last_at < _SLOW_S
            if is_young and thread is not None and not thread.is_slow:
                return True
        return False

    def _is_still_wanted(self, thread: Thread, attempt: _Try) -> bool:
        """Of what failed: whether anybody would miss it."""
        is_waited_for = thread.subscribers or self._requests.wait_for(thread.id)
        return not attempt.failed or bool(is_waited_for) or thread.is_busy

    def _unload(self) -> None:
        """What nobody has used for as long as the server keeps a thread is over."""
        before = self._core.now - self._core.limits.unload_s
        for thread_id in list(self._core.threads.away):
            thread = self._core.threads.find(thread_id)
            if thread is None or thread.subscribers or thread_id in self._tries:
                continue
            if thread.is_busy:
                # It runs in a child that lives on and has not said yet what it has.
                continue
            if thread.left_at is not None and thread.left_at < before:
                self._forget(thread)
                self._core.book.closed(thread_id)

    # -- one thread --------------------------------------------------------------------------

    def _resume(self, thread: Thread, attempt: _Try) -> None:
        attempt.is_under_way, attempt.last_at = True, self._core.now
        params: dict[str, Any] = {"threadId": thread.id, "excludeTurns": True}
        if not self._still_has(thread):
            params |= thread.to_give_again()
        if attempt.without_config:
            params.pop("config", None)
        if self._same_child:
            params["initialTurnsPage"] = TURNS_WITH_ITEMS if thread.is_busy else LAST_TURNS
        on_answer = functools.partial(self._resumed, thread, attempt)
        self._requests.own("thread/resume", params, on_answer)

    def _still_has(self, thread: Thread) -> bool:
        """Whether the child has had the thread all along, with what it was opened with.

        One that nobody has used since this child is there it has yet to load.
        """
        return self._same_child and thread.id in self._loaded

    def _resumed(self, thread: Thread, attempt: _Try, answer: Message) -> None:
        self._take_answer(thread, attempt, answer)
        self._go_on()

    def _take_answer(self, thread: Thread, attempt: _Try, answer: Message) -> None:
        if self._core.threads.find(thread.id) is not thread:
            # It was closed or deleted meanwhile.
            self._tries.pop(thread.id, None)
            return
        thread.took_s = self._core.now - attempt.last_at
        refusal = refusal_of(answer)
        attempt.is_for_next = refusal is not None and refusal.is_draining
        if refusal is None:
            thread.retold_until = self._core.now + RETOLD_S
            thread.described(answer.result(Described).thread)
            self.loaded(thread, answer, thread.to_give_again())
            if self._same_child:
                self._catch_up(thread, answer.result(_Resumed))
            else:
                self._core.book.recovered(thread.id)
            thread.hearing = "joined"
            self.came(thread)
            self._reopen(thread.id)
            return
        reason = error_text(answer)
        is_gone = _is_gone(whole_error_text(answer))
        if thread.id in self._loaded and (is_gone or self._young.is_refused(answer)):
            self._is_young(thread, attempt)
        elif is_gone:
            self._lose(thread, reason)
        elif not attempt.without_config and _blames_config(reason):
            self._resume_without_config(thread, attempt, reason)
        else:
            self._failed(thread, attempt, reason)

    def _is_young(self, thread: Thread, attempt: _Try) -> None:
        """It never had a turn, so there is nothing to resume; it is alive all the same."""
        if attempt.is_written_down:
            thread.hearing = "left"
            self.came(thread)
        else:
            attempt.is_written_down = True
            again = functools.partial(self._resume, thread, attempt)
            self._young.write_down(thread.id, again)

    def _resume_without_config(self, thread: Thread, attempt: _Try, reason: str) -> None:
        """The server does not take any more what it took at first; the thread matters more."""
        attempt.without_config = True
        text = f"The thread was resumed without the config it was opened with: {reason}"
        self._warn(thread, text)
        self._resume(thread, attempt)

    def came(self, thread: Thread) -> None:
        """The child has loaded a thread for this connection."""
        self._tries.pop(thread.id, None)
        self._core.threads.away.discard(thread.id)
        if not self._requests.thread_came(thread.id):
            self._notifications.leave_if_idle(thread)

    def loaded(self, thread: Thread, answer: Message, given: dict[str, Any]) -> None:
        """The server has a thread: a new one is told the settings that went with the last one.

        ``answer`` is that to the request that has loaded it, and ``given`` its params.
        """
        if self._still_has(thread) and not thread.is_unset:
            thread.told.stands(answer.result(Standing))
            return
        settings = thread.settings
        if settings is None:
            settings = thread.told.to_set_again(answer.result(Standing), given)
        thread.is_unset = bool(settings)
        if settings:
            on_answer = functools.partial(self._settings_answered, thread, settings)
            params = {**settings, "threadId": thread.id}
            # A turn that begins before would have what the settings forbid.
            self._requests.own("thread/settings/update", params, on_answer, is_first=True)

    def _settings_answered(self, thread: Thread, settings: dict[str, Any], answer: Message) -> None:
        # What was refused may be taken on the next connection.
        thread.is_unset = "result" not in answer.fields
        if thread.is_unset:
            names = ", ".join(settings)
            self._warn(
                thread,
                "The app-server was restarted and did not take the thread's settings again "
                f"({names}): {error_text(answer)}",
            )

    def _warn(self, thread: Thread, text: str) -> None:
        data = jsonrpc.notification("warning", {"message": text, "threadId": thread.id})
        self._core.tell(tuple(thread.subscribers), Message(data, {}, "warning"))

    def _failed(self, thread: Thread, attempt: _Try, reason: str) -> None:
        pause_s = min(_PAUSE_FIRST_S * 2 ** min(attempt.failed, _DOUBLED), _PAUSE_MAX_S)
        attempt.failed += 1
        attempt.is_under_way = False
        attempt.reason = reason
        attempt.next_at = self._core.now + pause_s
        self._refuse(thread.id, attempt)

    def _refuse(self, thread_id: str, attempt: _Try) -> None:
        limits = self._core.limits
        # For another child whoever asks for the thread waits as for one that is away.
        patience_s = limits.wait_s if attempt.is_for_next else limits.thread_wait_s
        self._requests.refuse_for_thread(thread_id, attempt.reason, older_than_s=patience_s)

    def _catch_up(self, thread: Thread, resumed: _Resumed) -> None:
        """What went on while there was no connection to a child that has lived on."""
        page = resumed.initial_turns_page or TurnsPage()
        turns = page.data
        going_on = unended(turns)
        running = going_on[0] if going_on else None
        # Once a review is over, codex says of its thread for good that it is active.
        is_stale = running is None and any(turn.get("status") == "inProgress" for turn in turns)
        is_active = resumed.thread.status.type == "active" and not is_stale
        known = thread.turn
        is_other = running is not None and known is not None and running["id"] != known["id"]
        if (
            is_other
            and known is not None
            and not _since(known, [turn for turn in turns if turn is not running])
        ):
            # It is a review, which the server has written down by its other id until it ends.
            thread.review, is_other = known["id"], False
            thread.has_begun = True
        is_over = known is not None and tells_its_end(record_of(known["id"], turns))
        if thread.is_busy and (not is_active or is_other or is_over):
            self._turns.settle(thread, page, is_idle=not is_active)
        elif running is not None and known is not None:
            thread.has_gap = True
            self._turns.catch_up(thread, running, is_over=False)
        thread.is_active = is_active
        if running is not None and is_active:
            self._core.turn_began(thread, running, is_late=True)

    def _lose(self, thread: Thread, reason: str) -> None:
        self._forget(thread)
        self._core.book.lost(thread.id, reason)

    def _forget(self, thread: Thread) -> None:
        """The thread is gone; what asks for it hears that from the server."""
        if thread.is_busy:
            self._turns.closed(thread, self._reason)
        self._core.fabricate(thread, "thread/closed", {})
        self._core.forget(thread.id)
        self._tries.pop(thread.id, None)
        self._requests.thread_came(thread.id)


def _since(known: dict[str, Any], turns: list[dict[str, Any]]) -> bool:
    """Whether one of these is the turn that is known, or is newer: ids are in order of time."""
    return any(str(turn.get("id")) >= str(known["id"]) for turn in turns)


def _urgency(thread: Thread, wanted: Iterable[str]) -> tuple[bool, bool, bool]:
    """Sorts those who are waited for first, then those at work, then those with listeners."""
    return (thread.id not in wanted, not thread.is_busy, not thread.subscribers)


def _is_gone(reason: str) -> bool:
    return reason.startswith(_GONE) or _ARCHIVED in reason or reason.endswith(_EMPTY)


def _blames_config(reason: str) -> bool:
    return reason.startswith(_BAD_CONFIG) and not reason.startswith(f"{_BAD_CONFIG}/")
