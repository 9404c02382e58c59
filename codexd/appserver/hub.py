"""The hub: many clients on the one connection to the app-server.

A pure object. It is fed with what comes in and returns what is to be done, in order; it does no
input or output and has no clock (``now`` is in seconds, of any origin that does not jump).
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from codexd.appserver import jsonrpc, methods
from codexd.appserver.actions import (
    Action,
    CloseClient,
    Emit,
    SessionChanged,
    ToChild,
    ToClient,
)
from codexd.appserver.clients import Client, Handles
from codexd.appserver.jsonrpc import Fields, Message
from codexd.appserver.server_requests import RESOLVED, ServerRequests
from codexd.appserver.sessions import SessionBook
from codexd.appserver.threads import Thread, Threads
from codexd.contracts import SessionRecord

__all__ = [
    "Action",
    "CloseClient",
    "Emit",
    "Hub",
    "HubLimits",
    "SessionChanged",
    "ToChild",
    "ToClient",
]

# WebSocket's "policy violation" (RFC 6455, section 7.4.1).
_POLICY_VIOLATION = 1008
# Threads resumed at the same time after a restart; a server that has just booted is busy.
_RESUMES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Times in seconds, sizes in bytes."""

    initialize_timeout_s: float = 30.0
    wait_s: float = 120.0
    waiting_requests: int = 10_000
    waiting_bytes: int = 256 << 20


