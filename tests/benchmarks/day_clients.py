"""Those who use a daemon all day: each end is one socket of :mod:`tests.benchmarks.day_crowd`."""

from __future__ import annotations

import json
import re
import selectors
import socket
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tests.benchmarks.raw_client import FIN_TEXT, PING, PONG, RawClient, first_frame, masked

_READ: Final = 1 << 18
# Sessions that a client has open at a time.
AT_ONCE: Final = 16
# Every other client leaves after so many, and another comes.
_SESSIONS_OF_GUEST: Final = 100
# One session of so many has no thread, and is opened and closed over HTTP.
_HTTP_EACH: Final = 10
_STALLED_S: Final = 120.0
_GONE: Final = ("thread/archived", "thread/closed")
_ID: Final = re.compile(rb"(?:^|\n)id: (\d+)\n")
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


class _Turn(msgspec.Struct, frozen=True):
    id: str = ""


class _Thread(msgspec.Struct, frozen=True):
    id: str = ""


class _Params(msgspec.Struct, frozen=True, rename="camel"):
    thread_id: str = ""
    turn: _Turn = _Turn()


class _Result(msgspec.Struct, frozen=True):
    thread: _Thread = _Thread()
    turn: _Turn = _Turn()


class _Message(msgspec.Struct):
    id: int | None = None
    method: str | None = None
    params: _Params = _Params()
    result: _Result | None = None


_decode: Final = msgspec.json.Decoder(_Message).decode
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Day:
    """What a day is to have, and what it had. An event is what events.jsonl has a line for."""

    sessions: int
    restarts: int
    events: int
    begun: int = 0
    over_http: int = 0
    over: int = 0
    turns: int = 0
    restarted: int = 0
    killed: int = 0
    recorded: int = 0
    is_paused: bool = False

    @property
    def progress(self) -> float:
        """How much of the day is over, from 0 to 1."""
        return min(self.over / self.sessions, 1.0)

    @property
    def turns_each(self) -> float:
        """Turns that a session has, for there to be as many events: each is two of them."""
        with_threads = self.sessions * (1 - 1 / _HTTP_EACH)
        return max(self.events - 2 * self.sessions, 0) / 2 / with_threads

    @property
    def is_done(self) -> bool:
        """Whether there was all of it."""
        is_told = self.recorded >= self.events and self.restarted >= self.restarts
        return self.over >= self.sessions and is_told

    @property
    def wants_more(self) -> bool:
        """Whether another session is to begin."""
        return not self.is_paused and not self.is_done


@dataclass(slots=True)
class _Session:
    turns: int
    thread: str = ""
    turn: str = ""
    step: str = "thread/start"


class Client(RawClient):
    """Many sessions at a time on one connection; ``is_guest``: only so many, and then it leaves."""

    def __init__(self, path: str, day: Day, *, is_guest: bool) -> None:
        super().__init__(path)
        self._day = day
        self._left = _SESSIONS_OF_GUEST if is_guest else None
        self._asked: dict[int, _Session] = {}
        self._threads: dict[str, _Session] = {}
        self._out: list[bytes] = []
        self._due = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it has had all of its sessions."""
        return self._left == 0 and not self.open

    @property
    def open(self) -> int:
        """How many sessions are not over."""
        starting = sum(one.step == "thread/start" for one in self._asked.values())
        return starting + len(self._threads)

    def begin(self) -> None:
        """Open as many as there may be."""
        while self._day.wants_more and self._left != 0 and self.open < AT_ONCE:
            self._left = None if self._left is None else self._left - 1
            self._day.begun += 1
            self._due += self._day.turns_each
            turns = int(self._due)
            self._due -= turns
            self._ask(_Session(turns), {})
        self._send()

    def readable(self) -> None:
        """Take what came, and go on with each session."""
        data, begin = self._rest + self._read(), 0
        while (end := _frame_end(data, begin)) is not None:
            opcode, payload = data[begin], data[end[0] : end[1]]
            begin = end[1]
            if opcode == FIN_TEXT:
                self._take(_decode(payload))
            elif opcode == PING:
                self._out.append(masked(payload, PONG))
            else:
                raise ConnectionError(f"a frame that begins with {opcode:#x}")
        self._rest = data[begin:]
        self.begin()

    def _take(self, message: _Message) -> None:
        if message.id is not None:
            session = self._asked.pop(message.id, None)
            if session is not None:
                self._answered(session, message.result)
        elif message.method == "turn/completed":
            session = self._threads.get(message.params.thread_id)
            if session is not None and session.turn == message.params.turn.id:
                self._turn_over(session)
        elif message.method in _GONE:
            self._day.over += self._threads.pop(message.params.thread_id, None) is not None

    def _answered(self, session: _Session, result: _Result | None) -> None:
        """Where it was refused, for its server has died over it, it is asked for again."""
        if session.step == "thread/start":
            if result is not None:
                session.thread = result.thread.id
                self._threads[session.thread] = session
            self._next(session)
        elif session.step == "turn/start":
            if result is None:
                self._turn_over(session)
            else:
                session.turn = result.turn.id
        elif result is None and session.thread in self._threads:
            self._next(session)

    def _turn_over(self, session: _Session) -> None:
        session.turns -= 1
        session.turn = ""
        self._day.turns += 1
        self._next(session)

    def _next(self, session: _Session) -> None:
        named = {"threadId": session.thread}
        if not session.thread:
            self._ask(session, {})
        elif session.turns > 0:
            session.step = "turn/start"
            self._ask(session, {**named, "input": [{"type": "text", "text": "Go on."}]})
        else:
            session.step = "thread/archive"
            self._ask(session, named)

    def _ask(self, session: _Session, params: dict[str, Any]) -> None:
        self._count += 1
        self._asked[self._count] = session
        message = {"id": self._count, "method": session.step, "params": params}
        self._out.append(masked(_encode(message)))

    def _send(self) -> None:
        if self._out:
            data, self._out = b"".join(self._out), []
            self.socket.sendall(data)


def _frame_end(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at ``at`` begins and ends; None while it is not whole."""
    if len(data) < at + 10:
        # A shorter one is at the end of what came, or is not whole.
        found = first_frame(data[at:])
        return None if found is None else (at + found[1], at + found[2])
    size, begin = data[at + 1], at + 2
    if size == 126:
        size, begin = int.from_bytes(data[begin : begin + 2]), begin + 2
    elif size == 127:
        size, begin = int.from_bytes(data[begin : begin + 8]), begin + 8
    return (begin, begin + size) if len(data) >= begin + size else None


