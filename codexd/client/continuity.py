"""A client's life on a server, over connections that are lost.

`codexd attach` speaks with the hub over a connection that ends when the plugin dies, while the
server behind it lives on. A pure object: it is shown what goes either way, and says what to send
over a new connection, and what the client is owed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from codexd.client.open_handles import OpenHandles
from codexd.encoding import UNDECODABLE
from codexd.hub import jsonrpc, methods
from codexd.hub.jsonrpc import Fields, Message
from codexd.turn_record import ToldItems, items_of, record_of, tells_its_end

# Ids of requests that are not the client's. A client that uses such ids itself is not served.
_OWN = "codexd-attach:"
_RESOLVED = "serverRequest/resolved"
_LAST_TURNS = {"limit": 2, "itemsView": "full"}
# The thread is gone for good (codex 0.163); whatever else a resume is refused for may pass.
_GONE = "no rollout found"
# So often a thread may be refused in a row before it is given up.
_REFUSALS = 30
# And so often, one after the other, the server is asked how a turn ended that it may not have
# written down yet.
_DOUBTS = 20


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _Id(msgspec.Struct, rename="camel", frozen=True):
    id: str = ""
    parent_thread_id: str | None = None


class _Params(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str | None = None
    thread: _Id = _Id()
    turn: _Id = _Id()
    item: dict[str, Any] = {}


class _Capabilities(msgspec.Struct, rename="camel", frozen=True):
    experimental_api: bool = False


class _Introduction(msgspec.Struct, frozen=True):
    capabilities: _Capabilities | None = None


class _Page(msgspec.Struct):
    data: list[dict[str, Any]] = []


class _Opened(msgspec.Struct, frozen=True):
    id: str = ""
    status: _Status = _Status()
    turns: list[dict[str, Any]] = []


class _Result(msgspec.Struct, rename="camel"):
    thread: _Opened = _Opened()
    turn: _Id = _Id()
    review_thread_id: str | None = None
    initial_turns_page: _Page | None = None
    # Of an answer to `thread/turns/list`.
    data: list[dict[str, Any]] | None = None

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns that it tells of."""
        if self.data is not None:
            return self.data
        page = self.initial_turns_page
        return self.thread.turns if page is None else page.data


class _ErrorText(msgspec.Struct, frozen=True):
    message: str = ""


class _Failed(msgspec.Struct, frozen=True):
    error: _ErrorText = _ErrorText()


