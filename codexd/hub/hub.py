"""The hub: many clients on the one connection to the app-server.

A pure object. It is fed with what comes in and returns what is to be done, in order; it does no
input or output and has no clock (``now`` is in seconds, of any origin that does not jump).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from codexd.contracts import RUNNING_TURN, SessionPurpose, SessionRecord
from codexd.hub import experimental, jsonrpc, methods
from codexd.hub.actions import (
    Action,
    CloseClient,
    Emit,
    Introduced,
    Keep,
    SessionChanged,
    ToChild,
    ToClient,
)
from codexd.hub.approvals import WaitingApproval, decisions_of, kind_of, summary_of
from codexd.hub.clients import Client, Handles
from codexd.hub.core import Core, HubLimits, ServerState
from codexd.hub.counts import OK, HubCounts, code_of
from codexd.hub.initialize import Greeting
from codexd.hub.introduction import Capabilities
from codexd.hub.jsonrpc import Message
from codexd.hub.kept import Kept, KeptHandle
from codexd.hub.notifications import Notifications
from codexd.hub.process_state import ProcessState, whole_error_text
from codexd.hub.profile import NOTHING, ClientProfile, fill_in
from codexd.hub.recovery import Recovery
from codexd.hub.refusals import Refusal, refusal_of
from codexd.hub.requests import Pending, Requests, ThreadRef, text_id
from codexd.hub.server_requests import ServerRequest
from codexd.hub.session_book import EPHEMERAL
from codexd.hub.threads import Described, Description, Thread, ThreadView
from codexd.hub.told_settings import Standing
from codexd.hub.turns import Turns
from codexd.hub.untouched import LOOKED_AT
from codexd.hub.young_threads import YoungThreads
from codexd.shapes import RUNS, Decision

# Of the clients' names, which they choose themselves.
_NAMES_TOLD: Final = 20

__all__ = [
    "Action",
    "CloseClient",
    "Emit",
    "Hub",
    "HubLimits",
    "Introduced",
    "Keep",
    "SessionChanged",
    "ToChild",
    "ToClient",
]


NOTHING_KEPT = Kept()


class _OpenedThread(msgspec.Struct, frozen=True):
    id: str = ""
    ephemeral: bool = False


class _Opened(msgspec.Struct, frozen=True):
    thread: _OpenedThread = _OpenedThread()


class _Text(msgspec.Struct, frozen=True):
    text: str = ""


class _Prompt(msgspec.Struct, frozen=True):
    input: list[_Text] = []


class _TurnStarted(msgspec.Struct, rename="camel"):
    turn: dict[str, Any] = {}
    review_thread_id: str | None = None


class Hub:
    """Everything between the clients and the child.

    ``id_prefix`` marks this hub's ids at the child: answers to those of an earlier hub on the
    same connection are dropped.
    """

    def __init__(self, *, limits: HubLimits, id_prefix: str, endpoint: str) -> None:
        self._core = Core(limits, id_prefix, endpoint)
        self._requests = Requests(self._core)
        self._greeting = Greeting(self._core)
        self._process = ProcessState(self._core, self._requests)
        self._turns = Turns(self._core, self._requests)
        self._notifications = Notifications(
            self._core, self._requests, self._greeting, self._process, self._turns
        )
        self._young = YoungThreads(self._requests)
        self._recovery = Recovery(
            self._core, self._requests, self._notifications, self._process, self._turns, self._young
        )
        self._away_since: float | None = None
        self._answered_at: float | None = None
        # Handles of clients that an earlier hub had.
        self._left_open: list[KeptHandle] = []

    def restore(
        self,
        records: Iterable[SessionRecord],
        now: float,
        kept: Kept = NOTHING_KEPT,
    ) -> list[Action]:
        """Before the first child: the sessions of an earlier plugin or daemon.

        ``kept`` is what :attr:`kept` was in an earlier plugin.
        """
        self._core.now = self._away_since = now
        self._process.restore(kept.settings, kept.logins)
        self._process.is_unset = kept.unset
        self._left_open = [entry for entry in kept.handles if entry.method in methods.RELEASES]
        for record in self._core.book.restore(records):
            assert record.thread_id is not None
            thread = self._core.threads.get(record.thread_id)
            thread.is_ephemeral |= EPHEMERAL in record.metadata
            thread.restore(kept.threads.get(thread.id, {}))
            turn_id = record.metadata.get(RUNNING_TURN)
            if turn_id is not None:
                # Perhaps it was only going to.
                thread.began({"id": turn_id}, is_told=False)
                thread.restored = turn_id
        return self._core.take_actions()

    @property
    def kept(self) -> Kept:
        """What the server does not keep, for the next hub."""
        found = ((thread.id, thread.kept()) for thread in self._core.threads)
        return Kept(
            {thread_id: kept for thread_id, kept in found if kept},
            self._process.kept_settings,
            self._process.kept_logins,
            [
                KeptHandle(opened_by.method or "", full)
                for client in self._core.clients.values()
                for full, opened_by in client.handles.items()
            ],
            self._process.is_unset,
        )

    # -- clients -----------------------------------------------------------------------------

    def client_opened(
        self, client: int, now: float, profile: ClientProfile = NOTHING
    ) -> list[Action]:
        """A connection was made; ``profile`` is what its client brings with it."""
        self._core.now = now
        self._core.clients[client] = Client(client, now, profile=profile)
        return self._core.take_actions()

    def client_message(self, client: int, data: bytes, now: float) -> list[Action]:
        """A client sent a message. What is no message is passed over, as the server does."""
        self._core.now = now
        known = self._core.clients.get(client)
        message = jsonrpc.parse(data) if known is not None else None
        if known is None or message is None:
            return []
        if message.method is None:
            if message.id is not None:
                self._core.asked.answered(client, message)
        elif message.id is None:
            self._client_notifies(known, message)
        else:
            self._client_asks(known, message, message.id, now)
        return self._core.take_actions()

    def client_closed(self, client: int, now: float) -> list[Action]:
        """A connection is gone: so are its requests, its handles and its subscriptions."""
        self._core.now = now
        known = self._core.clients.pop(client, None)
        if known is None:
            return []
        self._core.asked.client_gone(client)
        self._process.gateway.left(client)
        self._requests.client_gone(client)
        for full, opened_by in known.handles.items():
            self._requests.own(*Handles.release(full, opened_by.method or ""))
        for thread in self._core.threads:
            if client in thread.subscribers:
                thread.subscribers.discard(client)
                if thread.subscribers:
                    self._core.asked.left(thread.id)
                self._notifications.leave_if_idle(thread)
        self._greeting.left(known)
        return self._core.take_actions()

    def _client_notifies(self, client: Client, message: Message) -> None:
        # The child has had codexd's own `initialized`.
        if client.is_initialized and message.method != "initialized":
            self._core.act(ToChild(message.data))

    def _client_asks(self, client: Client, message: Message, client_id: bytes, now: float) -> None:
        if client.is_initialized and message.method not in LOOKED_AT:
            self._pass_on(client, message, client_id, now)
        elif message.method == "initialize":
            self._greeting.initialize(client, message, now)
        elif not client.is_initialized:
            self._refuse(client, message, client_id, "Not initialized")
        elif (refusal := self._refusal(client, message)) is not None:
            self._refuse(client, message, client_id, refusal)
        elif message.method != "thread/unsubscribe" or not self._stays_subscribed(client, message):
            if jsonrpc.why_unheard(message) is None:
                fill_in(client.profile, message)
                self._core.handles.outgoing(client, message)
                if message.method in methods.SUBSCRIBING_BY_NAME:
                    self._wants(client, message.params(ThreadRef).thread_id or "")
            self._pass_on(client, message, client_id, now)

    def _pass_on(self, client: Client, message: Message, client_id: bytes, now: float) -> None:
        # What is short is not deep.
        if len(message.data) > jsonrpc.MAX_DEPTH or "trace" in message.fields:
            unheard = jsonrpc.why_unheard(message)
            if unheard is not None:
                self._refuse(client, message, client_id, f"Invalid request: {unheard}")
                return
        self._requests.submit(Pending(message, client.number, client_id, now))

    def _wants(self, client: Client, thread_id: str) -> None:
        """A thread that is there is a client's own also while its resume waits for its turn."""
        if self._core.threads.find(thread_id) is not None:
            client.asks_for(thread_id)

    def _refusal(self, client: Client, message: Message) -> str | None:
        """What the server would refuse this client, and not the one that speaks for all."""
        refusal = None if client.is_experimental else experimental.refusal(message)
        return refusal or self._process.gateway.refusal(client, message.method)

    def _refuse(self, client: Client, message: Message, client_id: bytes, text: str) -> None:
        code, method, now = jsonrpc.INVALID_REQUEST, message.method, self._core.now
        self._core.error(client.number, client_id, code, text, method=method, since=now)

    def _stays_subscribed(self, client: Client, message: Message) -> bool:
        """Whether the hub still listens, so that the server must not hear of an unsubscribe.

        It does for others, and to learn how a turn that runs ends.
        """
        thread = self._core.threads.find(message.params(ThreadRef).thread_id or "")
        if thread is None or message.id is None:
            return False
        is_away = thread.id in self._core.threads.away
        if not is_away and not thread.is_busy and not thread.subscribers - {client.number}:
            return False
        was_subscribed = client.number in thread.subscribers
        self._leave(client.number, thread)
        result = {"status": "unsubscribed" if was_subscribed else "notSubscribed"}
        self._core.counts.request_ended(message.method, OK, 0.0)
        self._core.act(ToClient(client.number, jsonrpc.response(message.id, result)))
        return True

    # -- the child ---------------------------------------------------------------------------

    def child_ready(
        self,
        initialize_result: bytes | None,
        now: float,
        *,
        same_child: bool,
        child_pid: int | None,
    ) -> list[Action]:
        """The handshake with a child is done. ``same_child``: its process is the one before.

        ``initialize_result`` is None for a child that waits to be told with whom it speaks: only
        where :attr:`is_unused` holds, and until :meth:`introduced`.
        """
        self._core.now = now
        self._core.book.child_pid = child_pid
        self._away_since = None
        if not same_child:
            # What held turns back was the end of the child before.
            self._requests.holds_turns = False
        self._recovery.begin(same_child=same_child)
        left_open, self._left_open = self._left_open, []
        for entry in left_open if same_child else ():
            # Its client went with an earlier hub; on a pipe the server does not notice that.
            release = Handles.release(entry.handle, entry.method)
            self._requests.own(*release)
        self._greeting.child_ready(initialize_result)
        return self._core.take_actions()

    def introduced(self, initialize_result: bytes, now: float) -> list[Action]:
        """A child that waited for it knows with whom it speaks."""
        self._core.now = now
        self._greeting.introduced(initialize_result)
        # Before, it was told nothing of its threads.
        self._recovery.ask_for_threads()
        return self._core.take_actions()

    @property
    def heard_threads(self) -> frozenset[str]:
        """Threads that the child had loaded when it was heard last, as far as that is sure."""
        threads = self._core.threads
        return frozenset(t.id for t in threads if t.hearing == "joined" or t.is_busy)

    @property
    def answered_at(self) -> float | None:
        """When the child that is there last answered what a client asked; None for never."""
        return self._answered_at

    @property
    def is_unused(self) -> bool:
        """Whether no client is there, and none has left anything for the next child to know."""
        is_empty = len(self._core.threads) == 0 and not self._process.has_settings
        return is_empty and not self.present

    @property
    def present(self) -> list[Capabilities]:
        """What each client can do that has said so."""
        return [client.capabilities for client in self._core.clients.values() if client.info.name]

    def drain(self) -> None:
        """The child is to end: turns that run go on, new ones wait for the next child."""
        self._requests.hold_turns()

    def undrain(self, now: float) -> list[Action]:
        """The child is not to end after all: the turns that were held back begin."""
        self._core.now = now
        self._requests.holds_turns = False
        if self._core.state == "up":
            self._requests.release()
        return self._core.take_actions()

    @property
    def holds_turns(self) -> bool:
        """Whether new turns are held back."""
        return self._requests.holds_turns

    @property
    def server(self) -> ServerState:
        """How the child stands; see :data:`.core.ServerState`."""
        return self._core.state

    @property
    def turns(self) -> int | None:
        """How many turns run, or were sent to the child to be started; None until that is known.

        A child that was there before this hub may run some that it has not been asked about yet.
        While it is to end, a thread that it was asked to open is waited for as well: cut off, the
        client could not know whether there is one.
        """
        if self._core.state != "up" or not self._recovery.knows_turns:
            return None
        threads = self._core.threads

        def is_busy(thread_id: str) -> bool:
            thread = threads.find(thread_id)
            return thread is not None and thread.is_busy

        opening = self._requests.openings if self._requests.holds_turns else 0
        return threads.running_turns + self._requests.starting_turns(is_busy) + opening

    def child_message(self, data: bytes, now: float) -> list[Action]:
        """The child sent a message."""
        self._core.now = now
        message = jsonrpc.parse(data) if self._core.state != "away" else None
        if message is None:
            return []
        if message.method is None:
            self._child_answers(message)
        elif message.id is None:
            self._notifications.came(message)
        else:
            self._core.asked.asked(message, self._who_may_answer)
        return self._core.take_actions()

    def not_sent(self, data: bytes, text: str, code: int) -> list[Action]:
        """The connection did not take a message to the child and lives on; ``text`` says why."""
        message = jsonrpc.parse(data)
        if message is not None and message.method is not None:
            self._requests.not_sent(message, text, code)
        return self._core.take_actions()

    def child_lost(self, reason: str, now: float, unread: Iterable[bytes] = ()) -> list[Action]:
        """The child is gone, or the connection to it.

        ``unread`` are messages to it that it has certainly not read: they go to the next one.
        """
        self._core.now = now
        if self._core.state == "away":
            return []
        self._core.state = "away"
        self._away_since = now
        self._answered_at = None
        self._notifications.forget_early()
        self._turns.child_lost()
        self._process.child_lost()
        self._requests.child_lost(reason, frozenset(_ids(unread)))
        self._recovery.child_lost(reason)
        return self._core.take_actions()

    def child_ended(self, now: float) -> list[Action]:
        """The child that was lost has ended, and whether another comes is not known.

        What it ran and what it asked ends at once: nobody can say anything more of it.
        """
        self._core.now = now
        if self._core.state == "away":
            self._away_since = None
            self._recovery.end_what_the_old_child_began()
        return self._core.take_actions()

    def _who_may_answer(self, thread_id: str | None) -> Iterable[int]:
        if thread_id is not None:
            return self._notifications.who_may_answer(thread_id)
        return [entry.number for entry in self._core.clients.values() if entry.is_initialized]

    def _child_answers(self, message: Message) -> None:
        entry = self._requests.answered(message)
        if entry is None:
            return
        if entry.client is not None:
            self._take_answer(entry, entry.client, message)
        elif entry.on_answer is not None:
            entry.on_answer(message)
        if self._requests.openings == 0:
            self._notifications.nothing_opens()
        self._requests.go_on()

    def _take_answer(self, entry: Pending, number: int, message: Message) -> None:
        core, method = self._core, entry.message.method
        is_ok, code, opened = "result" in message.fields, OK, None
        if not is_ok:
            refusal = refusal_of(message) or Refusal()
            if self._is_put_off(entry, number, message, refusal):
                return
            code = code_of(refusal.code)
        self._answered_at = core.now
        core.counts.request_ended(method, code, core.now - entry.came_at)
        client = core.clients.get(number)
        if not is_ok or method in LOOKED_AT:
            opened = self._look_at_answer(entry, number, message, is_ok=is_ok)
        if client is None:
            return
        if client.profile.private and method == "thread/loaded/list":
            client.leave_out_others(message)
        core.act(ToClient(number, message.with_id(entry.client_id)))
        if opened is not None:
            is_again = method == "thread/resume" and entry.subscribed is None
            core.asked.deliver(number, opened, is_again=is_again)

    def _is_put_off(self, entry: Pending, number: int, answer: Message, refusal: Refusal) -> bool:
        """Whether a refusal is none for the client: it is asked for once more."""
        if refusal.is_draining and number in self._core.clients:
            self._requests.put_back(entry, number)
            return True
        return self._young.helps(entry, answer)

    def _look_at_answer(
        self, entry: Pending, number: int, answer: Message, *, is_ok: bool
    ) -> str | None:
        """See what follows from it; returns the thread that its client now listens to."""
        note = self._note_answer if is_ok else self._note_failure
        opened = note(entry, number, answer)
        if opened is not None:
            self._notifications.opened(opened)
        client = self._core.clients.get(number)
        if client is not None:
            self._core.handles.answered(client, entry.message, ok=is_ok)
            if not is_ok:
                self._core.handles.restore(client, entry.message.method, answer)
        return opened

    def _note_answer(self, entry: Pending, client: int, answer: Message) -> str | None:
        """What an answer changes; returns the thread that its client now listens to."""
        method = entry.message.method
        self._process.succeeded(entry, answer)
        if method == "thread/settings/update":
            self._settings_changed(entry)
        if method in methods.KEPT:
            self._core.act(Keep())
        if method in methods.SUBSCRIBING or method in methods.SUBSCRIBING_BY_NAME:
            return self._subscribed(entry, client, answer)
        if method in methods.TURN_STARTING:
            return self._turn_answered(entry, client, answer)
        if method == "thread/unsubscribe":
            thread = self._core.threads.find(entry.message.params(ThreadRef).thread_id or "")
            if thread is not None:
                self._leave(client, thread)
                thread.hearing = "left"
        return None

    def _leave(self, client: int, thread: Thread) -> None:
        """A client that stays with codexd leaves a thread."""
        thread.subscribers.discard(client)
        self._core.asked.unsubscribed(client, thread.id)
        if thread.subscribers:
            self._core.asked.left(thread.id)

    def _note_failure(self, entry: Pending, client: int, answer: Message) -> str | None:
        """Some requests make their client listen to the thread whatever becomes of them."""
        if entry.message.method in methods.SUBSCRIBING_ANYWAY:
            reason = whole_error_text(answer)
            if not reason.startswith(methods.NEVER_BEGAN):
                return self._subscribed(entry, client, answer)
        self._requests.undo_subscription(entry)
        return None

    def _settings_changed(self, entry: Pending) -> None:
        thread = self._core.threads.find(entry.thread_id or "")
        if thread is not None:
            thread.settings_changed(entry.message.params(dict[str, Any]))

    def _subscribed(self, entry: Pending, client: int, answer: Message) -> str | None:
        opened: _OpenedThread = answer.result(_Opened).thread
        # What is no resume says in its answer nothing of the thread that it named.
        is_named = entry.message.method in methods.SUBSCRIBING_BY_NAME
        thread_id = opened.id or (entry.thread_id if is_named else None)
        if not thread_id:
            return None
        thread = self._core.threads.get(thread_id)
        thread.hearing = "joined"
        self._core.book.used(thread_id)
        self._opened(thread, entry, opened, answer)
        if client not in self._core.clients:
            self._notifications.leave_if_idle(thread)
            return None
        self._core.subscribe(client, thread)
        thread.left_at = None
        if entry.message.method == "thread/resume":
            thread.resumed_by(client)
        return thread_id

    def _opened(
        self, thread: Thread, entry: Pending, opened: _OpenedThread, answer: Message
    ) -> None:
        method = entry.message.method
        is_new = method in methods.OPENING
        if method in methods.SUBSCRIBING:
            params = entry.message.params(dict[str, Any])
            if thread.id in self._core.threads.away:
                self._recovery.loaded(thread, answer, params)
            else:
                thread.told.stands(answer.result(Standing))
            thread.took_s = self._core.now - entry.since
            thread.opened_with(params, is_new=is_new)
        thread.described(answer.result(Described).thread)
        if opened.ephemeral:
            thread.is_ephemeral = True
            self._core.book.is_ephemeral(thread.id)
        elif method == "thread/start":
            # The server keeps a new thread in its memory only until it has a turn. Asked for its
            # turns it writes it down, and nobody is told anything (measured on codex 0.163).
            self._requests.own("thread/read", {"threadId": thread.id, "includeTurns": True})
        if thread.id in self._core.threads.away:
            self._recovery.came(thread)

    def _turn_answered(self, entry: Pending, client: int, answer: Message) -> str | None:
        begun = answer.result(_TurnStarted)
        asked_on = entry.thread_id
        review: str | None = begun.review_thread_id
        if review == asked_on:
            # Only one on a thread of its own is heard by whoever asked for it.
            review = None
        thread_id = review or asked_on
        if not thread_id:
            return None
        thread = self._core.threads.get(thread_id)
        self._core.book.used(thread_id)
        if thread.title is None:
            texts = [part.text for part in entry.message.params(_Prompt).input]
            thread.described(Description(preview=" ".join(texts)))
        if review is not None:
            thread.hearing = "joined"
        if entry.message.method == "review/start":
            thread.review = begun.turn.get("id")
        if thread.hearing == "joined" or thread.subscribers:
            # Of a turn on another thread the server does not tell this connection the end.
            self._core.turn_began(thread, begun.turn, is_told=False)
        if review is None or client not in self._core.clients:
            return None
        self._core.subscribe(client, thread)
        return review

    # -- approvals, for whoever speaks no JSON-RPC ---------------------------------------------

    def approvals(self) -> list[WaitingApproval]:
        """What the server asks and nobody has answered yet, the oldest first."""
        return [self._shown(entry) for entry in self._core.asked]

    def approval(self, approval_id: str) -> WaitingApproval:
        """One of them. Raises as :meth:`.server_requests.ServerRequests.find`."""
        return self._shown(self._core.asked.find(approval_id))

    def decide(self, approval_id: str, decision: Decision, now: float) -> list[Action]:
        """Answer it. Raises as :meth:`.server_requests.ServerRequests.decide`."""
        self._core.now = now
        self._core.asked.decide(approval_id, decision)
        return self._core.take_actions()

    def _shown(self, entry: ServerRequest) -> WaitingApproval:
        thread = self._core.threads.find(entry.thread_id or "")
        changes = None if thread is None else thread.changes.get(entry.subject.item_id or "")
        return WaitingApproval(
            approval_id=entry.approval_id,
            kind=kind_of(entry.message.method),
            thread_id=entry.thread_id,
            turn_id=entry.subject.turn_id,
            item_id=entry.subject.item_id,
            since=entry.since,
            summary=summary_of(entry.message, changes),
            decisions=decisions_of(entry.message.method),
        )

    # -- sessions, for whoever speaks no JSON-RPC ----------------------------------------------

    def view(self, thread_id: str) -> ThreadView | None:
        """How a thread is shown; None where the hub does not know it."""
        thread = self._core.threads.find(thread_id)
        if thread is None:
            return None
        clients = [self._core.clients.get(number) for number in sorted(thread.subscribers)]
        names = tuple(client.name for client in clients if client is not None)
        turn = None if thread.turn is None else str(thread.turn["id"])
        return ThreadView(thread.title, thread.cwd, names, turn)

    def turn_status(self, thread_id: str, turn_id: str) -> str | None:
        """How a turn stands, as everybody was told; None where that is not known any more."""
        thread = self._core.threads.find(thread_id)
        if thread is None:
            return None
        if self._turns.is_open(thread, turn_id):
            return RUNS
        return thread.status_of(turn_id)

    def session_of(self, thread_id: str) -> str | None:
        """The id of the thread's active session."""
        return self._core.book.session_of(thread_id)

    def register(
        self, thread_id: str, purpose: SessionPurpose, metadata: Mapping[str, str], now: float
    ) -> tuple[SessionRecord, list[Action]]:
        """Make a session of a thread, or give the one that it has a purpose and metadata."""
        self._core.now = now
        self._core.threads.get(thread_id)
        record = self._core.book.register(thread_id, purpose, metadata)
        return record, self._core.take_actions()

    def close_session(self, thread_id: str, now: float) -> list[Action]:
        """The thread's session is over; the thread stays, and is one again when it is used."""
        self._core.now = now
        self._core.book.closed(thread_id)
        thread = self._core.threads.find(thread_id)
        if thread is not None:
            self._core.forget_if_nothing(thread)
        return self._core.take_actions()

    # -- time and status ---------------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """Time passes: nobody waits for ever."""
        self._core.now = now
        self._greeting.check_patience(now)
        self._requests.check_patience()
        self._process.tick()
        self._recovery.tick()
        self._turns.tick()
        limit_s = self._core.limits.wait_s
        if self._away_since is not None and now - self._away_since > limit_s:
            self._away_since = None
            self._recovery.end_what_the_old_child_began()
        return self._core.take_actions()

    def next_tick(self, now: float) -> float | None:
        """When :meth:`tick` may have something to do; None while nothing waits for a time.

        Anything else that the hub is told may change that.
        """
        found = [
            self._greeting.deadline,
            now if self._requests.is_waiting else None,
            now if self._process.is_waiting else None,
            self._recovery.deadline(now),
            self._turns.deadline,
            None if self._away_since is None else self._away_since + self._core.limits.wait_s,
        ]
        return min((deadline for deadline in found if deadline is not None), default=None)

    @property
    def counts(self) -> HubCounts:
        """What has gone through since the hub was made. Messages its driver counts."""
        return self._core.counts

    def _client_names(self) -> dict[str, int]:
        """How many of those that are initialized have which name; of the most frequent names."""
        clients = self._core.clients.values()
        names = Counter(entry.name for entry in clients if entry.is_initialized)
        return dict(names.most_common(_NAMES_TOLD))

    def snapshot(self) -> dict[str, Any]:
        """Counts, for `status`."""
        core = self._core
        return {
            "clients": len(core.clients),
            "initializedClients": sum(entry.is_initialized for entry in core.clients.values()),
            "clientNames": self._client_names(),
            "threads": len(core.threads),
            "activeSessions": core.book.count,
            "runningTurns": core.threads.running_turns,
            "waitingApprovals": core.asked.waiting_approvals,
            "waitingRequests": self._requests.count,
            "resumingThreads": self._recovery.waiting_threads,
            "configFaults": self._greeting.config_faults,
            "server": core.state,
            "serverVersion": self._greeting.server_version,
            "remoteControl": self._greeting.remote_control,
            "messages": {
                "fromClients": core.counts.from_clients,
                "toClients": core.counts.to_clients,
                "fromServer": core.counts.from_server,
                "toServer": core.counts.to_server,
            },
        }


def _ids(messages: Iterable[bytes]) -> Iterator[str]:
    for data in messages:
        message = jsonrpc.parse(data)
        if message is not None and message.method is not None:
            yield text_id(message)
