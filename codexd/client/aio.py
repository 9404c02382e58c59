"""The client of a daemon for programs on asyncio: :class:`AsyncClient`, as :mod:`.sync` has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from codexd.client import calls
from codexd.client.address import Address
from codexd.client.calls import ApiCall, JsonObject
from codexd.client.errors import DaemonAbsent, DaemonAway, DaemonError, TurnUnknown
from codexd.client.run import LOOK_S, TurnStream, finished_of, passing_trouble, turn_body
from codexd.client.where import PATIENCE_S, RETRY_S, SILENT_S, Where
from codexd.client.wire import (
    EVENT_STREAM,
    Events,
    Exchange,
    decoded,
    gone,
    no_answer,
    refusal,
    target,
)
from codexd.contracts import Event, SessionPurpose, SessionStatus
from codexd.platform.peer import require_own_peer
from codexd.shapes import (
    RUNS,
    Approval,
    Change,
    ChangeKind,
    Decision,
    FinishedTurn,
    Input,
    Session,
    StartedThread,
    Turn,
    When,
)

_Answer = TypeVar("_Answer")

_READ_BYTES = 64 << 10


class AsyncClient:
    """A daemon, as a program on asyncio drives it: :class:`codexd.client.Client`, awaited.

    The arguments, the names and what is raised are the same; ``events`` is iterated with
    ``async for``.
    """

    def __init__(
        self,
        *,
        repo_root: str | None = None,
        state_dir: str | None = None,
        socket_path: str | None = None,
        url: str | None = None,
        token: str | None = None,
        ca_file: str | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> None:
        self._where = Where(repo_root, state_dir, socket_path, url, token, ca_file)
        self._timeout_s = timeout_s
        self.threads = AsyncThreads(self)
        self.child = AsyncChild(self)

    # -- the daemon ----------------------------------------------------------------------------

    async def status(self) -> JsonObject:
        """All that `codexd status --json` prints, and `hub`."""
        return await self._call(calls.status())

    async def metrics(self) -> str:
        """The metrics, as Prometheus reads them."""
        return (await self._body("GET", "/metrics")).decode()

    async def logs(self, stream: str = "stdout", *, lines: int | None = None) -> bytes:
        """The end of what the server wrote to `stdout` or `stderr`, byte for byte."""
        return await self._body("GET", target("/v1/logs/{}", stream, lines=lines))

    async def events(
        self,
        *,
        since: int | None = None,
        types: Sequence[str] = (),
        level: str | None = None,
        limit: int | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """The events after the number ``since``, the oldest first; of these types and this level.

        With ``follow`` it goes on with those to come, past deaths of plugin and daemon, and none is
        lost or comes twice.
        """
        last, left, is_known = since, limit, False
        while left is None or left > 0:
            path = calls.events(last, types, level, left, follow)
            try:
                async with contextlib.aclosing(self._stream("GET", path)) as pieces:
                    events = Events()
                    async for data in pieces:
                        is_known = True
                        for _, text in events.feed(data):
                            event = decoded(text, Event)
                            last = event.seq
                            left = None if left is None else left - 1
                            yield event
                if not follow:
                    return
            except DaemonAway:
                if not (follow and is_known):
                    raise
            await asyncio.sleep(RETRY_S)

    # -- sessions ------------------------------------------------------------------------------

    async def sessions(
        self,
        *,
        status: SessionStatus | None = None,
        purpose: SessionPurpose | None = None,
        thread: str | None = None,
    ) -> list[Session]:
        """The sessions, the newest first."""
        found: list[Session] = []
        after: str | None = None
        while True:
            page = await self._call(calls.sessions(status, purpose, thread, after))
            found += page.sessions
            if page.next is None:
                return found
            after = page.next

    async def session(self, session_id: str) -> Session:
        """One session."""
        return await self._call(calls.session(session_id))

    async def open_session(
        self,
        purpose: SessionPurpose = "worker",
        *,
        metadata: Mapping[str, str] | None = None,
        thread: str | None = None,
    ) -> Session:
        """Register a session; with a thread, take that up."""
        return await self._call(calls.open_session(purpose, metadata, thread))

    async def close_session(self, session_id: str) -> Session:
        """Close a session."""
        return await self._call(calls.close_session(session_id))

    # -- approvals -----------------------------------------------------------------------------

    async def approvals(self, *, thread: str | None = None) -> list[Approval]:
        """What waits for an answer, the oldest first."""
        found: list[Approval] = []
        after: str | None = None
        while True:
            page = await self._call(calls.approvals(thread, after))
            found += page.approvals
            if page.next is None:
                return found
            after = page.next

    async def decide(self, approval_id: str, decision: Decision) -> None:
        """Answer an approval: `accept`, `decline` and what else its kind takes."""
        await self._call(calls.decide(approval_id, decision))

    # -- turns ---------------------------------------------------------------------------------

    async def run(
        self,
        prompt: Input,
        *,
        thread: str | None = None,
        cwd: str | None = None,
        model: str | None = None,
        output_schema: JsonObject | None = None,
        on_start: Callable[[str], None] | None = None,
        on_event: Callable[[JsonObject], None] | None = None,
        on_break: Callable[[DaemonError], None] | None = None,
    ) -> FinishedTurn:
        """Run a turn to its end, on ``thread`` or on a new one.

        ``on_start`` hears the turn's id once it runs: where one runs on the thread already, codex
        has that take up the prompt. ``on_event`` hears each of the protocol's notifications as it
        comes. A turn whose server dies comes back as `interrupted`; over a death of the plugin it
        is waited for, and what it tells meanwhile is not heard; ``on_break`` hears of that, and
        why.

        Raises:
            TurnUnknown: the daemon went away before it said whether the turn runs.
        """
        thread_id = thread or (await self.threads.start(cwd=cwd, model=model)).thread_id
        body = turn_body(
            prompt,
            cwd=cwd if thread else None,
            model=model if thread else None,
            outputSchema=output_schema,
        )
        stream = TurnStream(on_start)
        try:
            async with contextlib.aclosing(
                self._stream("POST", calls.turns(thread_id), body, stream.began)
            ) as pieces:
                async for data in pieces:
                    for notification in stream.feed(data):
                        if on_event is not None:
                            on_event(notification)
        except DaemonAbsent:
            raise
        except DaemonAway as error:
            if stream.turn_id is None:
                raise TurnUnknown(
                    f"{error} Whether the turn runs is not known: look at thread {thread_id}."
                ) from error
            if on_break is not None:
                on_break(error)
        if stream.finished is not None and stream.finished.status != RUNS:
            return stream.finished
        return await self.wait(thread_id, stream.turn_id or "")

    async def wait(self, thread_id: str, turn_id: str) -> FinishedTurn:
        """Wait for the end of a turn; the daemon may be away for a while."""
        while True:
            with passing_trouble():
                finished = finished_of(await self.turn(thread_id, turn_id))
                if finished is not None:
                    return finished
            await asyncio.sleep(LOOK_S)

    async def turn(self, thread_id: str, turn_id: str) -> Turn:
        """A turn with its items."""
        return await self._call(calls.turn(thread_id, turn_id))

    async def interrupt(self, thread_id: str, turn_id: str) -> None:
        """Interrupt a turn."""
        await self._call(calls.interrupt(thread_id, turn_id))

    async def steer(self, thread_id: str, turn_id: str, prompt: Input) -> None:
        """Tell the agent something while it works."""
        await self._call(calls.steer(thread_id, turn_id, prompt))

    # -- how it is asked -----------------------------------------------------------------------

    async def _call(self, call: ApiCall[_Answer], *, timeout_s: float | None = None) -> _Answer:
        data = await self._body(call.method, call.path, call.body, timeout_s=timeout_s)
        return decoded(data, call.answer)

    async def _body(
        self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None
    ) -> bytes:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        pieces = _answer(self._where.address(), method, path, body, None, timeout_s)
        return b"".join([piece async for piece in pieces])

    def _stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        began: Callable[[str], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        where = self._where.address()
        return _answer(where, method, path, body, EVENT_STREAM, self._timeout_s, began)


class AsyncThreads:
    """The server's threads."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(
        self, *, limit: int = 50, cwd: str | None = None, archived: bool = False
    ) -> list[JsonObject]:
        """So many threads, the newest first, as the server describes them."""
        found: list[JsonObject] = []
        after: str | None = None
        while len(found) < limit:
            call = calls.threads(min(limit - len(found), 100), after, cwd, archived)
            page = await self._client._call(call)
            found += page.threads
            after = page.next
            if after is None:
                break
        return found

    async def get(self, thread_id: str) -> JsonObject:
        """One thread with its turns."""
        return await self._client._call(calls.thread(thread_id))

    async def start(
        self,
        *,
        cwd: str | None = None,
        model: str | None = None,
        approval_policy: str | JsonObject | None = None,
        sandbox: str | None = None,
        config: JsonObject | None = None,
        purpose: SessionPurpose | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> StartedThread:
        """Start a thread; what is not given is as the server has it configured."""
        body = calls.given(
            cwd=cwd,
            model=model,
            approvalPolicy=approval_policy,
            sandbox=sandbox,
            config=config,
            purpose=purpose,
            metadata=metadata and dict(metadata),
        )
        return await self._client._call(calls.start_thread(body))


class AsyncChild:
    """The server that the daemon supervises."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def start(self, *, wait_s: float = 0) -> Change:
        """Start it, where it was stopped."""
        return await self._change("start", "now", None, wait_s)

    async def stop(
        self, *, when: When = "drained", timeout_ms: int | None = None, wait_s: float = 0
    ) -> Change:
        """Stop it; `now` cuts its turns, `drained` lets them end, `idle` waits until none runs."""
        return await self._change("stop", when, timeout_ms, wait_s)

    async def restart(
        self, *, when: When = "drained", timeout_ms: int | None = None, wait_s: float = 0
    ) -> Change:
        """Start it anew; ``when`` as for :meth:`stop`. ``wait_s`` is how long to wait for it."""
        return await self._change("restart", when, timeout_ms, wait_s)

    async def _change(
        self, kind: ChangeKind, when: When, timeout_ms: int | None, wait_s: float
    ) -> Change:
        call = calls.change(kind, when, timeout_ms, wait_s)
        return await self._client._call(call, timeout_s=self._client._timeout_s + wait_s)


async def _answer(
    address: Address,
    method: str,
    path: str,
    body: Any,
    accept: str | None,
    timeout_s: float,
    began: Callable[[str], None] | None = None,
) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer's body, as they come; ``began`` hears where it says to look."""
    exchange = Exchange(address, method, path, body, accept=accept)
    reader, writer = await _connected(address, timeout_s)
    problem = b""
    try:
        writer.write(exchange.request)
        while not exchange.is_over:
            async with asyncio.timeout(timeout_s):
                data = await reader.read(_READ_BYTES)
            piece = exchange.feed(data)
            if began is not None and exchange.location is not None:
                began(exchange.location)
                began = None
            if exchange.is_refused:
                problem += piece
            elif piece:
                if accept is not None:
                    # A stream that lives says so from time to time.
                    timeout_s = SILENT_S
                yield piece
    except TimeoutError as error:
        text = f"The daemon at {address.name} has said nothing for too long."
        raise DaemonAway(text) from error
    except OSError as error:
        raise DaemonAway(gone(address, error)) from error
    finally:
        writer.close()
    if exchange.is_refused:
        raise refusal(exchange.status, problem)


async def _connected(
    address: Address, timeout_s: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(timeout_s):
            if address.socket_path is None:
                return await _connected_over_tcp(address)
            reader, writer = await asyncio.open_unix_connection(address.socket_path)
    except OSError as error:
        raise DaemonAbsent(no_answer(address, error)) from error
    try:
        require_own_peer(writer.get_extra_info("socket"))
    except OSError as error:
        writer.close()
        raise DaemonAbsent(no_answer(address, error)) from error
    return reader, writer


async def _connected_over_tcp(
    address: Address,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not address.is_tls:
        return await asyncio.open_connection(address.host, address.port)
    import ssl

    context = ssl.create_default_context(cafile=address.ca_file)
    return await asyncio.open_connection(address.host, address.port, ssl=context)
