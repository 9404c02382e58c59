"""The hub without any I/O: what clients and the child would see."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from codexd.contracts import SessionRecord
from codexd.hub.actions import (
    Action,
    CloseClient,
    Emit,
    Introduced,
    SessionChanged,
    ToChild,
    ToClient,
)
from codexd.hub.hub import Hub, HubLimits
from codexd.hub.profile import NOTHING, ClientProfile

INITIALIZED = {
    "userAgent": "codexd/0.163.0 (Debian 12.0.0; x86_64) xterm (codexd; 0.1.0)",
    "codexHome": "/home/u/.codex",
    "platformFamily": "unix",
    "platformOs": "linux",
}


class HubRig:
    """A hub, and everything it ever wanted done."""

    def __init__(self, limits: HubLimits | None = None, *, ready: bool = True) -> None:
        self.hub = Hub(limits=limits or HubLimits(), id_prefix="hub-x-", endpoint="stdio://x")
        # Of any origin, and none at which a sum and a difference are the same.
        self.now = 1024.0
        self.to_client: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.to_child: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self.events: list[Emit] = []
        self.introductions: list[Introduced] = []
        # The newest of each thread, and all of them by their own id.
        self.sessions: dict[str, SessionRecord] = {}
        self.registry: dict[str, SessionRecord] = {}
        self._count = 0
        if ready:
            self.ready()

    def do(self, actions: list[Action]) -> None:
        """Note what is to be done."""
        for action in actions:
            match action:
                case ToClient(client, data):
                    self.to_client[client].append(json.loads(data))
                case ToChild(data):
                    self.to_child.append(json.loads(data))
                case CloseClient(client):
                    self.closed.append(client)
                case Introduced():
                    self.introductions.append(action)
                case Emit():
                    self.events.append(action)
                case SessionChanged(record):
                    self.sessions[record.thread_id or ""] = record
                    self.registry[record.session_id] = record

    def do_raw(self, actions: list[Action]) -> None:
        """Let be done what follows from bytes that may be no text: it is JSON apart from those."""
        for action in actions:
            match action:
                case ToClient(_, data) | ToChild(data):
                    json.loads(data.decode("utf-8", "replace"))
                case _:
                    self.do([action])

    def ready(self, *loaded: str, same_child: bool = False, child_pid: int = 7) -> None:
        """The child answers the handshake, and that the threads ``loaded`` are loaded in it."""
        result = json.dumps(INITIALIZED).encode()
        self.do(self.hub.child_ready(result, self.now, same_child=same_child, child_pid=child_pid))
        asked = self.asked("thread/loaded/list")
        self.to_child.remove(asked)
        self.child({"id": asked["id"], "result": {"data": list(loaded), "nextCursor": None}})

    def lose(self, *unread: dict[str, Any]) -> None:
        """The child is gone; it has not read ``unread``."""
        messages = [json.dumps(message).encode() for message in unread]
        self.do(self.hub.child_lost("the server ended by signal 9", self.now, messages))

    def end(self) -> None:
        """The child that is gone has ended; nobody knows whether another comes."""
        self.do(self.hub.child_ended(self.now))

    def leave(self, client: int) -> None:
        """A client hangs up."""
        self.do(self.hub.client_closed(client, self.now))

    def tick(self, seconds: float = 0.0) -> None:
        """Time passes."""
        due = self.hub.next_tick(self.now)
        self.now += seconds
        actions = self.hub.tick(self.now)
        # Whoever asks the hub when it wants to be called must miss nothing.
        assert not actions or (due is not None and due <= self.now)
        self.do(actions)

    def connect(
        self, client: int, *, profile: ClientProfile = NOTHING, **capabilities: Any
    ) -> None:
        """A client connects and initializes, with `experimentalApi` unless told otherwise."""
        capabilities = {"experimentalApi": True, **capabilities}
        self.do(self.hub.client_opened(client, self.now, profile))
        params = {"clientInfo": {"name": f"c{client}", "version": "1"}}
        self.say(
            client,
            {"id": 0, "method": "initialize", "params": {**params, "capabilities": capabilities}},
        )
        self.say(client, {"method": "initialized"})

    def say(self, client: int, message: Any) -> None:
        """A client sends a message."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.do(self.hub.client_message(client, data, self.now))

    def ask(self, client: int, method: str, params: Any = None, id_: Any = None) -> Any:
        """A client sends a request; its id."""
        self._count += 1
        request_id = self._count if id_ is None else id_
        self.say(client, {"id": request_id, "method": method, "params": params or {}})
        return request_id

    def child(self, message: dict[str, Any]) -> None:
        """The child sends a message."""
        self.do(self.hub.child_message(json.dumps(message).encode(), self.now))

    def tell(self, method: str, **params: Any) -> None:
        """The child sends a notification."""
        self.child({"method": method, "params": params, "emittedAtMs": 5})

    def asked(self, method: str) -> dict[str, Any]:
        """The last request of this method that reached the child."""
        return next(
            message for message in reversed(self.to_child) if message.get("method") == method
        )

    def answer(self, method: str, result: Any = None, error: Any = None) -> None:
        """The child answers the last request of this method."""
        body = {"error": error} if error is not None else {"result": result or {}}
        self.child({"id": self.asked(method)["id"], **body})

    def got(self, client: int, method: str) -> list[dict[str, Any]]:
        """Every message of this method that a client got."""
        return [entry for entry in self.to_client[client] if entry.get("method") == method]

    def answers(self, client: int, request_id: Any) -> list[dict[str, Any]]:
        """Every answer that a client got to a request."""
        return [
            entry
            for entry in self.to_client[client]
            if "method" not in entry and entry.get("id") == request_id
        ]

    def open_thread(self, client: int, thread_id: str = "t1") -> None:
        """A client starts a thread, and the child answers."""
        self.ask(client, "thread/start", {"cwd": "/w"})
        self.answer("thread/start", {"thread": {"id": thread_id}})
        self.tell("thread/started", thread={"id": thread_id})

    def join_thread(self, client: int, thread_id: str = "t1") -> None:
        """A client resumes a thread, and the child answers."""
        self.ask(client, "thread/resume", {"threadId": thread_id})
        self.answer("thread/resume", {"thread": {"id": thread_id}})

    def run_turn(self, client: int, thread_id: str = "t1", turn_id: str = "u1") -> Any:
        """A client starts a turn; it runs."""
        request_id = self.ask(client, "turn/start", {"threadId": thread_id, "input": []})
        turn = {"id": turn_id, "items": [], "itemsView": "notLoaded", "status": "inProgress"}
        self.answer("turn/start", {"turn": turn})
        self.tell("thread/status/changed", threadId=thread_id, status={"type": "active"})
        self.tell("turn/started", threadId=thread_id, turn=turn)
        return request_id

    def end_turn(self, thread_id: str = "t1", turn_id: str = "u1") -> None:
        """The running turn completes."""
        self.tell("thread/status/changed", threadId=thread_id, status={"type": "idle"})
        turn = {"id": turn_id, "items": [], "status": "completed"}
        self.tell("turn/completed", threadId=thread_id, turn=turn)

    def event_types(self) -> list[str]:
        """The types of every event."""
        return [event.type for event in self.events]
