"""Requests of the server that its clients answer: approvals above all.

Each goes to every subscriber of its thread; the first answer counts, and the others learn that
it is resolved. With nobody there it waits for a subscriber.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from codexd.clock import now_iso
from codexd.hub import approvals, jsonrpc
from codexd.hub.actions import Action, Emit, ToChild, ToClient
from codexd.hub.jsonrpc import (
    METHOD_NOT_FOUND,
    Message,
    error,
    is_usable_answer,
    notification,
    parse,
)
from codexd.hub.methods import APPROVALS
from codexd.session_id import new_approval_id
from codexd.shapes import Decision

# What codex says to an MCP server whose form the client cannot show (measured).
_REFUSALS = {"mcpServer/elicitation/request": {"action": "decline", "content": None}}

RESOLVED = "serverRequest/resolved"
# Why a request does not wait any more.
ANSWERED = "answered"
WITHDRAWN = "withdrawn"
NOBODY_THERE = "nobody-there"
TURN_ENDED = "turn-ended"
THREAD_CLOSED = "thread-closed"
SERVER_GONE = "server-gone"
# Of so many that do not wait any more it is known why.
_REMEMBERED = 1000
_NOBODY = "No client of codexd is there to answer this."


class Subject(msgspec.Struct, rename="camel"):
    """What a server request is about; its contents are nobody else's business."""

    thread_id: str | None = None
    conversation_id: str | None = None
    turn_id: str | None = None
    item_id: str | None = None