@dataclass(slots=True)
class _Thread:
    """A thread that the client listens to. ``seen`` are the items of the turn that runs whose end
    it was told, ``doubts`` how often the server has not said for certain how that turn ended."""

    turn: str | None = None
    # The turn that runs where it is a review: that begins under another id than it ends.
    review: str | None = None
    seen: ToldItems = field(default_factory=ToldItems)
    refusals: int = 0
    doubts: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request of the server: its id there, and the thread that it is about."""

    id: bytes
    thread_id: str | None


@dataclass(slots=True)
class Sends:
    """What is to go to the server, and what to the client, each in order."""

    to_server: list[bytes] = field(default_factory=list)
    to_client: list[bytes] = field(default_factory=list)


class Continuity:
    """What a client has asked for and been told so far."""

    def __init__(self) -> None:
        self._initialize: Message | None = None
        self._initialized: bytes | None = None
        self._is_answered = False
        self._waiting: dict[bytes, Message] = {}
        # By the id under which the client was asked.
        self._asked: dict[bytes, _Asked] = {}
        self._void: set[bytes] = set()
        self._connection = 0
        self._threads: dict[str, _Thread] = {}
        self._handles = OpenHandles()
        self._resuming: dict[bytes, str] = {}
        # What was asked about a thread's turn: the ids of the thread and of the turn.
        self._doubtful: dict[bytes, tuple[str, str]] = {}
        self._count = 0
        # The id of the introduction on a connection that is not the first.
        self._greeting = b""
        # What the client says while there is no connection, or one that does not know it yet.
        self._held: list[bytes] = []
        self._is_welcome = True

    @property
    def is_waiting(self) -> bool:
        """Whether a request of the client has no answer yet, or may be among what is held."""
        return bool(self._waiting or self._held)

    @property
    def held_bytes(self) -> int:
        """How much of what the client has said waits for a connection."""
        return sum(map(len, self._held))

    @property
    def unanswered(self) -> int:
        """How many requests of the client have no answer yet."""
        return len(self._waiting)

    @property
    def turns_run(self) -> bool:
        """Whether a turn of the client's runs, or is asked for. Another thread may ask."""
        return any(
            request.method in methods.TURN_STARTING for request in list(self._waiting.values())
        ) or any(thread.turn is not None for thread in list(self._threads.values()))

    # -- on a connection ---------------------------------------------------------------------

    def from_client(self, data: bytes) -> list[bytes]:
        """The client says something: what of it is to go to the server now."""
        if not self._is_welcome:
            self._held.append(data)
            return []
        passed = self._pass(data)
        return [] if passed is None else [passed]

    def _pass(self, data: bytes) -> bytes | None:
        message = jsonrpc.parse(data)
        if message is None:
            return data
        if message.method is None:
            return data if message.id is None else self._client_answers(message, message.id)
        if message.id is not None:
            self._waiting[message.id] = message
            self._handles.asked(message)
            if message.method == "initialize" and self._initialize is None:
                self._initialize = message
        elif message.method == "initialized":
            self._initialized = data
        return data

    def _client_answers(self, message: Message, client_id: bytes) -> bytes | None:
        asked = self._asked.pop(client_id, None)
        if asked is not None:
            return message.with_id(asked.id)
        # An answer to what was asked over a connection that is lost is nobody's any more.
        return None if client_id in self._void else message.data

    def from_server(self, data: bytes) -> Sends:
        """The server says something: what of it the client is to hear, and what follows."""
        message = jsonrpc.parse(data)
        if message is None:
            return Sends(to_client=[data])
        if message.method is None:
            return self._answered(message)
        if message.id is not None:
            return Sends(to_client=[self._server_asks(message, message.id)])
        if message.method == _RESOLVED:
            return Sends(to_client=[self._resolved(message)])
        self._told(message)
        self._handles.told(message)
        return Sends(to_client=[data])

    def _resolved(self, message: Message) -> bytes:
        params = message.params(Fields)
        server_id = bytes(params.get("requestId", b""))
        for client_id, asked in self._asked.items():
            if asked.id == server_id:
                del self._asked[client_id]
                params["requestId"] = msgspec.Raw(client_id)
                return jsonrpc.notification(_RESOLVED, params)
        return message.data

    def _server_asks(self, message: Message, server_id: bytes) -> bytes:
        # The ids of every connection begin anew: a late answer must not be taken for another's.
        client_id = server_id
        if self._connection:
            text = server_id.decode().strip('"')
            client_id = jsonrpc.quoted(f"{self._connection}:{text}")
        self._asked[client_id] = _Asked(server_id, message.params(_Params).thread_id)
        return message.with_id(client_id)

    def _answered(self, message: Message) -> Sends:
        assert message.method is None
        thread_id = self._resuming.pop(message.id or b"", None)
        if thread_id is not None:
            return self._resumed(thread_id, message)
        doubtful = self._doubtful.pop(message.id or b"", None)
        if doubtful is not None:
            return self._told_again(*doubtful, message)
        if message.id is not None and message.id.startswith(f'"{_OWN}'.encode()):
            # Of what was opened again there is nothing to tell.
            return self._welcomed(message) if message.id == self._greeting else Sends()
        request = self._waiting.pop(message.id or b"", None)
        if request is not None and "result" in message.fields:
            self._note(request, message)
        sends = Sends(to_client=[message.data])
        if request is not None and request.method == "initialize":
            sends.to_server = self._let_go()
        return sends

    def _let_go(self) -> list[bytes]:
        """The connection knows the client: what was held goes on it."""
        self._is_welcome = True
        held, self._held = self._held, []
        return [passed for data in held if (passed := self._pass(data)) is not None]

    def _note(self, request: Message, answer: Message) -> None:
        method = request.method or ""
        result: _Result = answer.result(_Result)
        self._handles.answered(request)
        if method == "initialize":
            self._is_answered = True
        elif method in methods.SUBSCRIBING and result.thread.id:
            self._threads.setdefault(result.thread.id, _Thread())
        elif method in methods.SUBSCRIBING_BY_NAME and request.params(_Params).thread_id:
            self._threads.setdefault(request.params(_Params).thread_id, _Thread())
        elif method == "thread/unsubscribe":
            self._threads.pop(request.params(_Params).thread_id or "", None)
        elif method in methods.TURN_STARTING:
            thread_id = result.review_thread_id or request.params(_Params).thread_id
            if thread_id and result.turn.id:
                self._began(thread_id, result.turn.id)
                if method == "review/start" and thread_id in self._threads:
                    self._threads[thread_id].review = result.turn.id

    def _told(self, message: Message) -> None:
        method = message.method or ""
        if method not in _NOTED:
            return
        params: _Params = message.params(_Params)
        thread_id = params.thread_id or ""
        thread = self._threads.get(thread_id)
        if method == "thread/started":
            if params.thread.parent_thread_id in self._threads:
                self._threads.setdefault(params.thread.id, _Thread())
        elif method == "turn/started":
            self._began(thread_id, params.turn.id)
        elif method == "item/completed" and thread is not None:
            thread.seen.add(params.item)
        elif method == "turn/completed" and thread is not None:
            thread.turn = None
            thread.seen.clear()
        elif method in _CLOSING:
            self._threads.pop(thread_id, None)

    def _began(self, thread_id: str, turn_id: str) -> None:
        thread = self._threads.get(thread_id)
        is_inside = thread is not None and thread.turn is not None and thread.turn == thread.review
        if thread is not None and thread.turn != turn_id and not is_inside:
            thread.turn = turn_id
            thread.seen.clear()

    # -- over the loss of it -----------------------------------------------------------------

    def lost(self) -> list[bytes]:
        """The connection is gone: what the client is told of it.

        A request that changes nothing is asked again; of any other nobody can say whether it was
        heard.
        """
        owed = []
        for client_id, asked in self._asked.items():
            # It is asked anew, under another id, once its thread is resumed.
            params = {"threadId": asked.thread_id or "", "requestId": msgspec.Raw(client_id)}
            owed.append(jsonrpc.notification(_RESOLVED, params))
        owed += self._handles.lost()
        self._void = set(self._asked)
        self._asked.clear()
        self._connection += 1
        self._is_welcome = False
        self._resuming.clear()
        self._doubtful.clear()
        for raw_id, request in list(self._waiting.items()):
            if request.method == "initialize" or request.method in methods.REPEATABLE:
                continue
            del self._waiting[raw_id]
            text = "codexd was restarted before the request was answered. It may have been heard."
            data = {"codexd": {"reason": "connection_lost", "method": request.method}}
            owed.append(jsonrpc.error(raw_id, jsonrpc.SERVER_RESTARTED, text, data))
        return owed

    def reconnected(self) -> list[bytes]:
        """A new connection is there: what to send on it first."""
        if self._initialize is None:
            return self._let_go()
        if not self._is_answered:
            # The client still waits for this answer.
            return [self._initialize.data]
        self._greeting = self._own_id()
        return [self._initialize.with_id(self._greeting)]

    def _welcomed(self, message: Message) -> Sends:
        """The new connection is initialized, as the client's first one was."""
        if "error" in message.fields:
            # The server is away, and that took the hub's patience; ours is the client's.
            return Sends(to_server=self.reconnected())
        sends = Sends(to_server=[] if self._initialized is None else [self._initialized])
        sends.to_server += [self._resume(thread_id) for thread_id in self._threads]
        sends.to_server += [opened.with_id(self._own_id()) for opened in self._handles.to_reopen()]
        sends.to_server += [request.data for request in self._waiting.values()]
        sends.to_server += self._let_go()
        return sends

    def _resume(self, thread_id: str) -> bytes:
        own_id = self._own_id()
        self._resuming[own_id] = thread_id
        params: dict[str, Any] = {"threadId": thread_id}
        if self._is_experimental:
            # Else all turns come, however many.
            params |= {"excludeTurns": True, "initialTurnsPage": _LAST_TURNS}
        return jsonrpc.request(msgspec.json.decode(own_id, type=str), "thread/resume", params)

    @property
    def _is_experimental(self) -> bool:
        if self._initialize is None:
            return False
        params: _Introduction = self._initialize.params(_Introduction)
        return params.capabilities is not None and params.capabilities.experimental_api

    def _own_id(self) -> bytes:
        self._count += 1
        return jsonrpc.quoted(f"{_OWN}{self._count}")

    def _resumed(self, thread_id: str, answer: Message) -> Sends:
        thread = self._threads.get(thread_id)
        if thread is None:
            return Sends()
        if "result" not in answer.fields:
            return self._refused(thread_id, thread, answer)
        thread.refusals = 0
        if thread.turn is None:
            return Sends()
        thread.doubts = 0
        resumed: _Result = answer.result(_Result)
        record = record_of(thread.turn, resumed.turns)
        is_active = resumed.thread.status.type == "active"
        if is_active and record.get("status", "inProgress") == "inProgress":
            return Sends()
        return self._settle(thread_id, thread, thread.turn, record)

    def _settle(
        self, thread_id: str, thread: _Thread, turn_id: str, record: dict[str, Any]
    ) -> Sends:
        """The turn is over: the client hears how, once that is certain, or was asked often."""
        if tells_its_end(record):
            return Sends(to_client=self._end(thread_id, thread, record))
        if thread.doubts < _DOUBTS:
            thread.doubts += 1
            return Sends(to_server=[self._ask_again(thread_id, turn_id)])
        # The server died before it had written the turn down, or its end.
        cut = {**record, "id": turn_id, "status": "interrupted"}
        return Sends(to_client=self._end(thread_id, thread, cut))

    def _ask_again(self, thread_id: str, turn_id: str) -> bytes:
        own_id = self._own_id()
        self._doubtful[own_id] = (thread_id, turn_id)
        id_ = msgspec.json.decode(own_id, type=str)
        if self._is_experimental:
            params = {"threadId": thread_id, "sortDirection": "desc", **_LAST_TURNS}
            return jsonrpc.request(id_, "thread/turns/list", params)
        return jsonrpc.request(id_, "thread/read", {"threadId": thread_id, "includeTurns": True})

    def _told_again(self, thread_id: str, turn_id: str, answer: Message) -> Sends:
        thread = self._threads.get(thread_id)
        if thread is None or thread.turn != turn_id:
            # The server itself has told its end meanwhile.
            return Sends()
        result: _Result = answer.result(_Result)
        return self._settle(thread_id, thread, turn_id, record_of(turn_id, result.turns))

    def _refused(self, thread_id: str, thread: _Thread, answer: Message) -> Sends:
        thread.refusals += 1
        if _GONE not in _error_text(answer) and thread.refusals < _REFUSALS:
            # A passing trouble, for which the hub has waited before it said so.
            return Sends(to_server=[self._resume(thread_id)])
        owed = []
        if thread.turn is not None:
            owed = self._end(thread_id, thread, {"id": thread.turn, "status": "interrupted"})
        del self._threads[thread_id]
        return Sends(
            to_client=[*owed, jsonrpc.notification("thread/closed", {"threadId": thread_id})]
        )

    def _end(self, thread_id: str, thread: _Thread, turn: dict[str, Any]) -> list[bytes]:
        """What the client has missed of a turn that is over."""
        items = list(thread.seen.untold(items_of(turn)))
        thread.turn = None
        thread.seen.clear()
        common = {"threadId": thread_id, "turnId": turn["id"]}
        at_ms = {"completedAtMs": int((turn.get("completedAt") or 0) * 1000)}
        return [
            *(
                jsonrpc.notification("item/completed", {**common, **at_ms, "item": item})
                for item in items
            ),
            jsonrpc.notification("turn/completed", {"threadId": thread_id, "turn": turn}),
        ]


def _error_text(answer: Message) -> str:
    try:
        return msgspec.json.decode(answer.data, type=_Failed).error.message
    except UNDECODABLE:
        return ""


_CLOSING = {"thread/closed", "thread/archived", "thread/deleted"}
_NOTED = {
    "thread/started",
    "turn/started",
    "turn/completed",
    "item/completed",
    *_CLOSING,
}
