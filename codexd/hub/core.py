"""What the parts of the hub share: who is there, which threads there are, what is to be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from codexd.hub import jsonrpc, methods
from codexd.hub.actions import Action, Emit, ToClient
from codexd.hub.clients import Client, Handles
from codexd.hub.counts import HubCounts, code_of
from codexd.hub.jsonrpc import Message
from codexd.hub.server_requests import ServerRequests
from codexd.hub.session_book import SessionBook
from codexd.hub.threads import Thread, Threads

# away: no child, or no connection to it. recovering: connected, and what clients have set for the
# whole process is being set again; only the hub's own requests go through. up: everything does but
# what names a thread that is not loaded again yet.
ServerState = Literal["away", "recovering", "up"]


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Times in seconds, sizes in bytes.

    ``thread_wait_s``: how long a request waits for a thread that cannot be resumed just now.
    ``unload_s``: how long the server keeps a thread that nobody listens to (codex 0.163).
    """

    initialize_timeout_s: float = 30.0
    wait_s: float = 120.0
    thread_wait_s: float = 10.0
    unload_s: float = 1800.0
    client_requests: int = 20_000
    client_bytes: int = 128 << 20
    waiting_requests: int = 40_000
    waiting_bytes: int = 256 << 20


class Core:
    """The state of a hub, and the small things that all its parts do with it."""

    def __init__(self, limits: HubLimits, id_prefix: str, endpoint: str) -> None:
        self.limits = limits
        self.prefix = id_prefix
        # The time of what is being handled.
        self.now = 0.0
        self.state: ServerState = "away"
        self.counts = HubCounts()
        self.clients: dict[int, Client] = {}
        self.threads = Threads()
        self.handles = Handles(id_prefix)
        self.book = SessionBook(endpoint, self.act)
        self.asked = ServerRequests(self.act, self.wants, self.book.waiting, self._as_asked)
        self._out: list[Action] = []

    def act(self, action: Action) -> None:
        """Have something done."""
        self._out.append(action)

    def take_actions(self) -> list[Action]:
        """Everything that is to be done, once."""
        out, self._out = self._out, []
        return out

    def wants(self, number: int, method: str | None) -> bool:
        """Whether a client is there, initialized, and takes notifications of this method."""
        client = self.clients.get(number)
        return client is not None and client.wants(method)

    def _as_asked(self, number: int, message: Message) -> Message | None:
        client = self.clients.get(number)
        if client is None or not client.can_answer(message):
            return None
        return client.as_asked(message)

    def subscribe(self, client: int, thread: Thread, *, is_asked: bool = False) -> None:
        """A client listens to a thread from now on, and the thread is one of its own.

        With ``is_asked`` only until it is known whether it may.
        """
        # It may have left while the child was asked.
        known = self.clients.get(client)
        if known is not None:
            thread.subscribers.add(client)
            (known.asks_for if is_asked else known.uses)(thread.id)

    def everybody(self, thread_id: str | None) -> tuple[int, ...]:
        """Whoever is to hear what the server tells all its connections of a thread."""
        return tuple(
            number for number, client in self.clients.items() if client.hears_of(thread_id)
        )

    def tell(self, clients: Iterable[int], message: Message) -> None:
        """Pass a notification on to those of ``clients`` that want it."""
        method, data, known = message.method, message.data, self.clients
        for number in clients:
            client = known.get(number)
            if client is not None and client.wants(method):
                self._out.append(ToClient(number, data))

    def fabricate(self, thread: Thread, method: str, params: dict[str, Any]) -> None:
        """Tell what the server would have told, had it lived."""
        data = jsonrpc.notification(method, {"threadId": thread.id, **params})
        is_for_all = method in methods.BROADCAST
        recipients = self.everybody(thread.id) if is_for_all else tuple(thread.subscribers)
        self.tell(recipients, Message(data, {}, method))

    def error(
        self,
        client: int,
        client_id: bytes,
        code: int,
        text: str,
        data: Any = None,
        *,
        method: str | None,
        since: float,
    ) -> None:
        """Answer a request of a client, which asked ``method`` at ``since``, with an error."""
        if client in self.clients:
            self.counts.request_ended(method, code_of(code), self.now - since)
            self.act(ToClient(client, jsonrpc.error(client_id, code, text, data)))

    def forget(self, thread_id: str) -> None:
        """A thread is gone."""
        self.threads.forget(thread_id)
        for client in self.clients.values():
            client.lost(thread_id)

    def forget_if_nothing(self, thread: Thread) -> None:
        """Whoever asked for a thread was refused: nothing else is known of it."""
        is_known = thread.hearing == "joined" or self.book.session_of(thread.id) is not None
        if not is_known and not thread.subscribers and not thread.is_busy:
            self.forget(thread.id)

    def turn_began(
        self, thread: Thread, turn: dict[str, Any], *, is_late: bool = False, is_told: bool = True
    ) -> None:
        """A turn runs on a thread. ``is_late``: it has for a while, unseen.

        Without ``is_told`` the server has only answered that it will.
        """
        if thread.began(turn, is_told=is_told):
            thread.began_at = None if is_late else self.now
            self.book.turn_runs(thread.id, str(turn.get("id")))
            self._emit_turn("started", thread, str(turn.get("id")))

    def turn_ended(self, thread: Thread, turn: dict[str, Any], *, is_cut: bool) -> bool:
        """A turn is over; False if that was told before."""
        turn_id = str(turn.get("id"))
        running = thread.ends(turn_id)
        began_at = None if running is None else thread.began_at
        is_on_record = running is not None or thread.may_be_on_record(turn_id)
        if not thread.ended(turn_id, turn.get("status")):
            return False
        self.counts.turn_ended(turn, None if began_at is None else self.now - began_at)
        if not is_on_record:
            # It was asked for as the plugin before this one died, and began with nobody there.
            self._emit_turn("started", thread, turn_id)
        # On record it ends by the id by which it began.
        self._emit_turn("interrupted" if is_cut else "completed", thread, running or turn_id)
        self.book.turn_runs(thread.id, None if thread.turn is None else thread.turn["id"])
        return True

    def _emit_turn(self, what: str, thread: Thread, turn_id: str) -> None:
        detail = {
            "threadId": thread.id,
            "turnId": turn_id,
            "sessionId": self.book.session_of_turn(thread.id),
        }
        self.act(Emit("info", f"turn.{what}", f"A turn was {what}.", detail))