@dataclass(slots=True)
class ServerRequest:
    """One request; ``asked`` maps clients to the id under which each was asked.

    ``approval_id`` is the one that people know it by, ``since`` is when it was asked, and
    ``is_unheard`` says that its answer may have gone with a connection.
    """

    message: Message
    subject: Subject
    approval_id: str = field(default_factory=new_approval_id)
    since: str = field(default_factory=now_iso)
    asked: dict[int, int] = field(default_factory=dict)
    answer: bytes | None = None
    is_unheard: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether it has its answer."""
        return self.answer is not None

    @property
    def thread_id(self) -> str | None:
        """The thread that it belongs to, if any."""
        return self.subject.thread_id or self.subject.conversation_id

    @property
    def waits_for_leave(self) -> bool:
        """Whether it is an approval that nobody has given or refused yet."""
        return not self.is_answered and self.message.method in APPROVALS


class ServerRequests:
    """Every request that is not resolved yet.

    ``act`` takes what is to be done; ``wants`` tells whether a client takes a notification;
    ``waiting`` hears how many approvals wait on a thread when that changes; ``as_asked`` gives a
    request as a client is to get it, None where the server would not ask that client.
    """

    def __init__(
        self,
        act: Callable[[Action], None],
        wants: Callable[[int, str], bool],
        waiting: Callable[[str, int], None],
        as_asked: Callable[[int, Message], Message | None],
    ) -> None:
        self._as_asked = as_asked
        self._act = act
        self._wants = wants
        self._waiting = waiting
        self._open: dict[bytes, ServerRequest] = {}
        self._by_thread: dict[str | None, dict[bytes, ServerRequest]] = {}
        # How many approvals nobody has answered yet, by thread.
        self._unanswered: Counter[str | None] = Counter()
        self._by_client: dict[tuple[int, bytes], ServerRequest] = {}
        self._next_id: dict[int, int] = {}
        self._by_approval: dict[str, ServerRequest] = {}
        self._over: OrderedDict[str, str] = OrderedDict()

    def __iter__(self) -> Iterator[ServerRequest]:
        """Those that wait for an answer, in the order in which they were asked."""
        return iter([entry for entry in self._by_approval.values() if not entry.is_answered])

    def find(self, approval_id: str) -> ServerRequest:
        """One that waits for an answer.

        Raises:
            codexd.hub.approvals.AlreadyDecided: it does not wait any more.
            codexd.hub.approvals.UnknownApproval: there is none.
        """
        reason = self._over.get(approval_id)
        if reason is not None:
            raise approvals.AlreadyDecided(reason)
        entry = self._by_approval.get(approval_id)
        if entry is None:
            raise approvals.UnknownApproval(approval_id)
        return entry

    def decide(self, approval_id: str, decision: Decision) -> None:
        """Answer a request, for whoever is no client.

        Raises:
            codexd.hub.approvals.BadDecision: it does not take this; and as :meth:`find`.
        """
        entry = self.find(approval_id)
        result = approvals.result_of(entry.message, decision)
        assert entry.message.id is not None
        self._settle(entry, jsonrpc.response(entry.message.id, result))

    @property
    def waiting_approvals(self) -> int:
        """How many approvals nobody has answered yet."""
        return self._unanswered.total()

    def of_thread(self, thread_id: str) -> bool:
        """Whether something waits for an answer on this thread."""
        return thread_id in self._by_thread

    def asked(self, message: Message, recipients: Callable[[str | None], Iterable[int]]) -> None:
        """The server asks (or, after a resume, asks again)."""
        assert message.id is not None
        entry = self._open.get(message.id)
        if entry is None or entry.message.method != message.method:
            if entry is not None:
                self._drop(message.id, WITHDRAWN)
            entry = ServerRequest(message, message.params(Subject))
            self._open[message.id] = entry
            self._by_approval[entry.approval_id] = entry
            self._by_thread.setdefault(entry.thread_id, {})[message.id] = entry
            self._unanswered[entry.thread_id] += entry.waits_for_leave
            self._tell(entry, "requested")
        elif entry.is_unheard and entry.answer is not None:
            entry.is_unheard = False
            self._act(ToChild(entry.answer))
        there = tuple(recipients(entry.thread_id))
        for client in there:
            self._ask(entry, client)
        if there:
            self._refuse_if_nobody_can(entry)
        self._refuse_if_nobodys(entry)

    def deliver(self, client: int, thread_id: str, *, is_again: bool) -> None:
        """A client has come to a thread: it is asked what waits there.

        Who comes again is asked once more what it was asked before, under the same id.
        """
        for entry in list(self._by_thread.get(thread_id, {}).values()):
            if not entry.is_answered:
                if is_again and client in entry.asked:
                    self._put_to(client, entry, entry.asked[client])
                self._ask(entry, client)
                self._refuse_if_nobody_can(entry)

    def unsubscribed(self, client: int, thread_id: str) -> None:
        """A client has left a thread, and not codexd: it is asked anew if it comes back."""
        for entry in self._by_thread.get(thread_id, {}).values():
            if client in entry.asked:
                self._unask(entry, client)

    def left(self, thread_id: str) -> None:
        """One of several clients has left a thread: the others may not be able to do the same."""
        for entry in list(self._by_thread.get(thread_id, {}).values()):
            self._refuse_if_nobody_can(entry)

    def _refuse_if_nobody_can(self, entry: ServerRequest) -> None:
        """Answer for clients of which none can do what is asked, as the server would have."""
        server_id, method = entry.message.id, entry.message.method or ""
        if entry.asked or entry.is_answered or server_id is None:
            return
        if method in _REFUSALS:
            self._settle(entry, jsonrpc.response(server_id, _REFUSALS[method]))

    def _ask(self, entry: ServerRequest, client: int) -> None:
        if client in entry.asked or entry.is_answered:
            return
        own_id = self._next_id.get(client, 0)
        if self._put_to(client, entry, own_id):
            self._next_id[client] = own_id + 1
            entry.asked[client] = own_id
            self._by_client[client, b"%d" % own_id] = entry

    def _put_to(self, client: int, entry: ServerRequest, own_id: int) -> bool:
        """Ask a client, if the server would."""
        message = self._as_asked(client, entry.message)
        if message is not None:
            self._act(ToClient(client, message.with_id(b"%d" % own_id)))
        return message is not None

    def answered(self, client: int, answer: Message) -> None:
        """A client answers; only the first answer reaches the server."""
        assert answer.id is not None
        entry = self._by_client.get((client, answer.id))
        if entry is None or entry.is_answered or not is_usable_answer(answer):
            return
        is_last = len(entry.asked) == 1
        if entry.thread_id is None and "error" in answer.fields and not is_last:
            # What concerns no thread is for whichever client can do it; this one cannot.
            self._unask(entry, client)
            return
        assert entry.message.id is not None
        self._settle(entry, answer.with_id(entry.message.id))

    def _settle(self, entry: ServerRequest, answer: bytes) -> None:
        self._unanswered[entry.thread_id] -= entry.waits_for_leave
        entry.answer = answer
        server_id = entry.message.id
        assert server_id is not None
        self._act(ToChild(answer))
        self._is_over(entry, ANSWERED)
        if entry.thread_id is None:
            self._drop(server_id, ANSWERED)

    def resolved(self, message: Message) -> None:
        """The server says that a request is resolved: each client learns it under its own id."""
        params = message.params(dict[str, msgspec.Raw])
        server_id = bytes(params.get("requestId", b""))
        entry = self._drop(server_id, WITHDRAWN)
        if entry is not None:
            self._tell_resolved(entry, message, params)

    def ended(self, reason: str, thread_id: str | None = None) -> None:
        """The turn, thread or server is gone that asked: nobody is to answer any more."""
        open_ = self._open if thread_id is None else self._by_thread.get(thread_id, {})
        for server_id, entry in list(open_.items()):
            self._drop(server_id, reason)
            # A server that lives tells it itself of what was answered, and of approvals only.
            if thread_id is None or entry.waits_for_leave:
                params = {"threadId": entry.thread_id or ""}
                made_up = parse(notification(RESOLVED, params))
                assert made_up is not None
                self._tell_resolved(entry, made_up, params)

    def connected_anew(self) -> None:
        """The server that asked is heard again: what it asks once more, it has no answer to."""
        for entry in self._open.values():
            entry.is_unheard = entry.is_answered

    def client_gone(self, client: int) -> None:
        """A client has left; what it was asked still waits for others."""
        self._next_id.pop(client, None)
        for entry in list(self._open.values()):
            if client in entry.asked:
                self._unask(entry, client)
                self._refuse_if_nobodys(entry)

    def _refuse_if_nobodys(self, entry: ServerRequest) -> None:
        """What concerns no thread is asked of whoever is there, and of nobody who comes later."""
        if entry.thread_id is not None or entry.asked or entry.is_answered:
            return
        server_id = entry.message.id
        assert server_id is not None
        self._drop(server_id, NOBODY_THERE)
        self._act(ToChild(error(server_id, METHOD_NOT_FOUND, _NOBODY)))

    def _tell_resolved(
        self, entry: ServerRequest, message: Message, params: dict[str, Any]
    ) -> None:
        for client, own_id in entry.asked.items():
            if self._wants(client, RESOLVED):
                own = message.with_params({**params, "requestId": own_id})
                self._act(ToClient(client, own))

    def _unask(self, entry: ServerRequest, client: int) -> None:
        own_id = entry.asked.pop(client)
        self._by_client.pop((client, b"%d" % own_id), None)

    def _drop(self, server_id: bytes, reason: str) -> ServerRequest | None:
        entry = self._open.pop(server_id, None)
        if entry is not None:
            on_thread = self._by_thread[entry.thread_id]
            del on_thread[server_id]
            self._unanswered[entry.thread_id] -= entry.waits_for_leave
            if not on_thread:
                del self._by_thread[entry.thread_id], self._unanswered[entry.thread_id]
            for client, own_id in entry.asked.items():
                self._by_client.pop((client, b"%d" % own_id), None)
            self._is_over(entry, reason)
        return entry

    def _is_over(self, entry: ServerRequest, reason: str) -> None:
        """It does not wait any more; that is told once, with the first reason."""
        if self._by_approval.pop(entry.approval_id, None) is None:
            return
        self._over[entry.approval_id] = reason
        if len(self._over) > _REMEMBERED:
            self._over.popitem(last=False)
        self._tell(entry, "resolved", reason=reason)

    def _tell(self, entry: ServerRequest, what: str, **more: str) -> None:
        if entry.message.method not in APPROVALS:
            return
        detail: dict[str, Any] = {
            "approvalId": entry.approval_id,
            "method": entry.message.method,
            "threadId": entry.thread_id,
            "turnId": entry.subject.turn_id,
            "itemId": entry.subject.item_id,
            **more,
        }
        self._act(Emit("info", f"approval.{what}", f"An approval was {what}.", detail))
        if entry.thread_id is not None:
            self._waiting(entry.thread_id, self._unanswered[entry.thread_id])
