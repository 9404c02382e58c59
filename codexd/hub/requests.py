"""Requests on their way to the child: sent, waiting for it to be there, or lost with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.hub import jsonrpc, methods
from codexd.hub.actions import ToChild
from codexd.hub.core import Core
from codexd.hub.counts import LEFT
from codexd.hub.jsonrpc import Message
from codexd.hub.queues import FairQueue, Load, Room
from codexd.hub.window import Window

# The owner of the hub's own requests in the queue; clients count from 1.
_OWN = 0
_PATIENCE_INTERVAL_S = 1.0


class ThreadRef(msgspec.Struct, rename="camel", frozen=True):
    """Params that name a thread."""

    thread_id: str | None = None


class Pending(msgspec.Struct, eq=False):
    """A request that is not answered. ``client`` is None for one of the hub's own.

    ``since`` is when it began to wait, the last time, ``came_at`` when the client asked, ``order``
    its place among all. ``subscribed`` is the
    thread whose notifications its client hears only because of it; ``is_repeated`` says that a
    server died over it, or beside it, before, ``is_unread`` that one died before it read it,
    ``is_second_try`` that this one has refused it before, for a reason that is mended.
    """

    message: Message
    client: int | None
    client_id: bytes
    since: float
    on_answer: Callable[[Message], None] | None = None
    order: int = 0
    came_at: float = 0.0
    subscribed: str | None = None
    is_repeated: bool = False
    is_unread: bool = False
    is_second_try: bool = False

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.message.data)

    @property
    def thread_id(self) -> str | None:
        """The thread that it names."""
        named: str | None = self.message.params(ThreadRef).thread_id
        return named


class Requests:
    """Every request that the child has not answered.

    What may not go yet waits for the server, for the next server (new turns, while this one is
    to end), for its thread to be loaded again, or for room at the child.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        limits = core.limits
        self._load = Load(
            Room(
                client_requests=limits.client_requests,
                client_bytes=limits.client_bytes,
                requests=limits.waiting_requests,
                bytes=limits.waiting_bytes,
            )
        )
        self._window = Window()
        self._sent: dict[str, Pending] = {}
        self._for_server: deque[Pending] = deque()
        self._for_thread: dict[str, deque[Pending]] = {}
        self._ready: FairQueue[Pending] = FairQueue()
        self._count = 0
        self._order = 0
        self._checked_at = 0.0
        self.openings = 0
        # While a child is to end: a turn that it would not finish must not begin, nor, once no turn
        # runs any more, a thread that it would not have opened.
        self.holds_turns = False
        # Called with the thread that a request waits for.
        self.on_thread_wanted: Callable[[str], None] = lambda _thread_id: None

    @property
    def count(self) -> int:
        """How many there are."""
        return self._load.total + len(self._sent)

    def wait_for(self, thread_id: str) -> int:
        """How many requests wait for a thread."""
        return len(self._for_thread.get(thread_id, ()))

    @property
    def wanted_threads(self) -> set[str]:
        """The threads that are waited for, now or once the server is there."""
        waiting = {entry.thread_id for entry in self._for_server}
        return {*self._for_thread, *(thread_id for thread_id in waiting if thread_id)}

    # -- in ----------------------------------------------------------------------------------

    def submit(self, entry: Pending) -> None:
        """Send a client's request, now or as soon as it may go."""
        assert entry.client is not None
        self._order += 1
        entry.order = self._order
        entry.came_at = entry.since
        if self._goes_at_once(entry.client):
            self._send(entry)
            return
        if self._load.has_room(entry.client, entry.size):
            self._load.add(entry.client, entry.size)
            self._place(entry)
            self._send_ready()
            return
        text = "Too many requests wait for the app-server; try again later."
        self._answer_error(entry, entry.client, jsonrpc.OVERLOADED, text)

    def _goes_at_once(self, client: int) -> bool:
        """Whether nothing waits, and nothing is to be waited for."""
        return (
            self._core.state == "up"
            and not (self.holds_turns or self._load.total or self._ready.has_any)
            and not self._core.threads.away
            and self._may_send(client)
        )

    def put_back(self, entry: Pending, client: int) -> None:
        """The child refused a client's request because it is ending: the next one gets it."""
        self._load.add(client, entry.size)
        self._for_server.append(entry)

    def own(
        self,
        method: str,
        params: Any,
        on_answer: Callable[[Message], None] | None = None,
        *,
        is_first: bool = False,
    ) -> None:
        """Send a request of the hub's own; there is none while the child is away.

        With ``is_first`` it goes before all that waits, or comes after it.
        """
        if self._core.state == "away":
            return
        message = jsonrpc.parse(jsonrpc.request("", method, params))
        assert message is not None
        entry = Pending(message, None, b"", self._core.now, on_answer)
        if is_first:
            self._send(entry)
        else:
            self._ready.put(_OWN, entry)
            self._send_ready()

    def _place(self, entry: Pending) -> None:
        if self._core.state != "up" or self._is_held(entry):
            self._for_server.append(entry)
            return
        thread_id = entry.thread_id if self._core.threads.away else None
        if thread_id is not None and thread_id in self._core.threads.away:
            self._for_thread.setdefault(thread_id, deque()).append(entry)
            self.on_thread_wanted(thread_id)
        else:
            self._ready.put(entry.client or _OWN, entry)

    def hold_turns(self) -> None:
        """The child is to end: what it would not finish waits for the next one, if unsent."""
        self.holds_turns = True
        for entry in self._ready.clear():
            if self._is_held(entry):
                self._for_server.append(entry)
            else:
                self._ready.put(entry.client or _OWN, entry)

    def _is_held(self, entry: Pending) -> bool:
        if not self.holds_turns:
            return False
        method = entry.message.method
        # While turns run there is time to open a thread; then the child ends, and would cut it.
        is_last = method in methods.OPENING and not self._core.threads.running_turns
        return is_last or method in methods.TURN_STARTING

    # -- out ---------------------------------------------------------------------------------

    def _send_ready(self) -> None:
        while (entry := self._ready.take(self._may_send)) is not None:
            if entry.client is not None:
                self._load.remove(entry.client, entry.size)
            self._send(entry)

    def _may_send(self, client: int) -> bool:
        if self._window.may_send(client):
            return True
        self._window.grow_old(self._core.now)
        return self._window.may_send(client)

    def _send(self, entry: Pending) -> None:
        self._count += 1
        hub_id = f"{self._core.prefix}{self._count}"
        self._sent[hub_id] = entry
        self._window.sent(hub_id, entry.client or _OWN, self._core.now)
        method = entry.message.method
        if method in methods.SUBSCRIBING_BY_NAME and entry.client is not None:
            self._expect_resume(entry, entry.client)
        elif method in methods.OPENING:
            self.openings += 1
        elif method in methods.NAMES_REQUEST and entry.client is not None:
            self._rename_request(entry, methods.NAMES_REQUEST[method])
        self._core.act(ToChild(entry.message.with_text_id(hub_id)))

    def _rename_request(self, entry: Pending, name: str) -> None:
        """The client names a request of its own by its id, and the server knows that by another."""
        named = bytes(entry.message.params(jsonrpc.Fields).get(name, b""))
        ids = [
            hub_id
            for hub_id, sent in self._sent.items()
            if sent.client == entry.client and sent.client_id == named
        ]
        if jsonrpc.is_id(named):
            entry.message.replace_param(name, ids[0] if ids else f"{self._core.prefix}answered")

    def _expect_resume(self, entry: Pending, client: int) -> None:
        """The server may tell of the thread before it answers: its new listener hears that."""
        thread_id = entry.thread_id
        # No thread has an empty id.
        if not thread_id:
            return
        thread = self._core.threads.get(thread_id)
        if client not in thread.subscribers:
            entry.subscribed = thread_id
            self._core.subscribe(client, thread, is_asked=True)

    def answered(self, message: Message) -> Pending | None:
        """The request that the child answers; None where this hub did not send it."""
        hub_id = text_id(message)
        entry = self._sent.pop(hub_id, None)
        if entry is not None:
            self._window.done(hub_id)
            if entry.message.method in methods.OPENING:
                self.openings -= 1
        return entry

    def not_answered_yet(self, hub_id: str, entry: Pending) -> None:
        """An answer was none for the client: until it is sent again, the child owes it one."""
        self._sent[hub_id] = entry

    def send_again(self, hub_id: str) -> None:
        """The reason for which the child refused it is gone; so may its client be by now."""
        entry = self._sent.pop(hub_id, None)
        if entry is not None:
            self._send(entry)

    def first_asker(self, method: str) -> int | None:
        """The client whose request of this method has been with the child for longest."""
        asked = (entry.client for entry in self._sent.values() if entry.message.method == method)
        return next(asked, None)

    def sent(self, asked: Collection[str]) -> list[Pending]:
        """Those of these methods that are with the child, codexd's own among them."""
        return [entry for entry in self._sent.values() if entry.message.method in asked]

    @property
    def unanswered(self) -> list[Message]:
        """What clients have asked for, be it with the child or waiting to go there."""
        waiting = [*self._for_server, *self._ready, *self._all_for_threads()]
        return [entry.message for entry in (*self._sent.values(), *waiting)]

    def go_on(self) -> None:
        """Something was answered, or time has passed: send what there is room for now."""
        if self._ready.has_any:
            self._send_ready()

    def starting_turns(self, is_busy: Callable[[str], bool]) -> int:
        """How many turns the child was asked to start on threads where none runs yet."""
        asked = [e for e in self._sent.values() if e.message.method in methods.TURN_STARTING]
        return sum(not is_busy(entry.thread_id or "") for entry in asked)

    def release(self) -> None:
        """The child is up: what waited is sent, in order. Turns that are held back stay so."""
        waiting, self._for_server = self._for_server, deque()
        for entry in waiting:
            self._place(entry)
        self._send_ready()

    def thread_came(self, thread_id: str) -> bool:
        """A thread is loaded, or gone for good: its requests go, and the server answers.

        Returns:
            Whether one of them is to begin a turn.
        """
        waiting = self._for_thread.pop(thread_id, deque())
        for entry in waiting:
            self._place(entry)
        self._send_ready()
        return any(entry.message.method in methods.TURN_STARTING for entry in waiting)

    # -- trouble -----------------------------------------------------------------------------

    def child_lost(self, reason: str, unread: Collection[str]) -> None:
        """What the child has not answered fails, or waits to be sent again.

        ``unread`` are the ids of those that it has certainly not read.
        """
        sent, self._sent = self._sent, {}
        self._window.clear()
        self.openings = 0
        again, unheard = [], set()
        for hub_id, entry in sent.items():
            if self._is_to_repeat(entry, reason, is_unread=hub_id in unread):
                again.append(entry)
            elif entry.message.method == "thread/resume":
                unheard.add((entry.client, entry.thread_id))
        for entry in again:
            assert entry.client is not None
            self._load.add(entry.client, entry.size)
        waiting = [*again, *self._for_server, *self._ready.clear(), *self._all_for_threads()]
        self._for_thread.clear()
        ours = (entry for entry in waiting if entry.client is not None)
        self._for_server = deque(sorted(ours, key=lambda entry: entry.order))
        self._refuse_unheard(unheard)

    def _refuse_unheard(self, unheard: Collection[tuple[int | None, str | None]]) -> None:
        """Whose resume of a thread was refused would never hear how a turn on it ends."""

        def stays(entry: Pending) -> bool:
            thread = self._core.threads.find(entry.thread_id or "")
            return (
                entry.message.method not in methods.TURN_STARTING
                or (entry.client, entry.thread_id) not in unheard
                or (thread is not None and entry.client in thread.subscribers)
            )

        text = "The app-server was restarted before the thread was resumed; resume it again."
        for entry in self._keep(stays):
            self._refuse_unsent(entry, text, "server_restarted")

    def _all_for_threads(self) -> Iterator[Pending]:
        for entries in self._for_thread.values():
            yield from entries

    def client_gone(self, client: int) -> None:
        """What waits for a client that has left is not sent any more.

        Nor is an answer waited for that would change nothing.
        """
        if self._load.of(client):
            for entry in self._keep(lambda entry: entry.client != client):
                self._count_left(entry)
        for hub_id in [key for key, entry in self._sent.items() if entry.client == client]:
            self._forget_sent(hub_id)
        self._send_ready()

    def _forget_sent(self, hub_id: str) -> None:
        entry = self._sent[hub_id]
        method = entry.message.method or ""
        if method in methods.CANCELS:
            self.own(methods.CANCELS[method], {"requestId": hub_id})
        if method in methods.ANSWER_MATTERS:
            # It may never be answered: no more is kept of it than is needed then.
            params = {"threadId": entry.thread_id}
            slim = jsonrpc.parse(jsonrpc.request("", method, params))
            assert slim is not None
            entry.message = slim
        elif method not in methods.PROCESS_SETTINGS and method not in methods.LOGINS:
            self._count_left(entry)
            del self._sent[hub_id]
            self._window.done(hub_id)

    def _count_left(self, entry: Pending) -> None:
        waited_s = self._core.now - entry.came_at
        self._core.counts.request_ended(entry.message.method, LEFT, waited_s)

    def _keep(self, stays: Callable[[Pending], bool]) -> list[Pending]:
        """Take out of all that waits what does not stay; returns it."""
        out: list[Pending] = []

        def parted(entries: Iterable[Pending]) -> deque[Pending]:
            kept: deque[Pending] = deque()
            for entry in entries:
                (kept if entry.client is None or stays(entry) else out).append(entry)
            return kept

        self._for_server = parted(self._for_server)
        by_thread = {key: parted(entries) for key, entries in self._for_thread.items()}
        self._for_thread = {key: entries for key, entries in by_thread.items() if entries}
        for entry in parted(self._ready.clear()):
            self._ready.put(entry.client or _OWN, entry)
        for entry in out:
            assert entry.client is not None
            self._load.remove(entry.client, entry.size)
        return out

    def check_patience(self) -> None:
        """Nobody waits for ever."""
        self.go_on()
        now, wait_s = self._core.now, self._core.limits.wait_s
        if not self._load.total or now - self._checked_at < _PATIENCE_INTERVAL_S:
            return
        self._checked_at = now
        for entry in self._keep(lambda entry: now - entry.since <= wait_s):
            self._refuse_unsent(
                entry, "The app-server, or the thread, did not come back in time.", "away"
            )

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits to be sent."""
        return self._load.total > 0 or self._ready.has_any

    def refuse_for_thread(self, thread_id: str, reason: str, *, older_than_s: float) -> None:
        """A thread cannot be loaded just now: who has waited for it is told why.

        A client that asks for the thread itself gets the server's own answer instead.
        """
        now = self._core.now
        kept: deque[Pending] = deque()
        for entry in self._for_thread.pop(thread_id, deque()):
            if entry.message.method == "thread/resume":
                self._ready.put(entry.client or _OWN, entry)
            elif now - entry.since < older_than_s:
                kept.append(entry)
            else:
                assert entry.client is not None
                self._load.remove(entry.client, entry.size)
                text = f"The thread could not be resumed after the restart, try again: {reason}"
                self._refuse_unsent(entry, text, "thread_not_resumed")
        if kept:
            self._for_thread[thread_id] = kept
        self._send_ready()

    def not_sent(self, request: Message, text: str, code: int) -> None:
        """The connection to the child would not take a request: whoever asked is told why."""
        entry = self.answered(request)
        if entry is None:
            return
        if entry.client is not None:
            self.undo_subscription(entry)
            self._answer_error(entry, entry.client, code, text)
        elif entry.on_answer is not None and request.id is not None:
            answer = jsonrpc.parse(jsonrpc.error(request.id, code, text))
            assert answer is not None
            entry.on_answer(answer)

    def undo_subscription(self, entry: Pending) -> None:
        """The thread's notifications were for the answer's sake, and there is none."""
        thread = self._core.threads.find(entry.subscribed) if entry.subscribed else None
        entry.subscribed = None
        if thread is not None and entry.client is not None:
            thread.subscribers.discard(entry.client)
            client = self._core.clients.get(entry.client)
            if client is not None:
                client.was_refused(thread.id)
            self._core.forget_if_nothing(thread)

    def _is_to_repeat(self, entry: Pending, reason: str, *, is_unread: bool) -> bool:
        client = self._core.clients.get(entry.client) if entry.client is not None else None
        thread = self._core.threads.find(entry.subscribed) if entry.subscribed else None
        if thread is not None and not thread.is_busy:
            # Asked for again, it hears again; until then there may be no such thread. How a turn
            # that ran ended it is yet to be told, whatever becomes of its resume.
            self.undo_subscription(entry)
        if client is None:
            return False
        if is_unread:
            if not entry.is_unread:
                entry.since = self._core.now
            entry.is_unread = True
            return True
        # Once: it may be what the server dies of.
        if entry.message.method in methods.REPEATABLE and not entry.is_repeated:
            entry.is_repeated = True
            entry.since = self._core.now
            return True
        self._core.handles.answered(client, entry.message, ok=False)
        text = f"The app-server was restarted before it answered ({reason})."
        began = entry.message.method in methods.TURN_STARTING
        text += " The turn may have begun." if began else " It may have been done."
        self._refuse(entry, jsonrpc.SERVER_RESTARTED, text, "server_restarted")
        return False

    def _refuse_unsent(self, entry: Pending, text: str, reason: str) -> None:
        """It was never begun, so it may be tried again: with the code on which clients do."""
        client = self._core.clients.get(entry.client or _OWN)
        if client is not None:
            self._core.handles.answered(client, entry.message, ok=False)
            if entry.message.method in methods.SUBSCRIBING_BY_NAME:
                client.was_refused(entry.thread_id or "")
        self.undo_subscription(entry)
        self._refuse(entry, jsonrpc.OVERLOADED, text, reason)

    def _refuse(self, entry: Pending, code: int, text: str, reason: str) -> None:
        if entry.client is not None:
            data = {"codexd": {"reason": reason, "method": entry.message.method}}
            self._answer_error(entry, entry.client, code, text, data)

    def _answer_error(
        self, entry: Pending, client: int, code: int, text: str, data: Any = None
    ) -> None:
        method, since = entry.message.method, entry.came_at
        self._core.error(client, entry.client_id, code, text, data, method=method, since=since)


def text_id(message: Message) -> str:
    """The id of a message that the hub sent, or of the answer to it; "" for another."""
    try:
        return jsonrpc.decode_text(message.id or b'""')
    except UNDECODABLE:
        return ""
