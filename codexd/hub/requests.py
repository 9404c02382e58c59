"""Requests on their way to the child: sent, waiting for it to be there, or lost with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.hub import jsonrpc, methods
from codexd.hub.actions import ToChild
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Message


class ThreadRef(msgspec.Struct, rename="camel", frozen=True):
    """Params that name a thread."""

    thread_id: str | None = None


@dataclass(slots=True)
class Pending:
    """A request that is not answered. ``client`` is None for one of the hub's own.

    ``subscribed`` is the thread whose notifications its client hears only because of it;
    ``is_repeated`` says that a server died over it, or beside it, before.
    """

    message: Message
    client: int | None
    client_id: bytes
    since: float
    on_answer: Callable[[Message], None] | None = None
    subscribed: str | None = None
    is_repeated: bool = False


class Requests:
    """Every request that the child has not answered."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sent: dict[str, Pending] = {}
        self._waiting: deque[Pending] = deque()
        self._waiting_bytes = 0
        self._count = 0
        self.openings = 0
        # While a child is to end: a turn that it would not finish must not begin.
        self.holds_turns = False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._waiting) + len(self._sent)

    def submit(self, entry: Pending) -> None:
        """Send a client's request, now or once the child is there."""
        if self._core.state == "up" and not self._is_held(entry):
            self._send(entry)
        else:
            self._wait(entry)

    def put_back(self, entry: Pending) -> None:
        """The child refused a request because it is ending: the next one gets it.

        The hub's own are dropped: a new child is asked anew whatever there is to ask.
        """
        if entry.client in self._core.clients:
            self._wait(entry)

    def _wait(self, entry: Pending) -> None:
        limits = self._core.limits
        size = self._waiting_bytes + len(entry.message.data)
        if len(self._waiting) < limits.waiting_requests and size <= limits.waiting_bytes:
            self._waiting.append(entry)
            self._waiting_bytes = size
        elif entry.client is not None:
            text = "The app-server is away and too many requests wait for it; try again later."
            self._core.error(entry.client, entry.client_id, jsonrpc.OVERLOADED, text)

    def own(
        self,
        method: str,
        params: dict[str, Any],
        on_answer: Callable[[Message], None] | None = None,
    ) -> None:
        """Send a request of the hub's own; there is none while the child is away."""
        if self._core.state != "away":
            message = jsonrpc.parse(jsonrpc.request("", method, params))
            assert message is not None
            self._send(Pending(message, None, b"", 0.0, on_answer))

    def answered(self, message: Message) -> Pending | None:
        """The request that the child answers; None where this hub did not send it."""
        entry = self._sent.pop(_text_id(message), None)
        if entry is not None and entry.message.method in methods.OPENING:
            self.openings -= 1
        return entry

    def release(self, now: float) -> None:
        """The child is up: what waited is sent, in order. Turns that are held back stay so."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for entry in waiting:
            if self._is_held(entry):
                self._wait(entry)
            else:
                entry.since = now
                self._send(entry)

    def _is_held(self, entry: Pending) -> bool:
        return self.holds_turns and entry.message.method in methods.TURN_STARTING

    def starting_turns(self, is_busy: Callable[[str], bool]) -> int:
        """How many turns the child was asked to start on threads where none runs yet."""
        asked = [
            e.message for e in self._sent.values() if e.message.method in methods.TURN_STARTING
        ]
        return sum(not is_busy(message.params(ThreadRef).thread_id or "") for message in asked)

    def child_lost(self, reason: str) -> None:
        """What the child has not answered fails, or waits to be sent again."""
        again = [entry for entry in self._sent.values() if self._is_to_repeat(entry, reason)]
        self._sent.clear()
        self.openings = 0
        self._waiting.extendleft(reversed(again))
        self._waiting_bytes += sum(len(entry.message.data) for entry in again)

    def client_gone(self, client: int) -> None:
        """What waits for a client that has left is not sent any more."""
        self._waiting = deque(entry for entry in self._waiting if entry.client != client)
        self._waiting_bytes = sum(len(entry.message.data) for entry in self._waiting)

    def check_patience(self, now: float) -> None:
        """Nobody waits for ever."""
        while self._waiting and now - self._waiting[0].since > self._core.limits.wait_s:
            entry = self._waiting.popleft()
            self._waiting_bytes -= len(entry.message.data)
            self.undo_subscription(entry)
            self._refuse(entry, "The app-server is away and did not come back in time.", "away")

    def not_sent(self, request: Message, text: str, code: int) -> None:
        """The connection to the child would not take a request: its client is told why."""
        entry = self.answered(request)
        if entry is not None and entry.client is not None:
            self.undo_subscription(entry)
            self._core.error(entry.client, entry.client_id, code, text)

    def undo_subscription(self, entry: Pending) -> None:
        """The thread's notifications were for the answer's sake, and there is none."""
        thread = self._core.threads.find(entry.subscribed) if entry.subscribed else None
        if thread is not None and entry.client is not None:
            thread.subscribers.discard(entry.client)

    def _send(self, entry: Pending) -> None:
        self._count += 1
        hub_id = f"{self._core.prefix}{self._count}"
        self._sent[hub_id] = entry
        method = entry.message.method
        if method == "thread/resume" and entry.client is not None:
            self._expect_resume(entry, entry.client)
        elif method in methods.OPENING:
            self.openings += 1
        self._core.act(ToChild(entry.message.with_id(jsonrpc.quoted(hub_id))))

    def _expect_resume(self, entry: Pending, client: int) -> None:
        """The server may tell of the thread before it answers: its new listener hears that."""
        thread_id = entry.message.params(ThreadRef).thread_id
        if thread_id is None:
            return
        thread = self._core.threads.get(thread_id)
        if client not in thread.subscribers:
            entry.subscribed = thread_id
            thread.subscribers.add(client)

    def _is_to_repeat(self, entry: Pending, reason: str) -> bool:
        client = self._core.clients.get(entry.client) if entry.client is not None else None
        if client is None:
            return False
        # Once: it may be what the server dies of.
        if entry.message.method in methods.REPEATABLE and not entry.is_repeated:
            entry.is_repeated = True
            return True
        self.undo_subscription(entry)
        self._core.handles.answered(client, entry.message, ok=False)
        text = f"The app-server was restarted before it answered ({reason})."
        if entry.message.method in methods.TURN_STARTING:
            text += " The turn may have begun."
        self._refuse(entry, text, "server_restarted")
        return False

    def _refuse(self, entry: Pending, text: str, reason: str) -> None:
        if entry.client is not None:
            data = {"codexd": {"reason": reason, "method": entry.message.method}}
            code = jsonrpc.SERVER_RESTARTED
            self._core.error(entry.client, entry.client_id, code, text, data)


def _text_id(message: Message) -> str:
    try:
        return msgspec.json.decode(message.id or b'""', type=str)
    except UNDECODABLE:
        return ""
