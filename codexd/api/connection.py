"""One connection: a request head tells whether it goes on as a WebSocket or as HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

import h11

from codexd.api.exchange import Exchange, HttpService, head_of, not_understood
from codexd.api.http import HEAD_LIMIT, Access, Answer, Head, Problem, problem_answer
from codexd.api.table import check_access
from codexd.api.websocket import Cork, HubAdapter, Upgrade, WebSocket
from codexd.wire.unfinished import Unfinished

# Lines that end without a carriage return are for HTTP alone.
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_HEAD_END_BYTES: Final = 3
# What no request begins with, and no more of it need be waited for: TLS, for one.
_CONTROLS: Final = bytes(range(0x21))
# What one connection may read in one turn of the loop: a client that floods does not hold up the
# others.
_READ_BYTES: Final = 64 << 10
# How long a client has to take a farewell.
_CLOSE_S: Final = 2.0

_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)

# Shared: asyncio fills it and hands it over in one go, so idle connections need none.
_BUFFER = memoryview(bytearray(_READ_BYTES))


class Owner(Protocol):
    """What a connection needs of the server."""

    @property
    def backlog_bytes(self) -> int: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def head_timeout_s(self) -> float: ...
    @property
    def unfinished(self) -> Unfinished: ...
    @property
    def cork(self) -> Cork: ...
    @property
    def adapter(self) -> HubAdapter: ...

    def made(self, connection: Connection) -> bool: ...
    def require_room(self, connection: Connection) -> None: ...
    def is_guest(self, connection: Connection) -> bool: ...
    def spoke(self, connection: Connection) -> None: ...
    def rests(self, connection: Connection) -> None: ...
    def cut(self, client: int | None, unread: int) -> None: ...
    def gone(self, connection: Connection) -> None: ...


class Visitor(HttpService, Protocol):
    """Who is at the other end of a connection, and who answers it."""

    def comes(self, connection: Connection) -> None:
        """The connection is about to be made; it may be aborted from now on."""

    def may_stay(self, connected: socket.socket) -> bool:
        """Whether it may say anything at all. Raises :class:`OSError` where nobody knows."""

    def left(self) -> None:
        """The connection is gone, or was never made; called once."""


class Connection(asyncio.BufferedProtocol):
    """Bytes between asyncio and one side or the other, with the limits that are common to both."""

    def __init__(self, owner: Owner, visitor: Visitor) -> None:
        self._owner = owner
        self._service: HttpService = visitor
        self._visitor = visitor
        self._accepted: socket.socket | None = None
        self._cancel: Callable[[], object] | None = None
        self._is_made = False
        self._is_refused = False
        self._loop = asyncio.get_running_loop()
        self._head = bytearray()
        self._exchange: Exchange | None = None
        self._socket: WebSocket | None = None
        self._ending = False
        self._has_heard_all = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        # Whether the client has left unread more than the transport's limit: of a WebSocket,
        # anything at all.
        self.is_behind = False
        self._may_write = asyncio.Event()
        self._may_write.set()

    # -- for the server ------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Say farewell; what the client still sends is not heard."""
        if self._socket is not None:
            self._socket.close(code, reason)
        elif self._exchange is not None and self._exchange.is_busy:
            self._exchange.lost()
            self.finish()
        elif self._transport is not None:
            self._transport.close()

    def drop_unfinished(self) -> None:
        """All clients together have sent too much that is not whole, and this one the most."""
        if self._socket is not None:
            self._socket.drop_unfinished()
        else:
            self.abort()

    def begins(self, accepted: socket.socket, cancel: Callable[[], object]) -> None:
        """It is being made; ``cancel()`` breaks that off."""
        self._accepted = accepted
        self._cancel = cancel
        self._visitor.comes(self)

    def is_over_if_not_made(self) -> bool:
        """Nobody makes it any more: whether it is over by that."""
        self._cancel = None
        if self._is_made:
            return False
        self._visitor.left()
        return True

    def abort(self) -> None:
        """Break off at once."""
        if self._transport is not None:
            self._transport.abort()
        elif self._cancel is not None:
            self._cancel()

    @property
    def visitor(self) -> Visitor:
        """Who is at the other end."""
        return self._visitor

    @property
    def descriptor(self) -> int:
        """The number of its open file; -1 where it is closed."""
        return -1 if self._accepted is None else self._accepted.fileno()

    @property
    def is_silent(self) -> bool:
        """Whether nothing is on its way, neither here nor there: its end takes nothing away."""
        if self._accepted is None or self.unread:
            return False
        try:
            # Data, or the end: it is heard in this turn of the loop.
            self._accepted.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def transport(self) -> asyncio.Transport | None:
        """asyncio's end of the connection; None once it is lost."""
        return self._transport

    # -- for asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # As asyncio's own declares it; uvloop's is none by class.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._is_made = True
        if not self._owner.made(self):
            transport.abort()
            return
        self.await_request(True)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_BUFFER[:nbytes])
        if self._socket is not None:
            self._socket.feed(data)
        elif self._exchange is not None:
            self._exchange.feed(data)
        elif not (self._ending or self._is_refused):
            self._take_head(data)

    def eof_received(self) -> bool:
        if self._socket is not None:
            self._socket.ended()
            return False
        self._has_heard_all = True
        if self._exchange is not None:
            self._exchange.feed(b"")
            # Whoever sends no more can still read the answer; not so under TLS.
            may_answer = self._transport is not None and self._transport.can_write_eof()
            return may_answer and not self._ending
        return False

    def pause_writing(self) -> None:
        self.is_behind = True
        self._may_write.clear()

    def resume_writing(self) -> None:
        self.is_behind = False
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._may_write.set()
        self._owner.unfinished.note(self, 0)
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.lost()
        if self._socket is not None:
            self._socket.lost()
        self._visitor.left()
        self._owner.gone(self)

    # -- the first request ---------------------------------------------------------------------

    def _take_head(self, data: bytes) -> None:
        # The end may lie across two reads.
        start = max(0, len(self._head) - _HEAD_END_BYTES + 1)
        self._head += data
        end = _HEAD_END.search(self._head, start)
        is_none = self._head[:1] in _CONTROLS
        if end is None and len(self._head) <= HEAD_LIMIT and not is_none:
            return
        head, self._head = bytes(self._head), bytearray()
        is_short = end is not None and end.start() - 1 <= HEAD_LIMIT
        if end is not None and is_short and _UPGRADE.search(head, 0, end.start() + 1):
            self._upgrade(head[: end.end()], head[end.end() :])
            return
        self._exchange = Exchange(self, self._service)
        if not (is_short or is_none):
            self._exchange.head_too_large()
        else:
            self._exchange.feed(head)

    def _upgrade(self, head: bytes, after: bytes) -> None:
        try:
            check_access(Access.ADMIN, self._service.admit(_parsed(head)))
            self._owner.require_room(self)
            upgrade = Upgrade(head, self._owner.max_message_bytes)
        except Problem as problem:
            self._refuse_upgrade(problem)
            return
        self.await_request(False)
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)
        self._socket = WebSocket(self, upgrade, self._owner.adapter)
        if after:
            self._socket.feed(after)

    def _refuse_upgrade(self, problem: Problem) -> None:
        answer = problem_answer(problem)
        self.await_request(False)
        self._is_refused = True
        if problem.delay_s:
            self._timer = self._loop.call_later(problem.delay_s, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        """To a request for a WebSocket that is none."""
        body = answer.encoded()
        headers = {
            "Content-Type": answer.media_type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        self.finish()

    # -- for the two sides (Wire) --------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """How much a client may leave unread."""
        return self._owner.backlog_bytes

    @property
    def cork(self) -> Cork:
        """What has several messages leave in one write."""
        return self._owner.cork

    @property
    def unread(self) -> int:
        """How much it has left unread."""
        if self._transport is None or (self._socket is not None and not self.is_behind):
            return 0
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_end(self) -> None:
        """Send no more; the client is given a moment to do the same."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if self._has_heard_all or not transport.can_write_eof():
                # Both have said all they have: it takes up a file no longer.
                transport.close()
                return
            with contextlib.suppress(OSError):
                transport.write_eof()
            self._end_soon()

    def finish(self) -> None:
        """Nothing follows. Half closed: a client that is still sending can read what was said."""
        if self._socket is None:
            self.write_end()
        self._end_soon()

    def cut_off(self) -> None:
        """The client does not read."""
        client = None if self._socket is None else self._socket.client
        self._owner.cut(client, self.unread)
        self.abort()

    async def drained(self) -> None:
        """Wait until the client has read most of what was sent.

        Raises:
            ConnectionError: it is gone.
        """
        await self._may_write.wait()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the client is gone")

    def hold_reading(self, held: bool) -> None:
        """Read no more for now, or again."""
        if self._transport is None:
            return
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def note_unfinished(self, held: int) -> None:
        """So much is held of a message that is not whole."""
        self._owner.unfinished.note(self, held)

    def handle_soon(self) -> None:
        """Go on with what came in the loop's next turn."""
        if self._socket is not None:
            self._loop.call_soon(self._socket.handle_some)

    def spoke(self) -> None:
        """The client has sent a message."""
        self._owner.spoke(self)

    def rests(self) -> None:
        """The client has its answer, and asks for nothing more yet."""
        self._owner.rests(self)

    @property
    def is_guest(self) -> bool:
        """Whether it cannot stay: see :mod:`.listener`."""
        return self._owner.is_guest(self)

    def require_room(self) -> None:
        """See that it can stay.

        Raises:
            Problem: it cannot.
        """
        self._owner.require_room(self)

    def await_request(self, awaited: bool, timeout_s: float | None = None) -> None:
        """A request is to come whole in time; or none is awaited."""
        if self._ending:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if awaited:
            timeout_s = self._owner.head_timeout_s if timeout_s is None else timeout_s
            self._timer = self._loop.call_later(timeout_s, self._too_late)

    def _too_late(self) -> None:
        if self._exchange is not None:
            self._exchange.too_late()
        elif self._head and self._transport is not None:
            self._exchange = Exchange(self, self._service)
            self._exchange.too_late()
        else:
            self.abort()

    def _end_soon(self) -> None:
        # Once only: a client that goes on sending does not put off its end.
        if self._ending:
            return
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_CLOSE_S, self.abort)
        self._owner.rests(self)


def _parsed(head: bytes) -> Head:
    """The head of a request for a WebSocket, of which codex asks less than HTTP does."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
    is_named = b"\r\nhost:" in head.lower()
    data = head if is_named else head[:-2] + b"Host: localhost\r\n\r\n"
    try:
        parser.receive_data(data)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise not_understood(error) from error
    assert isinstance(event, h11.Request)
    found = head_of(event)
    if not is_named:
        headers = {name: value for name, value in found.headers.items() if name != "host"}
        return Head(found.method, found.target, headers)
    return found