class _ThreadRef(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str | None = None


class _Id(msgspec.Struct, frozen=True):
    id: str = ""


class _Opened(msgspec.Struct, frozen=True):
    thread: _Id = _Id()


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _StatusChanged(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    status: _Status = _Status()


class _ThreadStarted(msgspec.Struct, frozen=True):
    thread: _Id = _Id()


class _TurnEvent(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str = ""
    turn: dict[str, Any] = {}


class _TurnRef(msgspec.Struct, rename="camel", frozen=True):
    turn_id: str | None = None


class _TurnStarted(msgspec.Struct, rename="camel", frozen=True):
    turn: dict[str, Any] = {}
    review_thread_id: str | None = None


class _Resumed(msgspec.Struct, frozen=True):
    thread: msgspec.Raw = msgspec.Raw(b"{}")


class _ErrorText(msgspec.Struct, frozen=True):
    message: str = ""


class _Error(msgspec.Struct, frozen=True):
    error: _ErrorText = _ErrorText()


class _InitializeResult(msgspec.Struct, rename="camel", frozen=True):
    user_agent: str = ""


@dataclass(slots=True)
class _Pending:
    """A request that is not answered. ``client`` is None for one of the hub's own."""

    message: Message
    client: int | None
    client_id: bytes
    since: float
    on_answer: Callable[[Message], None] | None = None
    subscribed: str | None = None


@dataclass(slots=True)
class _Recovery:
    """The threads that are still to be resumed in a new child."""

    waiting: deque[Thread] = field(default_factory=deque)
    under_way: int = 0
    same_child: bool = False


class Hub:
    """Everything between the clients and the child.

    ``id_prefix`` marks this hub's ids at the child: answers to those of an earlier hub on the
    same connection are dropped.
    """

    def __init__(
        self, *, limits: HubLimits, id_prefix: str, endpoint: str, own_name: str = "codexd"
    ) -> None:
        self._limits = limits
        self._prefix = id_prefix
        self._own_name = own_name
        self._out: list[Action] = []
        self._clients: dict[int, Client] = {}
        self._threads = Threads()
        self._handles = Handles(id_prefix)
        self._asked = ServerRequests(self._act)
        self._book = SessionBook(endpoint, self._act)
        self._pending: dict[str, _Pending] = {}
        self._waiting: deque[_Pending] = deque()
        self._waiting_bytes = 0
        self._openings = 0
        self._early: list[tuple[str, Message]] = []
        self._greeting: dict[tuple[str, bytes], bytes] = {}
        self._state: Literal["away", "recovering", "up"] = "away"
        self._away_since: float | None = None
        self._recovery = _Recovery()
        self._initialize_result: bytes | None = None
        self._count = 0

    # -- what comes in -----------------------------------------------------------------------

    def restore(self, records: Iterable[SessionRecord]) -> None:
        """Before the first child: the sessions of an earlier plugin or daemon."""
        for thread_id in self._book.restore(records):
            self._threads.get(thread_id)

    def client_opened(self, client: int, now: float) -> list[Action]:
        """A connection was made."""
        self._clients[client] = Client(client, now)
        return self._done()

    def client_message(self, client: int, data: bytes, now: float) -> list[Action]:
        """A client sent a message. What is no message is passed over, as the server does."""
        known = self._clients.get(client)
        message = jsonrpc.parse(data) if known is not None else None
        if known is None or message is None:
            return []
        if message.method is None:
            if message.id is not None:
                self._asked.answered(client, message)
        elif message.id is None:
            self._client_notifies(known, message)
        else:
            self._client_asks(known, message, now)
        return self._done()

    def client_closed(self, client: int, now: float) -> list[Action]:
        """A connection is gone: so are its requests, its handles and its subscriptions."""
        del now
        known = self._clients.pop(client, None)
        if known is None:
            return []
        self._asked.client_gone(client)
        self._waiting = deque(entry for entry in self._waiting if entry.client != client)
        self._waiting_bytes = sum(len(entry.message.data) for entry in self._waiting)
        for full, opened_by in known.handles.items():
            self._own_request(*Handles.release(full, opened_by))
        for thread in self._threads:
            if client in thread.subscribers:
                thread.subscribers.discard(client)
                self._leave_if_idle(thread)
        if known.is_initialized:
            self._emit_client("disconnected", known)
        return self._done()

    def child_ready(
        self, initialize_result: bytes, now: float, *, same_child: bool, child_pid: int | None
    ) -> list[Action]:
        """The handshake with a child is done. ``same_child``: its process is the one before."""
        self._initialize_result = initialize_result
        self._book.child_pid = child_pid
        self._greeting.clear()
        if not same_child:
            self._end_what_the_old_child_began()
        self._state = "recovering"
        self._away_since = None
        for client in self._clients.values():
            if client.initialize is not None:
                self._answer_initialize(client)
        self._recovery = _Recovery(deque(self._threads), same_child=same_child)
        self._go_on_recovering(now)
        return self._done()

    def child_message(self, data: bytes, now: float) -> list[Action]:
        """The child sent a message."""
        message = jsonrpc.parse(data)
        if message is None or self._state == "away":
            return []
        if message.method is None:
            self._child_answers(message, now)
        elif message.id is None:
            self._child_notifies(message)
        else:
            self._asked.asked(message, self._who_may_answer)
        return self._done()

    def child_lost(self, reason: str, now: float) -> list[Action]:
        """The child is gone, or the connection to it."""
        if self._state == "away":
            return []
        self._state = "away"
        self._away_since = now
        self._recovery = _Recovery()
        self._early.clear()
        self._openings = 0
        again: list[_Pending] = []
        for entry in self._pending.values():
            self._fail_or_keep(entry, reason, again)
        self._pending.clear()
        self._waiting.extendleft(reversed(again))
        self._waiting_bytes += sum(len(entry.message.data) for entry in again)
        self._end_processes()
        return self._done()

    def tick(self, now: float) -> list[Action]:
        """Time passes: nobody waits for ever."""
        for client in list(self._clients.values()):
            self._check_patience(client, now)
        while self._waiting and now - self._waiting[0].since > self._limits.wait_s:
            entry = self._waiting.popleft()
            self._waiting_bytes -= len(entry.message.data)
            self._refuse(entry, "The app-server is away and did not come back in time.", "away")
        if self._away_since is not None and now - self._away_since > self._limits.wait_s:
            self._away_since = None
            self._end_what_the_old_child_began()
        return self._done()

    def snapshot(self) -> dict[str, Any]:
        """Counts, for `status`."""
        return {
            "clients": len(self._clients),
            "initializedClients": sum(entry.is_initialized for entry in self._clients.values()),
            "threads": len(self._threads),
            "activeSessions": self._book.count,
            "runningTurns": self._threads.running_turns,
            "waitingApprovals": self._asked.waiting_approvals,
            "waitingRequests": len(self._waiting) + len(self._pending),
            "server": self._state,
        }

    # -- clients -----------------------------------------------------------------------------

    def _client_notifies(self, client: Client, message: Message) -> None:
        if not client.is_initialized:
            return
        if message.method != "initialized":
            self._act(ToChild(message.data))
            return
        for (method, _), data in self._greeting.items():
            if method not in client.opt_outs:
                self._act(ToClient(client.number, data))

    def _client_asks(self, client: Client, message: Message, now: float) -> None:
        assert message.id is not None
        if message.method == "initialize":
            self._initialize(client, message, now)
        elif not client.is_initialized:
            text = "Not initialized"
            self._error(client.number, message.id, jsonrpc.INVALID_REQUEST, text)
        elif message.method == "thread/unsubscribe" and self._unsubscribes_locally(client, message):
            return
        else:
            client_id = message.id
            self._handles.outgoing(client, message)
            self._submit(_Pending(message, client.number, client_id, now))

    def _initialize(self, client: Client, message: Message, now: float) -> None:
        assert message.id is not None
        if client.is_initialized or client.initialize is not None:
            text = "Already initialized"
            self._error(client.number, message.id, jsonrpc.INVALID_REQUEST, text)
            return
        client.introduce(message, now)
        if self._initialize_result is not None and self._state != "away":
            self._answer_initialize(client)

    def _answer_initialize(self, client: Client) -> None:
        request, client.initialize = client.initialize, None
        assert request is not None
        assert request.id is not None
        assert self._initialize_result is not None
        client.is_initialized = True
        result = self._result_for(client)
        self._act(ToClient(client.number, jsonrpc.response(request.id, result)))
        self._emit_client("connected", client)

    def _result_for(self, client: Client) -> Any:
        """The child's own answer, with the client's name where the server puts it."""
        result: Fields = msgspec.json.decode(self._initialize_result or b"{}", type=Fields)
        agent = result.get("userAgent")
        if agent is not None and client.info.name:
            text = msgspec.json.decode(agent, type=str)
            if text.startswith(f"{self._own_name}/"):
                text = client.info.name + text[len(self._own_name) :]
            head, mark, _ = text.rpartition(f" ({self._own_name};")
            if mark:
                text = f"{head} ({client.info.name}; {client.info.version})"
            result["userAgent"] = msgspec.Raw(msgspec.json.encode(text))
        return result

    def _check_patience(self, client: Client, now: float) -> None:
        if client.is_initialized:
            return
        if client.initialize is None:
            if now - client.opened_at > self._limits.initialize_timeout_s:
                reason = "not initialized in time"
                self._act(CloseClient(client.number, _POLICY_VIOLATION, reason))
        elif now - client.initialize_at > self._limits.wait_s:
            request, client.initialize = client.initialize, None
            client.opened_at = now
            if request.id is not None:
                text = "The app-server is away and did not come back in time."
                code, data = jsonrpc.SERVER_RESTARTED, {"codexd": {"reason": "away"}}
                self._act(ToClient(client.number, jsonrpc.error(request.id, code, text, data)))

    def _unsubscribes_locally(self, client: Client, message: Message) -> bool:
        """Whether others still listen, so that the server must not hear of it."""
        assert message.id is not None
        ref = message.params(_ThreadRef)
        thread = self._threads.find(ref.thread_id or "")
        if thread is None:
            return False
        was_subscribed = client.number in thread.subscribers
        if not thread.subscribers - {client.number}:
            return False
        thread.subscribers.discard(client.number)
        status = "unsubscribed" if was_subscribed else "notSubscribed"
        self._act(ToClient(client.number, jsonrpc.response(message.id, {"status": status})))
        return True

    # -- requests to the child ---------------------------------------------------------------

    def _submit(self, entry: _Pending) -> None:
        if self._state == "up":
            self._send(entry)
            return
        size = len(entry.message.data)
        is_full = len(self._waiting) >= self._limits.waiting_requests
        if is_full or self._waiting_bytes + size > self._limits.waiting_bytes:
            if entry.client is not None:
                text = "The app-server is away and too many requests wait for it; try again later."
                self._error(entry.client, entry.client_id, jsonrpc.OVERLOADED, text)
            return
        self._waiting.append(entry)
        self._waiting_bytes += size

    def _send(self, entry: _Pending) -> None:
        self._count += 1
        hub_id = f"{self._prefix}{self._count}"
        self._pending[hub_id] = entry
        message = entry.message
        if message.method == "thread/resume" and entry.client is not None:
            self._expect_resume(entry)
        elif message.method in methods.OPENING:
            self._openings += 1
        self._act(ToChild(message.with_id(jsonrpc.quoted(hub_id))))

    def _expect_resume(self, entry: _Pending) -> None:
        """The server may tell of the thread before it answers: its new listener hears that."""
        thread_id = entry.message.params(_ThreadRef).thread_id
        if thread_id is None or entry.client is None:
            return
        thread = self._threads.get(thread_id)
        if entry.client not in thread.subscribers:
            entry.subscribed = thread_id
            thread.subscribers.add(entry.client)

    def _own_request(
        self,
        method: str,
        params: dict[str, Any],
        on_answer: Callable[[Message], None] | None = None,
    ) -> None:
        """A request of the hub's own; there is none while the child is away."""
        if self._state == "away":
            return
        message = jsonrpc.parse(jsonrpc.request("", method, params))
        assert message is not None
        self._send(_Pending(message, None, b"", 0.0, on_answer))

    def _fail_or_keep(self, entry: _Pending, reason: str, again: list[_Pending]) -> None:
        if entry.client is None or entry.client not in self._clients:
            return
        if entry.message.method in methods.REPEATABLE:
            again.append(entry)
            return
        self._undo_subscription(entry)
        self._handles.answered(self._clients[entry.client], entry.message, ok=False)
        text = f"The app-server was restarted before it answered ({reason})."
        if entry.message.method in methods.TURN_STARTING:
            text += " The turn may have begun; it will not go on."
        self._refuse(entry, text, "server_restarted")

    def _refuse(self, entry: _Pending, text: str, reason: str) -> None:
        if entry.client is not None:
            data = {"codexd": {"reason": reason, "method": entry.message.method}}
            code = jsonrpc.SERVER_RESTARTED
            self._error(entry.client, entry.client_id, code, text, data)

    def _undo_subscription(self, entry: _Pending) -> None:
        thread = self._threads.find(entry.subscribed) if entry.subscribed else None
        if thread is not None and entry.client is not None:
            thread.subscribers.discard(entry.client)

    # -- answers of the child ----------------------------------------------------------------

    def _child_answers(self, message: Message, now: float) -> None:
        entry = self._pending.pop(_text_id(message), None)
        if entry is None:
            return
        if entry.message.method in methods.OPENING:
            self._openings -= 1
        is_ok = "result" in message.fields
        if entry.client is None:
            if entry.on_answer is not None:
                entry.on_answer(message)
                self._go_on_recovering(now)
            return
        opened = self._note_answer(entry, message) if is_ok else None
        if not is_ok:
            self._undo_subscription(entry)
        client = self._clients.get(entry.client)
        if opened is not None:
            self._tell_early(opened)
        if client is not None:
            self._handles.answered(client, entry.message, ok=is_ok)
            self._act(ToClient(client.number, message.with_id(entry.client_id)))
        if opened is not None and client is not None:
            self._asked.deliver(client.number, opened)
        if self._openings == 0:
            self._early.clear()

    def _note_answer(self, entry: _Pending, answer: Message) -> str | None:
        """What an answer changes; returns the thread that its client now listens to."""
        method = entry.message.method
        if method in methods.SUBSCRIBING:
            return self._subscribed(entry, answer)
        if method in methods.TURN_STARTING:
            return self._turn_answered(entry, answer)
        if method == "thread/unsubscribe" and entry.client is not None:
            thread = self._threads.find(entry.message.params(_ThreadRef).thread_id or "")
            if thread is not None:
                thread.subscribers.discard(entry.client)
        return None

    def _subscribed(self, entry: _Pending, answer: Message) -> str | None:
        thread_id: str = answer.result(_Opened).thread.id
        if not thread_id or entry.client is None:
            return None
        thread = self._threads.get(thread_id)
        thread.keep(entry.message.params(Fields))
        self._book.used(thread_id)
        if entry.client not in self._clients:
            self._leave_if_idle(thread)
            return None
        thread.subscribers.add(entry.client)
        return thread_id

    def _turn_answered(self, entry: _Pending, answer: Message) -> str | None:
        begun = answer.result(_TurnStarted)
        thread_id: str | None = begun.review_thread_id or entry.message.params(_ThreadRef).thread_id
        if not thread_id:
            return None
        thread = self._threads.get(thread_id)
        thread.keep(entry.message.params(Fields), of_turn=True)
        self._book.used(thread_id)
        self._turn_began(thread, begun.turn)
        if begun.review_thread_id and entry.client in self._clients:
            assert entry.client is not None
            thread.subscribers.add(entry.client)
            return thread_id
        return None

    def _tell_early(self, thread_id: str) -> None:
        for early_id, message in self._early:
            if early_id == thread_id:
                self._tell(self._threads.subscribers(thread_id), message)
        self._early = [entry for entry in self._early if entry[0] != thread_id]

    # -- notifications of the child ----------------------------------------------------------

    def _child_notifies(self, message: Message) -> None:
        method = message.method or ""
        if method in methods.HANDLES:
            self._tell_owner(message)
            return
        if method == RESOLVED:
            self._asked.resolved(message)
            return
        track = _TRACKED.get(method)
        if track is not None and not track(self, message):
            return
        if method in methods.GREETING:
            key = message.data if method == "configWarning" else b""
            self._greeting[method, key] = message.data
        thread_id = message.params(_ThreadRef).thread_id
        if thread_id is None or method in methods.BROADCAST:
            self._tell(self._clients, message)
        else:
            self._tell_subscribers(thread_id, message)
        if method == "turn/completed" and thread_id is not None:
            thread = self._threads.find(thread_id)
            if thread is not None:
                self._leave_if_idle(thread)

    def _tell(self, clients: Iterable[int], message: Message) -> None:
        for number in clients:
            client = self._clients.get(number)
            if (
                client is not None
                and client.is_initialized
                and message.method not in client.opt_outs
            ):
                self._out.append(ToClient(number, message.data))

    def _tell_subscribers(self, thread_id: str, message: Message) -> None:
        thread = self._threads.find(thread_id)
        if thread is None:
            if self._openings:
                self._early.append((thread_id, message))
            return
        if thread.is_active and thread.turn is None:
            # A turn that was running before this hub was there: its id is all that is known.
            turn_id = message.params(_TurnRef).turn_id
            if turn_id is not None:
                thread.began({"id": turn_id, "items": [], "itemsView": "notLoaded"})
        self._tell(tuple(thread.subscribers), message)

    def _tell_owner(self, message: Message) -> None:
        found = self._handles.incoming(message)
        if found is None:
            return
        client = self._clients.get(found[0])
        if client is None:
            return
        self._handles.ended(client, message)
        if client.is_initialized and message.method not in client.opt_outs:
            self._act(ToClient(client.number, found[1]))

    # Each returns whether the notification is to be passed on.

    def _on_thread_started(self, message: Message) -> bool:
        thread_id = message.params(_ThreadStarted).thread.id
        if thread_id:
            self._threads.get(thread_id)
            self._book.used(thread_id)
        return True

    def _on_status(self, message: Message) -> bool:
        changed = message.params(_StatusChanged)
        thread = self._threads.find(changed.thread_id)
        if thread is None and changed.status.type == "active":
            thread = self._threads.get(changed.thread_id)
            self._book.used(changed.thread_id)
        if thread is not None:
            thread.is_active = changed.status.type == "active"
        return True

    def _on_thread_gone(self, message: Message) -> bool:
        thread_id = message.params(_ThreadRef).thread_id or ""
        self._asked.ended(thread_id)
        self._threads.forget(thread_id)
        self._book.closed(thread_id)
        return True

    def _on_turn_started(self, message: Message) -> bool:
        event = message.params(_TurnEvent)
        self._turn_began(self._threads.get(event.thread_id), event.turn)
        return True

    def _turn_began(self, thread: Thread, turn: dict[str, Any]) -> None:
        if thread.began(turn):
            self._emit_turn("started", thread, turn)

    def _on_turn_completed(self, message: Message) -> bool:
        event = message.params(_TurnEvent)
        thread = self._threads.get(event.thread_id)
        self._asked.ended(event.thread_id)
        thread.is_active = False
        if not thread.ended(str(event.turn.get("id"))):
            return False
        is_cut = event.turn.get("status") == "interrupted"
        self._emit_turn("interrupted" if is_cut else "completed", thread, event.turn)
        return True

    # -- losing and finding the child --------------------------------------------------------

    def _end_what_the_old_child_began(self) -> None:
        self._asked.ended()
        for thread in self._threads:
            turn, was_active = thread.turn, thread.is_active
            thread.is_active = False
            if turn is not None and thread.ended(turn["id"]):
                cut = {"items": [], "itemsView": "notLoaded", **turn, "status": "interrupted"}
                self._fabricate(thread, "thread/status/changed", {"status": {"type": "idle"}})
                self._fabricate(thread, "turn/completed", {"turn": cut})
                self._emit_turn("interrupted", thread, turn)
            elif was_active:
                self._fabricate(thread, "thread/status/changed", {"status": {"type": "idle"}})

    def _fabricate(self, thread: Thread, method: str, params: dict[str, Any]) -> None:
        """Tell what the server would have told, had it lived."""
        data = jsonrpc.notification(method, {"threadId": thread.id, **params})
        is_for_all = method in methods.BROADCAST
        message = Message(data, {}, method)
        self._tell(self._clients if is_for_all else tuple(thread.subscribers), message)

    def _end_processes(self) -> None:
        """Processes of clients end with the server; file watches are set again later."""
        for client in self._clients.values():
            for full, opened_by in list(client.handles.items()):
                if opened_by.method == "fs/watch":
                    continue
                del client.handles[full]
                if opened_by.method == "process/spawn":
                    params = {
                        "processHandle": self._handles.original(full),
                        "exitCode": -1,
                        "stdout": "",
                        "stdoutCapReached": False,
                        "stderr": "",
                        "stderrCapReached": False,
                    }
                    data = jsonrpc.notification("process/exited", params)
                    self._act(ToClient(client.number, data))

    def _go_on_recovering(self, now: float) -> None:
        """Resume the next threads; once all are, let the waiting requests through."""
        if self._state != "recovering":
            return
        recovery = self._recovery
        while recovery.waiting and recovery.under_way < _RESUMES_AT_ONCE:
            recovery.under_way += 1
            self._resume(recovery.waiting.popleft(), with_kept=True)
        if recovery.under_way == 0:
            self._recovered(now)

    def _resume(self, thread: Thread, *, with_kept: bool) -> None:
        kept: dict[str, Any] = dict(thread.kept) if with_kept else {}
        params = {**kept, "threadId": thread.id, "excludeTurns": True}
        on_answer = functools.partial(self._resumed, thread, bool(kept))
        self._own_request("thread/resume", params, on_answer)

    def _resumed(self, thread: Thread, had_kept: bool, answer: Message) -> None:
        if "result" not in answer.fields and had_kept:
            # The server may refuse one of the params; the thread matters more than they do.
            self._resume(thread, with_kept=False)
            return
        self._recovery.under_way -= 1
        if "result" not in answer.fields:
            self._thread_lost(thread, _error_text(answer))
        elif self._recovery.same_child:
            status = msgspec.json.decode(answer.result(_Resumed).thread, type=_ResumedThread)
            thread.is_active = status.status.type == "active"
        else:
            self._book.recovered(thread.id)

    def _thread_lost(self, thread: Thread, reason: str) -> None:
        self._fabricate(thread, "thread/closed", {})
        self._threads.forget(thread.id)
        self._book.lost(thread.id, reason)

    def _recovered(self, now: float) -> None:
        self._state = "up"
        for client in self._clients.values():
            for opened_by in client.handles.values():
                if opened_by.method == "fs/watch":
                    self._own_request("fs/watch", opened_by.params(dict[str, Any]))
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for entry in waiting:
            entry.since = now
            self._send(entry)
        for thread in self._threads:
            self._leave_if_idle(thread)

    def _leave_if_idle(self, thread: Thread) -> None:
        """With nobody there and nothing going on, the server may unload the thread in time."""
        if thread.subscribers or thread.is_busy or self._asked.of_thread(thread.id):
            return
        if self._state == "up":
            self._own_request("thread/unsubscribe", {"threadId": thread.id})

    # -- small things ------------------------------------------------------------------------

    def _who_may_answer(self, thread_id: str | None) -> Iterable[int]:
        if thread_id is not None:
            return self._threads.subscribers(thread_id)
        return [entry.number for entry in self._clients.values() if entry.is_initialized]

    def _emit_turn(self, what: str, thread: Thread, turn: dict[str, Any]) -> None:
        detail = {
            "threadId": thread.id,
            "turnId": turn.get("id"),
            "sessionId": self._book.session_of(thread.id),
        }
        self._act(Emit("info", f"turn.{what}", f"A turn was {what}.", detail))

    def _emit_client(self, what: str, client: Client) -> None:
        detail = {"client": client.number, "name": client.info.name[:80]}
        self._act(Emit("info", f"client.{what}", f"A client {what}.", detail))

    def _error(self, client: int, client_id: bytes, code: int, text: str, data: Any = None) -> None:
        if client in self._clients:
            self._act(ToClient(client, jsonrpc.error(client_id, code, text, data)))

    def _act(self, action: Action) -> None:
        self._out.append(action)

    def _done(self) -> list[Action]:
        out, self._out = self._out, []
        return out


class _ResumedThread(msgspec.Struct, frozen=True):
    status: _Status = _Status()


def _text_id(message: Message) -> str:
    try:
        return msgspec.json.decode(message.id or b'""', type=str)
    except msgspec.DecodeError:
        return ""


def _error_text(answer: Message) -> str:
    try:
        return msgspec.json.decode(answer.data, type=_Error).error.message[:200]
    except msgspec.DecodeError:
        return "unknown"


_TRACKED: dict[str, Callable[[Hub, Message], bool]] = {
    "thread/started": Hub._on_thread_started,
    "thread/status/changed": Hub._on_status,
    "thread/closed": Hub._on_thread_gone,
    "thread/archived": Hub._on_thread_gone,
    "thread/deleted": Hub._on_thread_gone,
    "turn/started": Hub._on_turn_started,
    "turn/completed": Hub._on_turn_completed,
}
