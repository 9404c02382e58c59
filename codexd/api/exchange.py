"""The HTTP side of a connection: requests in, answers out, one after the other (h11)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qsl

import h11

from codexd.api.http import (
    BODY_LIMIT,
    EVENT_STREAM,
    HEAD_LIMIT,
    JSON,
    NDJSON,
    Access,
    Answer,
    Head,
    Problem,
    Stream,
    problem_answer,
)
from codexd.api.table import Result

logger = logging.getLogger("codexd")

# Further requests of a client that does not wait for the answer to the first.
_AHEAD_BYTES: Final = 64 << 10
# How long a connection stays open after its last answer: no time for whoever reads to its end.
_LINGER_S: Final = 0.03
# The target of a request as it is sent to a proxy.
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
_SHOWN: Final = 100
# How long a client that is sent something may read nothing at all.
STALL_S: Final = 30.0


class HttpService(Protocol):
    """Who answers: see :class:`codexd.api.table.Table`."""

    def admit(self, head: Head) -> Access:
        """What whoever asks may do. Raises :class:`Problem` for who may not even ask."""

    def find(self, head: Head, access: Access) -> Callable[[bytes], Awaitable[Result]]:
        """What answers the request when it is called with its body. Raises :class:`Problem`."""


class Wire(Protocol):
    """What an exchange needs of its connection."""

    def write(self, data: bytes) -> None: ...
    def hold_reading(self, held: bool) -> None: ...
    def note_unfinished(self, held: int) -> None: ...
    def await_request(self, awaited: bool, timeout_s: float | None = None) -> None: ...
    def spoke(self) -> None: ...
    def rests(self) -> None: ...
    def require_room(self) -> None: ...
    @property
    def is_guest(self) -> bool: ...
    @property
    def unread(self) -> int: ...
    def finish(self) -> None: ...
    def cut_off(self) -> None: ...
    async def drained(self) -> None: ...


class Exchange:
    """All requests of one connection. ``wire`` is its connection, ``service`` answers them."""

    def __init__(self, wire: Wire, service: HttpService, *, stall_s: float = STALL_S) -> None:
        self._wire = wire
        self._service = service
        self._stall_s = stall_s
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._head: Head | None = None
        self._answer: Callable[[bytes], Awaitable[Result]] | None = None
        self._body = bytearray()
        self._ahead = 0
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        # Whether something may follow an answer that says that it is the last.
        self._lingers = False

    # -- for the connection --------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The client has sent something; no bytes: it sends no more."""
        if self._is_over:
            return
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError:
            # More, after the end of a connection: nobody waits for an answer.
            return
        if self._task is None:
            self._go_on()
        elif data:
            self._ahead += len(data)
            self._wire.hold_reading(self._ahead > _AHEAD_BYTES)

    def head_too_large(self) -> None:
        """What came is the beginning of a head that is too long."""
        text = f"The request head is longer than {HEAD_LIMIT} bytes."
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(Problem(status, "head-too-large", text))

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def too_late(self) -> None:
        """The client has taken too long over a request, or wants nothing more."""
        if self._head is None and not self._h11.trailing_data[0]:
            self._over()
            return
        text = "The request did not come whole in time."
        self._refuse(Problem(HTTPStatus.REQUEST_TIMEOUT, "request-timeout", text))

    def lost(self) -> None:
        """The connection is gone: nobody waits for the answer any more."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    # -- requests ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Take what has come, up to the end of a request."""
        try:
            while not self._is_over and self._task is None:
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                self.head_too_large()
                return
            self._refuse(not_understood(error))

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data):
            self._body += event.data
            self._wire.note_unfinished(len(self._body))
            if len(self._body) > BODY_LIMIT:
                self._refuse(_too_large())
        elif isinstance(event, h11.EndOfMessage):
            self._dispatch()
        elif isinstance(event, h11.ConnectionClosed):
            self._over()

    def _begin(self, request: h11.Request) -> None:
        """A head is there: whoever may not ask is told before anything more is read."""
        self._wire.await_request(True)
        if sum(len(name) + len(value) for name, value in request.headers) > HEAD_LIMIT:
            # h11 has a limit for what is not whole yet only.
            self.head_too_large()
            return
        self._head = head = head_of(request)
        asked = head.headers.get("connection", "").lower()
        self._lingers = request.http_version == b"1.1" and "close" not in asked
        self._body.clear()
        try:
            if head.headers.get("upgrade", "").strip().lower() == "websocket":
                text = "A WebSocket begins with the first request of its connection."
                raise Problem(HTTPStatus.BAD_REQUEST, "invalid-request", text)
            self._answer = self._service.find(head, self._service.admit(head))
            _check_body(head)
            if _takes_long(head):
                # Told before anything is begun.
                self._wire.require_room()
        except Problem as problem:
            if problem.delay_s:
                self._wire.await_request(False)
                self._wire.hold_reading(True)
                self._task = asyncio.get_running_loop().create_task(self._refuse_late(problem))
                return
            if _has_body(head):
                self._refuse(problem)
                return
            self._answer = functools.partial(_told, problem)
        if self._h11.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _dispatch(self) -> None:
        assert self._head is not None
        assert self._answer is not None
        self._wire.await_request(False)
        self._wire.note_unfinished(0)
        self._wire.spoke()
        body, self._body = bytes(self._body), bytearray()
        serving = self._serve(self._head, functools.partial(self._answer, body))
        self._task = asyncio.get_running_loop().create_task(serving)

    async def _serve(self, head: Head, answer: Callable[[], Awaitable[Result]]) -> None:
        try:
            result = await _answered(answer)
            if isinstance(result, Stream):
                await self._write_stream(head, result)
            else:
                self._write_answer(head, result)
                # What was not read is not added to by the next answer.
                await self._drained()
        except (h11.LocalProtocolError, ConnectionError):
            # It is gone, or its end of the connection is.
            self._over()
        except Exception:
            # In the middle of a stream nothing can be said any more; that it broke off can be seen.
            logger.exception("a stream could not be sent to its end")
            self._over()
        finally:
            self._task = self._head = None
        self._next()

    def _next(self) -> None:
        """One request is answered; the next may be there already."""
        if self._is_over:
            return
        has_ended = self._h11.trailing_data[1] or self._wire.is_guest
        if not has_ended and (self._h11.our_state, self._h11.their_state) == (h11.DONE, h11.DONE):
            self._h11.start_next_cycle()
            self._wire.await_request(True)
        elif not has_ended and self._lingers:
            # It was told that this is the end. Programs that do not look ask once more at once.
            self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
            self._wire.await_request(True, _LINGER_S)
        else:
            self._over()
            return
        self._lingers = False
        self._wire.rests()
        self._ahead = 0
        self._wire.hold_reading(False)
        self._go_on()

    async def _refuse_late(self, problem: Problem) -> None:
        await asyncio.sleep(problem.delay_s)
        self._task = None
        self._wire.hold_reading(False)
        self._refuse(problem)

    # -- answers -------------------------------------------------------------------------------

    def _refuse(self, problem: Problem) -> None:
        """Answer what was not read to its end, or not understood: nothing can follow it."""
        if self._is_over:
            return
        head = self._head or Head("GET", "", {})
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with contextlib.suppress(h11.LocalProtocolError):
                self._write_answer(head, problem_answer(problem), is_last=True)
        self._over()

    def _write_answer(self, head: Head, answer: Answer, *, is_last: bool = False) -> None:
        body = answer.encoded()
        headers = _headers(answer.headers, answer.media_type)
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            headers.append(("Content-Length", str(len(body))))
        if is_last or not self._stays(head):
            headers.append(("Connection", "close"))
        data = self._bytes(_response(answer.status, headers))
        if body and head.method != "HEAD":
            data += self._bytes(h11.Data(data=body))
        self._wire.write(data + self._bytes(h11.EndOfMessage()))

    async def _write_stream(self, head: Head, stream: Stream) -> None:
        try:
            self._wire.require_room()
        except Problem as problem:
            await stream.pieces.aclose()
            self._write_answer(head, problem_answer(problem))
            return
        headers = _headers(stream.headers, stream.media_type)
        # A proxy in between shall not collect it.
        headers.append(("X-Accel-Buffering", "no"))
        if not self._stays(head):
            headers.append(("Connection", "close"))
        self._send(_response(stream.status, headers))
        async with contextlib.aclosing(stream.pieces) as pieces:
            if head.method != "HEAD":
                async for piece in pieces:
                    self._send(h11.Data(data=piece))
                    await self._drained()
        self._send(h11.EndOfMessage())

    def _stays(self, head: Head) -> bool:
        """Whether the connection stays open after this answer.

        Where the client asks for it, or has sent more already. Else not: small programs read until
        the end, and would wait for it.
        """
        if "keep-alive" in head.headers.get("connection", "").lower():
            return True
        return bool(self._h11.trailing_data[0])

    async def _drained(self) -> None:
        """Wait for a client that reads more slowly, but not for one that does not read."""
        unread = self._wire.unread
        while True:
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._wire.drained()
                return
            except TimeoutError:
                if self._wire.unread < unread:
                    unread = self._wire.unread
                    continue
                self._is_over = True
                self._wire.cut_off()
                raise ConnectionError("the client does not read") from None

    def _bytes(self, event: h11.Event) -> bytes:
        return self._h11.send(event) or b""

    def _send(self, event: h11.Event) -> None:
        self._wire.write(self._bytes(event))

    def _over(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._wire.note_unfinished(0)
            self._wire.finish()


async def _answered(answer: Callable[[], Awaitable[Result]]) -> Result:
    """The answer, whatever happens on the way to it."""
    try:
        return await answer()
    except Problem as problem:
        return problem_answer(problem)
    except Exception:
        logger.exception("a request could not be answered")
        text = "codexd failed on this request; codexd.log says more."
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return problem_answer(Problem(status, "failed", text))


def _takes_long(head: Head) -> bool:
    """Whether the answer is asked to come piece by piece, or to wait for something."""
    if head.wants(JSON, EVENT_STREAM, NDJSON) != JSON:
        return True
    return any(name == "wait" for name, _ in parse_qsl(head.query))


async def _told(problem: Problem, body: bytes) -> Answer:
    del body
    return problem_answer(problem)


def _has_body(head: Head) -> bool:
    length = head.headers.get("content-length", "0")
    return length != "0" or "transfer-encoding" in head.headers


def _check_body(head: Head) -> None:
    """See that the body that is announced can be taken, before any of it is sent.

    Raises:
        Problem: it cannot.
    """
    if "transfer-encoding" in head.headers and "content-length" in head.headers:
        # RFC 9112, section 6.1: who is in between may take another end of it than is taken here.
        text = "A body has a `Content-Length` or a `Transfer-Encoding`, and not both."
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid-request", text)
    coding = head.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        text = f"A body is sent as it is, and not in the coding {coding[:_SHOWN]!a}."
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-coding",
            text,
            headers={"Accept-Encoding": "identity"},
            more={"field": "Content-Encoding"},
        )
    # h11 lets pass what is a number only.
    if int(head.headers.get("content-length", "0")) > BODY_LIMIT:
        raise _too_large()


def _too_large() -> Problem:
    text = f"The body is longer than {BODY_LIMIT} bytes."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", text)


def not_understood(error: h11.RemoteProtocolError) -> Problem:
    """400, in h11's words but for what it shows of the bytes.

    Also for a transfer coding that is not known (501 elsewhere): nothing failed here.
    """
    why = str(error).partition(": bytearray(")[0]
    text = f"This is no HTTP/1.1 request that can be understood: {why}."
    return Problem(HTTPStatus.BAD_REQUEST, "invalid-request", text)


def head_of(request: h11.Request) -> Head:
    """A request as its handler sees it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    target = request.target.decode("ascii")
    whole = _ABSOLUTE.fullmatch(target)
    if whole is not None:
        # RFC 9112, section 3.2.2: it is to be understood, and `Host` does not count then.
        headers["host"], target = whole[1], whole[2] if whole[2][:1] == "/" else f"/{whole[2]}"
    return Head(request.method.decode("ascii"), target, headers)


def _headers(more: Mapping[str, str], media_type: str) -> list[tuple[str, str]]:
    return [*{"Content-Type": media_type, "Cache-Control": "no-store", **more}.items()]


def _response(status: HTTPStatus, headers: list[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status.value, reason=status.phrase.encode(), headers=headers)
