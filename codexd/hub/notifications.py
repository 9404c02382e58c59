"""Notifications of the child: who gets each, and what the hub learns from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from codexd.hub import gateway_login, methods
from codexd.hub.actions import Keep, ToClient
from codexd.hub.core import Core
from codexd.hub.initialize import Greeting
from codexd.hub.jsonrpc import Message
from codexd.hub.process_state import ProcessState
from codexd.hub.requests import Requests, ThreadRef
from codexd.hub.server_requests import RESOLVED, THREAD_CLOSED, TURN_ENDED
from codexd.hub.threads import Described, Thread
from codexd.hub.turns import Turns
from codexd.turn_record import begun_agents

_CLOSED = "The thread was closed before the turn had ended."


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _StatusChanged(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    status: _Status = _Status()


class _New(msgspec.Struct, rename="camel", frozen=True):
    id: str = ""
    parent_thread_id: str | None = None
    ephemeral: bool = False


class _ThreadStarted(msgspec.Struct, frozen=True):
    thread: _New = _New()


class _Named(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    thread_name: str | None = None


class _SettingsUpdated(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    thread_settings: dict[str, Any] = {}


class _TurnEvent(msgspec.Struct, rename="camel"):
    thread_id: str = ""
    turn: dict[str, Any] = {}


class _Item(msgspec.Struct, frozen=True):
    id: str = ""
    type: str = ""


class _EndedItemEvent(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    item: dict[str, Any] = {}


class _Changes(msgspec.Struct, frozen=True):
    changes: list[dict[str, Any]] = []


class _ChangeEvent(msgspec.Struct, frozen=True):
    item: _Changes = _Changes()


class _ItemEvent(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    item: _Item = _Item()


class _TurnRef(msgspec.Struct, rename="camel", frozen=True):
    turn_id: str | None = None


# What is kept for a thread whose opening is not answered yet.
_EARLY_MESSAGES = 10_000
_EARLY_BYTES = 16 << 20
# What a thread has the server say of its configuration comes that soon after it was opened.
_OPENED_S = 1.0


class Notifications:
    """Passes notifications on, and keeps threads, turns and sessions by them."""

    def __init__(
        self,
        core: Core,
        requests: Requests,
        greeting: Greeting,
        process: ProcessState,
        turns: Turns,
    ) -> None:
        self._core = core
        self._requests = requests
        self._greeting = greeting
        self._process = process
        self._turns = turns
        turns.on_quiet = self.leave_if_idle
        self._early: list[tuple[str, Message]] = []
        self._early_bytes = 0
        # Threads of which the server asked something then, in order.
        self._early_asked: dict[str, None] = {}
        # The last notification that named a thread, and that thread.
        self._last_told = ("", "")
        # The thread that a client has opened last, and when.
        self._last_opened = ("", -_OPENED_S)

    def came(self, message: Message) -> None:
        """The child tells something."""
        method = message.method or ""
        if method in methods.HANDLES:
            self._tell_owner(message)
            return
        if method == RESOLVED:
            self._core.asked.resolved(message)
            return
        learn = _LEARNT_FROM.get(method)
        if learn is not None and not learn(self, message):
            return
        self._process.told(message)
        thread_id = message.params(ThreadRef).thread_id
        if method == "thread/started":
            thread_id = message.params(_ThreadStarted).thread.id
        self._pass_on(method, thread_id, message)
        if thread_id is not None:
            self._last_told = (method, thread_id)
        if method == "turn/completed" and thread_id is not None:
            self._core.asked.ended(TURN_ENDED, thread_id)
            thread = self._core.threads.find(thread_id)
            if thread is not None:
                self.leave_if_idle(thread)

    def _pass_on(self, method: str, thread_id: str | None, message: Message) -> None:
        if method == gateway_login.CHANGED:
            self._core.tell(self._process.gateway.hearers(message), message)
        elif method in methods.OF_WHO_ASKED:
            self._tell_who_asked(message)
        elif method in methods.CAUSED_BY_TURN:
            self._core.tell(self._who_has_such_turns(method), message)
        elif thread_id is None or self._is_for_everybody(method, thread_id):
            self._greeting.noticed(message)
            self._core.tell(self._core.everybody(thread_id), message)
        elif method == methods.TOLD_AT_RESUME and (who := self._who_resumed(thread_id)) is not None:
            self._core.tell((who,), message)
        else:
            self._tell_subscribers(thread_id, message)

    def _tell_who_asked(self, message: Message) -> None:
        self._greeting.warned(message)
        told: set[int] = set()
        causes = self._requests.sent(methods.CAUSES_NOTICES)
        for entry in causes:
            # One of codexd's own is for those on its thread.
            on_thread = self._core.threads.subscribers(entry.thread_id or "")
            told.update(on_thread if entry.client is None else (entry.client,))
        opened, opened_at = self._last_opened
        if not causes and self._core.now - opened_at < _OPENED_S:
            told.update(self._core.threads.subscribers(opened))
        elif not causes:
            self._greeting.noticed(message)
            told.update(self._core.everybody(None))
        self._core.tell(told, message)

    def _who_resumed(self, thread_id: str) -> int | None:
        """Whose resume the server says this after; None where it may be of a turn that runs."""
        thread = self._core.threads.find(thread_id)
        return None if thread is None or thread.is_busy else thread.next_resumer()

    def _is_for_everybody(self, method: str, thread_id: str) -> bool:
        if method not in methods.BROADCAST:
            return False
        thread = self._core.threads.find(thread_id)
        is_retold = thread is not None and self._core.now < thread.retold_until
        return not (is_retold and method in methods.FOLLOWS_RESUME)

    def _who_has_such_turns(self, method: str) -> Iterable[int]:
        """Of what a turn has caused, and which one is not said: whom it may concern."""
        before, thread_id = self._last_told
        if before == methods.CAUSED_BY_TURN[method]:
            return self._core.threads.subscribers(thread_id)
        busy = [thread.subscribers for thread in self._core.threads if thread.is_busy]
        return tuple(set().union(*busy)) if busy else self._core.everybody(None)

    def opened(self, thread_id: str) -> None:
        """A thread has another listener: it hears what came before it could be known."""
        self._last_opened = (thread_id, self._core.now)
        # Who has opened it is asked once the answer is there.
        self._early_asked.pop(thread_id, None)
        early = self._take_early()
        for early_id, message in early:
            if early_id == thread_id:
                self._core.tell(self._core.threads.subscribers(thread_id), message)
            else:
                self._keep_early(early_id, message)

    def _take_early(self) -> list[tuple[str, Message]]:
        early, self._early, self._early_bytes = self._early, [], 0
        return early

    def _keep_early(self, thread_id: str, message: Message) -> None:
        self._early.append((thread_id, message))
        self._early_bytes += len(message.data)

    def forget_early(self) -> None:
        """Nobody is to hear any more what came early."""
        self._take_early()
        self._early_asked.clear()

    def nothing_opens(self) -> None:
        """No thread is being opened any more: what came early was of other threads."""
        if not self._early and not self._early_asked:
            return
        early = self._take_early()
        for thread_id, message in early:
            self._tell_listeners(thread_id, message)
        asked, self._early_asked = self._early_asked, {}
        for thread_id in asked:
            for client in self.listeners(thread_id):
                self._core.asked.deliver(client, thread_id, is_again=False)

    def who_may_answer(self, thread_id: str) -> Iterable[int]:
        """Whom the server would ask now what it asks on a thread."""
        if self._may_be_opening(self._core.threads.get(thread_id)):
            self._early_asked[thread_id] = None
            return ()
        return self.listeners(thread_id)

    def _may_be_opening(self, thread: Thread) -> bool:
        """Whether it may be one whose opening is not answered yet: then it is for one client."""
        is_unknown = thread.hearing == "unasked" and not thread.subscribers
        return is_unknown and self._requests.openings > 0

    def listeners(self, thread_id: str) -> Iterable[int]:
        """Whom the server would tell what happens on a thread.

        Of a thread that nobody opened (a subagent's) it tells every connection that is there
        when the thread begins, and the hub's is one of them.
        """
        thread = self._core.threads.get(thread_id)
        if thread.hearing == "unasked":
            thread.hearing = "joined"
            clients = self._core.clients
            thread.subscribers.update(
                number
                for number in self._core.everybody(thread_id)
                if clients[number].is_initialized
            )
        return tuple(thread.subscribers)

    def leave_if_idle(self, thread: Thread) -> None:
        """With nobody there and nothing going on, the server may unload the thread in time."""
        if thread.subscribers or thread.is_busy or self._core.asked.of_thread(thread.id):
            return
        if self._core.state == "up" and thread.hearing == "joined":
            thread.hearing = "left"
            thread.left_at = self._core.now
            self._requests.own("thread/unsubscribe", {"threadId": thread.id})

    def _tell_subscribers(self, thread_id: str, message: Message) -> None:
        thread = self._core.threads.get(thread_id)
        if self._may_be_opening(thread):
            self._keep_early(thread_id, message)
            if len(self._early) > _EARLY_MESSAGES or self._early_bytes > _EARLY_BYTES:
                # Too much to be the beginning of a thread.
                self.nothing_opens()
            return
        self._tell_listeners(thread_id, message)

    def _tell_listeners(self, thread_id: str, message: Message) -> None:
        thread = self._core.threads.get(thread_id)
        if thread.is_active and thread.turn is None:
            # A turn that was running before this hub was there: its id is all that is known.
            turn_id = message.params(_TurnRef).turn_id
            if turn_id is not None:
                self._core.turn_began(thread, {"id": turn_id}, is_late=True)
        self._core.tell(self.listeners(thread_id), message)

    def _tell_owner(self, message: Message) -> None:
        found = self._core.handles.incoming(message)
        client = self._core.clients.get(found[0]) if found is not None else None
        if found is None or client is None:
            return
        self._core.handles.ended(client, message)
        if client.wants(message.method):
            self._core.act(ToClient(client.number, found[1]))

    # Each returns whether the notification is to be passed on.

    def _on_thread_started(self, message: Message) -> bool:
        new = message.params(_ThreadStarted).thread
        for client in self._core.clients.values():
            client.noticed(new.id, new.parent_thread_id)
        if new.id:
            thread = self._core.threads.get(new.id)
            thread.described(message.params(Described).thread)
            self._core.book.used(new.id)
            if new.ephemeral:
                thread.is_ephemeral = True
                self._core.book.is_ephemeral(new.id)
        return True

    def _on_named(self, message: Message) -> bool:
        named = message.params(_Named)
        thread = self._core.threads.find(named.thread_id)
        if thread is not None:
            thread.renamed(named.thread_name)
        return True

    def _on_settings(self, message: Message) -> bool:
        event = message.params(_SettingsUpdated)
        thread = self._core.threads.find(event.thread_id)
        if thread is not None and thread.told.updated(event.thread_settings):
            self._core.act(Keep())
        return True

    def _on_status(self, message: Message) -> bool:
        changed = message.params(_StatusChanged)
        is_active = changed.status.type == "active"
        thread = self._core.threads.find(changed.thread_id)
        if thread is None and is_active and changed.thread_id:
            thread = self._core.threads.get(changed.thread_id)
            self._core.book.used(changed.thread_id)
        if thread is not None:
            thread.is_active = is_active
            thread.idle_at = None if is_active or thread.turn is None else self._core.now
        return True

    def _on_thread_gone(self, message: Message) -> bool:
        thread_id = message.params(ThreadRef).thread_id or ""
        self._core.asked.ended(THREAD_CLOSED, thread_id)
        thread = self._core.threads.find(thread_id)
        if thread is not None and (thread.turn is not None or thread.overtaken):
            self._turns.closed(thread, _CLOSED)
        self._core.forget(thread_id)
        self._core.book.closed(thread_id)
        self._requests.thread_came(thread_id)
        return True

    def _on_realtime(self, message: Message) -> bool:
        thread = self._core.threads.find(message.params(ThreadRef).thread_id or "")
        if thread is not None:
            thread.is_realtime = message.method == "thread/realtime/started"
        return True

    def _on_turn_started(self, message: Message) -> bool:
        event = message.params(_TurnEvent)
        if event.thread_id:
            self._core.turn_began(self._core.threads.get(event.thread_id), event.turn)
        return True

    def _on_item_started(self, message: Message) -> bool:
        event = message.params(_ItemEvent)
        thread = self._core.threads.find(event.thread_id)
        if event.item.type == "fileChange" and thread is not None:
            # A request for leave names the item, and not the files.
            changes = message.params(_ChangeEvent).item.changes
            thread.will_change(event.item.id, changes, len(message.data))
        return True

    def _on_item_completed(self, message: Message) -> bool:
        event = message.params(_EndedItemEvent)
        thread = self._core.threads.find(event.thread_id)
        if thread is not None:
            thread.seen.add(event.item)
            thread.changes.pop(str(event.item.get("id")), None)
        for agent in begun_agents(event.item):
            self._began_agent(agent, event.thread_id)
        return True

    def _began_agent(self, agent: str, parent: str) -> None:
        """Who hears of its own threads only has not heard of the subagent before."""
        for number, client in self._core.clients.items():
            if client.noticed(agent, parent):
                self._core.subscribe(number, self._core.threads.get(agent))
                self._core.asked.deliver(number, agent, is_again=False)

    def _on_turn_completed(self, message: Message) -> bool:
        event = message.params(_TurnEvent)
        thread = self._core.threads.find(event.thread_id)
        if thread is None:
            # Closed meanwhile, and with it the turn was over for everybody.
            return False
        if thread.has_gap and thread.turn is not None and thread.turn["id"] == event.turn.get("id"):
            self._turns.catch_up(thread, event.turn, is_over=True)
        thread.is_active = False
        before = thread.turn
        is_cut = event.turn.get("status") == "interrupted"
        is_news = self._core.turn_ended(thread, event.turn, is_cut=is_cut)
        self._turns.heard(thread, str(event.turn.get("id")), before)
        return is_news


_LEARNT_FROM: dict[str, Callable[[Notifications, Message], bool]] = {
    "thread/started": Notifications._on_thread_started,
    "thread/name/updated": Notifications._on_named,
    "thread/settings/updated": Notifications._on_settings,
    "thread/status/changed": Notifications._on_status,
    "thread/closed": Notifications._on_thread_gone,
    "thread/archived": Notifications._on_thread_gone,
    "thread/deleted": Notifications._on_thread_gone,
    "item/started": Notifications._on_item_started,
    "item/completed": Notifications._on_item_completed,
    "thread/realtime/started": Notifications._on_realtime,
    "thread/realtime/closed": Notifications._on_realtime,
    "turn/started": Notifications._on_turn_started,
    "turn/completed": Notifications._on_turn_completed,
}
