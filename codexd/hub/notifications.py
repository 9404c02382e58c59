"""Notifications of the child: who gets each, and what the hub learns from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from codexd.hub import methods
from codexd.hub.actions import ToClient
from codexd.hub.clients import Threadlike
from codexd.hub.core import Core
from codexd.hub.initialize import Greeting
from codexd.hub.jsonrpc import Message
from codexd.hub.requests import Requests, ThreadRef
from codexd.hub.server_requests import RESOLVED
from codexd.hub.threads import Thread


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _StatusChanged(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    status: _Status = _Status()


class _ThreadStarted(msgspec.Struct, frozen=True):
    thread: Threadlike = Threadlike()


class _TurnEvent(msgspec.Struct, rename="camel"):
    thread_id: str = ""
    turn: dict[str, Any] = {}


class _TurnRef(msgspec.Struct, rename="camel", frozen=True):
    turn_id: str | None = None


class Notifications:
    """Passes notifications on, and keeps threads, turns and sessions by them."""

    def __init__(self, core: Core, requests: Requests, greeting: Greeting) -> None:
        self._core = core
        self._requests = requests
        self._greeting = greeting
        self._early: list[tuple[str, Message]] = []

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
        self._greeting.noticed(message)
        thread_id = message.params(ThreadRef).thread_id
        if method == "thread/started":
            thread_id = message.params(_ThreadStarted).thread.id
        if thread_id is None or method in methods.BROADCAST:
            self._core.tell(self._core.everybody(thread_id), message)
        else:
            self._tell_subscribers(thread_id, message)
        if method == "turn/completed" and thread_id is not None:
            self.leave_if_idle(self._core.threads.get(thread_id))

    def opened(self, thread_id: str) -> None:
        """A thread has its first listener: it hears what came before it could be known."""
        for early_id, message in self._early:
            if early_id == thread_id:
                self._core.tell(self._core.threads.subscribers(thread_id), message)
        self._early = [entry for entry in self._early if entry[0] != thread_id]

    def forget_early(self) -> None:
        """Nobody is to hear any more what came early."""
        self._early.clear()

    def nothing_opens(self) -> None:
        """No thread is being opened any more: what came early was of other threads."""
        early, self._early = self._early, []
        for thread_id, message in early:
            self._tell_subscribers(thread_id, message)

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
            self._requests.own("thread/unsubscribe", {"threadId": thread.id})

    def _tell_subscribers(self, thread_id: str, message: Message) -> None:
        thread = self._core.threads.get(thread_id)
        if thread.hearing == "unasked" and not thread.subscribers and self._requests.openings:
            # It may be of a thread whose opening is not answered yet: then it is for one client.
            self._early.append((thread_id, message))
            return
        if thread.is_active and thread.turn is None:
            # A turn that was running before this hub was there: its id is all that is known.
            turn_id = message.params(_TurnRef).turn_id
            if turn_id is not None:
                thread.began({"id": turn_id})
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
        thread = message.params(_ThreadStarted).thread
        thread_id = thread.id
        for client in self._core.clients.values():
            client.noticed(thread)
        if thread_id:
            self._core.threads.get(thread_id)
            self._core.book.used(thread_id)
        return True

    def _on_status(self, message: Message) -> bool:
        changed = message.params(_StatusChanged)
        is_active = changed.status.type == "active"
        thread = self._core.threads.find(changed.thread_id)
        if thread is None and is_active:
            thread = self._core.threads.get(changed.thread_id)
            self._core.book.used(changed.thread_id)
        if thread is not None:
            thread.is_active = is_active
            if not is_active and thread.hearing != "joined":
                # That the turn is over will not be told in any other way.
                thread.turn = None
        return True

    def _on_thread_gone(self, message: Message) -> bool:
        thread_id = message.params(ThreadRef).thread_id or ""
        self._core.asked.ended(thread_id)
        self._core.threads.forget(thread_id)
        self._core.book.closed(thread_id)
        return True

    def _on_turn_started(self, message: Message) -> bool:
        event = message.params(_TurnEvent)
        self._core.turn_began(self._core.threads.get(event.thread_id), event.turn)
        return True

    def _on_turn_completed(self, message: Message) -> bool:
        event = message.params(_TurnEvent)
        thread = self._core.threads.get(event.thread_id)
        self._core.asked.ended(event.thread_id)
        thread.is_active = False
        is_cut = event.turn.get("status") == "interrupted"
        return self._core.turn_ended(thread, event.turn, is_cut=is_cut)


_LEARNT_FROM: dict[str, Callable[[Notifications, Message], bool]] = {
    "thread/started": Notifications._on_thread_started,
    "thread/status/changed": Notifications._on_status,
    "thread/closed": Notifications._on_thread_gone,
    "thread/archived": Notifications._on_thread_gone,
    "thread/deleted": Notifications._on_thread_gone,
    "turn/started": Notifications._on_turn_started,
    "turn/completed": Notifications._on_turn_completed,
}