class Http:
    """A connection for requests one after the other, made for the first of them.

    One that waits for its next request for long is cut off, so whoever pauses hangs up.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = b""
        self._connected: socket.socket | None = None

    def send(self, method: str, target: str, body: str = "", accept: str = "*/*") -> None:
        """One request."""
        connected = self._connected or self._connect()
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
        head += f"Connection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n"
        connected.sendall((head + body).encode())

    def _connect(self) -> socket.socket:
        self._connected = connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(_STALLED_S)
        connected.connect(self._path)
        return connected

    def read(self) -> bytes:
        """What can be read now, behind what was left."""
        assert self._connected is not None
        data = self._connected.recv(_READ)
        if not data:
            raise ConnectionResetError("the daemon has hung up")
        return self._rest + data

    def answers(self) -> list[tuple[int, bytes]]:
        """Status and body of the answers that are whole by now."""
        self._rest, found = self.read(), []
        while (begin := self._rest.find(b"\r\n\r\n") + 4) > 3:
            told = _LENGTH.search(self._rest[:begin])
            end = begin + (int(told[1]) if told else 0)
            if len(self._rest) < end:
                break
            found.append((int(self._rest[9:12]), self._rest[begin:end]))
            self._rest = self._rest[end:]
        return found

    def ask(self, method: str, target: str, body: str = "") -> bytes:
        """Ask, and wait for the answer; it is one that does what was asked."""
        self.send(method, target, body)
        while not (answers := self.answers()):
            pass
        status, answer = answers[0]
        if status >= 400:
            raise RuntimeError(f"{method} {target}: {status} {answer.decode(errors='replace')}")
        return answer

    def hang_up(self) -> None:
        """No more for now."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None


class HttpEnd(Http):
    """One of a loop: its selector knows it while it is connected."""

    def __init__(self, path: str, day: Day, selector: selectors.BaseSelector) -> None:
        super().__init__(path)
        self._day = day
        self._selector = selector

    def _connect(self) -> socket.socket:
        connected = super()._connect()
        self._selector.register(connected, selectors.EVENT_READ, self)
        return connected

    def hang_up(self) -> None:
        """No more for now."""
        if self._connected is not None:
            self._selector.unregister(self._connected)
        super().hang_up()

    def readable(self) -> None:
        """There is something to read."""
        raise NotImplementedError


class HttpClient(HttpEnd):
    """Sessions without a thread, one after the other, each on a connection of its own."""

    open = 0

    def begin(self) -> None:
        """Open one, where it is time for one."""
        is_due = self._day.begun >= self._day.over_http * _HTTP_EACH
        if not self.open and self._day.wants_more and is_due:
            self.open = 1
            self._day.begun += 1
            self._day.over_http += 1
            self.send("POST", "/v1/sessions", '{"purpose":"worker"}')

    def readable(self) -> None:
        """Close the one that was opened."""
        for status, body in self.answers():
            if status == 201:
                self.send("DELETE", f"/v1/sessions/{json.loads(body)['sessionId']}")
            elif status == 200:
                self.hang_up()
                self.open = 0
                self._day.over += 1
            else:
                raise RuntimeError(f"a session over HTTP: {status} {body!r}")


class Follower(HttpEnd):
    """Follows the events; ``lost`` is how many it was not told of."""

    lost = 0

    def begin(self) -> None:
        """From now on."""
        self.send("GET", "/v1/events?since=0", accept="text/event-stream")

    def readable(self) -> None:
        """Count what came."""
        data = self.read()
        whole = data.rfind(b"\n\n")
        for found in _ID.findall(data[: whole + 1]):
            self.lost += int(found) - self._day.recorded - 1
            self._day.recorded = int(found)
        self._rest = data[whole + 1 :]
