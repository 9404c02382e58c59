"""A client's life on a server, over connections that are lost.

`codexd attach` speaks with the hub over a connection that ends when the plugin dies, while the
server behind it lives on. A pure object: it is shown what goes either way, and the time, and says
what to send over a new connection, and what the client is owed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from codexd.client.open_handles import OpenHandles
from codexd.client.open_turns import OpenTurns
from codexd.client.pauses import FIRST_S, Pauses, pause_after
from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub import jsonrpc, methods
from codexd.hub.jsonrpc import Fields, Message
from codexd.turn_record import begun_agents, items_of, record_of, tells_its_end, unended

# Ids of requests that are not the client's. A client that uses such ids itself is not served.
_OWN = "codexd-attach:"
_RESOLVED = "serverRequest/resolved"
_LAST_TURNS = {"limit": 2, "itemsView": "full"}
# The thread is gone for good (codex 0.163); whatever else a resume is refused for may pass.
_GONE = "no rollout found"
# So often a thread, or its turns, may be refused in a row before it is given up.
_REFUSALS = 30
# How long the server may take to write down how a turn ended.
_WRITTEN_S = 10.0
_UNHEARD = "The app-server ended before the turn had, or did not say how the turn ended."


class _Status(msgspec.Struct, frozen=True):
    type: str = ""


class _Id(msgspec.Struct, rename="camel", frozen=True):
    id: str = ""
    parent_thread_id: str | None = None


class _Params(msgspec.Struct, rename="camel", frozen=True):
    thread_id: str | None = None
    turn_id: str | None = None
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
class _Doubt:
    """A turn of which the server does not say for certain how it ended.

    ``waited_s`` is how long it was waited for that between what the server said, ``refusals`` how
    often in a row it was not even said.
    """

    pause_s: float = FIRST_S
    waited_s: float = 0.0
    refusals: int = 0

    def pause(self) -> float:
        """How long to wait now; nothing where that was long enough."""
        pause_s = min(self.pause_s, _WRITTEN_S - self.waited_s)
        self.waited_s += pause_s
        self.pause_s *= 2
        return pause_s


@dataclass(slots=True)
class _Thread:
    """A thread that the client listens to."""

    turns: OpenTurns = field(default_factory=OpenTurns)
    doubts: dict[str, _Doubt] = field(default_factory=dict)
    refusals: int = 0


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
        # What to ask once more: how a turn of a thread ended, or, without a turn, to have the
        # thread; without either it is the introduction.
        self._again: Pauses[tuple[str, str | None]] = Pauses()
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
        ) or any(thread.turns for thread in list(self._threads.values()))

    @property
    def next_at(self) -> float | None:
        """When :meth:`due` has something to ask, if nothing is said before."""
        return self._again.next_at

    def due(self, now: float) -> list[bytes]:
        """What the server is to be asked now once more. Call it after whatever was said."""
        asked = []
        for thread_id, turn_id in self._again.due(now):
            thread = self._threads.get(thread_id)
            if not thread_id:
                asked += self.reconnected()
            elif thread is not None and turn_id is None:
                asked.append(self._resume(thread_id))
            elif thread is not None and turn_id is not None and turn_id in thread.turns:
                asked.append(self._ask_again(thread_id, turn_id))
        return asked

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
        is_news = self._told(message)
        self._handles.told(message)
        return Sends(to_client=[data] if is_news else [])

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
            _joined(self._threads.setdefault(result.thread.id, _Thread()).turns, result)
        elif method in methods.SUBSCRIBING_BY_NAME and request.params(_Params).thread_id:
            self._threads.setdefault(request.params(_Params).thread_id, _Thread())
        elif method == "thread/unsubscribe":
            self._threads.pop(request.params(_Params).thread_id or "", None)
        elif method in methods.TURN_STARTING:
            thread_id = result.review_thread_id or request.params(_Params).thread_id
            if thread_id in self._threads:
                is_review = method == "review/start"
                self._threads[thread_id].turns.answered(result.turn.id, is_review=is_review)

    def _told(self, message: Message) -> bool:
        """The server tells something; False if the client knows it."""
        method = message.method or ""
        if method not in _NOTED:
            return True
        params: _Params = message.params(_Params)
        thread_id = params.thread_id or ""
        thread = self._threads.get(thread_id)
        if method == "thread/started":
            if params.thread.parent_thread_id in self._threads:
                self._threads.setdefault(params.thread.id, _Thread())
        elif method in _CLOSING:
            self._threads.pop(thread_id, None)
        elif thread is not None:
            for agent in begun_agents(params.item) if method == "item/completed" else ():
                self._threads.setdefault(agent, _Thread())
            return _told_of_turn(thread.turns, method, params)
        return True

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
        self._again.clear()
        for thread in self._threads.values():
            # The answer to its resume tells how its turns stand.
            thread.doubts.clear()
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
            self._again.add(("", None), FIRST_S)
            return Sends()
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
        return jsonrpc.request(decode_json(own_id, str), "thread/resume", params)

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
        resumed: _Result = answer.result(_Result)
        sends = Sends()
        for turn_id in thread.turns:
            sends.to_client += self._settle(thread_id, thread, turn_id, resumed)
        return sends

    def _settle(
        self, thread_id: str, thread: _Thread, turn_id: str, result: _Result
    ) -> list[bytes]:
        """A turn may be over: the client hears how, once that is certain, or was waited for."""
        record = record_of(turn_id, result.turns)
        # A review has another id on record until it ends, and a turn that has just begun none.
        unknown = "inProgress" if turn_id == thread.turns.last else None
        if result.thread.status.type == "active" and record.get("status", unknown) == "inProgress":
            thread.doubts.pop(turn_id, None)
            return []
        if tells_its_end(record):
            return self._end(thread_id, thread, turn_id, record)
        doubt = thread.doubts.setdefault(turn_id, _Doubt())
        doubt.refusals = 0
        if (pause_s := doubt.pause()) > 0:
            self._again.add((thread_id, turn_id), pause_s)
            return []
        # The server died before it had written the turn down, or its end.
        return self._end(thread_id, thread, turn_id, _cut(turn_id, record))

    def _ask_again(self, thread_id: str, turn_id: str) -> bytes:
        own_id = self._own_id()
        self._doubtful[own_id] = (thread_id, turn_id)
        id_ = decode_json(own_id, str)
        if self._is_experimental:
            params = {"threadId": thread_id, "sortDirection": "desc", **_LAST_TURNS}
            return jsonrpc.request(id_, "thread/turns/list", params)
        return jsonrpc.request(id_, "thread/read", {"threadId": thread_id, "includeTurns": True})

    def _told_again(self, thread_id: str, turn_id: str, answer: Message) -> Sends:
        thread = self._threads.get(thread_id)
        if thread is None or turn_id not in thread.turns:
            # The server itself has told its end meanwhile.
            return Sends()
        if "result" in answer.fields:
            result: _Result = answer.result(_Result)
            return Sends(to_client=self._settle(thread_id, thread, turn_id, result))
        doubt = thread.doubts.setdefault(turn_id, _Doubt())
        doubt.refusals += 1
        if _is_passing(answer, doubt.refusals):
            self._again.add((thread_id, turn_id), pause_after(doubt.refusals))
            return Sends()
        return Sends(to_client=self._end(thread_id, thread, turn_id, _cut(turn_id, {})))

    def _refused(self, thread_id: str, thread: _Thread, answer: Message) -> Sends:
        thread.refusals += 1
        if _is_passing(answer, thread.refusals):
            self._again.add((thread_id, None), pause_after(thread.refusals))
            return Sends()
        sends = Sends()
        for turn_id in thread.turns:
            sends.to_client += self._end(thread_id, thread, turn_id, _cut(turn_id, {}))
        del self._threads[thread_id]
        sends.to_client.append(jsonrpc.notification("thread/closed", {"threadId": thread_id}))
        return sends

    def _end(
        self, thread_id: str, thread: _Thread, turn_id: str, turn: dict[str, Any]
    ) -> list[bytes]:
        """What the client has missed of an open turn that is over, maybe by another id."""
        items = thread.turns.untold(turn_id, turn)
        thread.turns.ended(turn["id"])
        thread.doubts.pop(turn_id, None)
        common = {"threadId": thread_id, "turnId": turn["id"]}
        at_ms = {"completedAtMs": int((turn.get("completedAt") or 0) * 1000)}
        error = turn.get("error")
        failed = {**common, "error": error, "willRetry": False}
        return [
            *(
                jsonrpc.notification("item/completed", {**common, **at_ms, "item": item})
                for item in items
            ),
            *([jsonrpc.notification("error", failed)] if error is not None else []),
            jsonrpc.notification("turn/completed", {"threadId": thread_id, "turn": turn}),
        ]


def _joined(turns: OpenTurns, opened: _Result) -> None:
    """The client listens to a thread, on which a turn may run already."""
    if opened.thread.status.type != "active":
        return
    for turn in unended(opened.turns):
        turn_id = str(turn.get("id"))
        turns.began(turn_id)
        # The last one may go on.
        for item in items_of(turn)[:-1]:
            turns.item_ended(turn_id, item)


def _told_of_turn(turns: OpenTurns, method: str, params: _Params) -> bool:
    """The server tells something of a turn; False if the client knows it."""
    if method == "turn/completed":
        # The end of one may have been told from what is on record.
        return not params.turn.id or turns.ended(params.turn.id)
    if method == "turn/started":
        turns.began(params.turn.id)
    elif method == "item/completed":
        turns.item_ended(params.turn_id, params.item)
    return True


def _cut(turn_id: str, record: dict[str, Any]) -> dict[str, Any]:
    """A turn of whose end there is nothing on record, and never will be; as the hub tells one."""
    error = {"message": _UNHEARD, "codexErrorInfo": None, "additionalDetails": None}
    whole = {"items": [], "itemsView": "notLoaded", **record}
    return {**whole, "id": turn_id, "status": "interrupted", "error": record.get("error") or error}


def _is_passing(answer: Message, refusals: int) -> bool:
    """Whether a thread that was refused so often in a row may not be later."""
    return _GONE not in _error_text(answer) and refusals < _REFUSALS


def _error_text(answer: Message) -> str:
    try:
        return decode_json(answer.data, _Failed).error.message
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
