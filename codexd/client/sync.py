"""The client of a daemon for programs that wait: :class:`Client`."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
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


class Client:
    """A daemon, as a program drives it. Each call makes a connection of its own.

    Without arguments it is the daemon that the commands would find from the working directory;
    ``repo_root`` or ``state_dir`` name another, ``socket_path`` its socket. ``url`` with ``token``
    is one that listens on TCP, ``ca_file`` the certificates to trust there. ``timeout_s`` is how
    long an answer may keep one waiting; a server that is away is waited for by the daemon itself.

    Every call raises :class:`~codexd.client.errors.DaemonError`: ``DaemonAway`` where nobody
    answers, ``Refused`` where the daemon says no.
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
        self.threads = Threads(self)
        self.child = Child(self)

    # -- the daemon ----------------------------------------------------------------------------

    def status(self) -> JsonObject:
        """All that `codexd status --json` prints, and `hub`."""
        return self._call(calls.status())

    def metrics(self) -> str:
        """The metrics, as Prometheus reads them."""
        return self._body("GET", "/metrics").decode()

    def logs(self, stream: str = "stdout", *, lines: int | None = None) -> bytes:
        """The end of what the server wrote to `stdout` or `stderr`, byte for byte."""
        return self._body("GET", target("/v1/logs/{}", stream, lines=lines))

    def events(
        self,
        *,
        since: int | None = None,
        types: Sequence[str] = (),
        level: str | None = None,
        limit: int | None = None,
        follow: bool = False,
    ) -> Generator[Event, None, None]:
        """The events after the number ``since``, the oldest first; of these types and this level.

        With ``follow`` it goes on with those to come, past deaths of plugin and daemon, and none is
        lost or comes twice.
        """
        last, left, is_known = since, limit, False
        while left is None or left > 0:
            path = calls.events(last, types, level, left, follow)
            try:
                with contextlib.closing(self._stream("GET", path)) as pieces:
                    events = Events()
                    for data in pieces:
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
            time.sleep(RETRY_S)

    # -- sessions ------------------------------------------------------------------------------

    def sessions(
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
            page = self._call(calls.sessions(status, purpose, thread, after))
            found += page.sessions
            if page.next is None:
                return found
            after = page.next

    def session(self, session_id: str) -> Session:
        """One session."""
        return self._call(calls.session(session_id))

    def open_session(
        self,
        purpose: SessionPurpose = "worker",
        *,
        metadata: Mapping[str, str] | None = None,
        thread: str | None = None,
    ) -> Session:
        """Register a session; with a thread, take that up."""
        return self._call(calls.open_session(purpose, metadata, thread))

    def close_session(self, session_id: str) -> Session:
        """Close a session."""
        return self._call(calls.close_session(session_id))

    # -- approvals -----------------------------------------------------------------------------

    def approvals(self, *, thread: str | None = None) -> list[Approval]:
        """What waits for an answer, the oldest first."""
        found: list[Approval] = []
        after: str | None = None
        while True:
            page = self._call(calls.approvals(thread, after))
            found += page.approvals
            if page.next is None:
                return found
            after = page.next

    def decide(self, approval_id: str, decision: Decision) -> None:
        """Answer an approval: `accept`, `decline` and what else its kind takes."""
        self._call(calls.decide(approval_id, decision))

    # -- turns ---------------------------------------------------------------------------------

    def run(
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
        thread_id = thread or self.threads.start(cwd=cwd, model=model).thread_id
        body = turn_body(
            prompt,
            cwd=cwd if thread else None,
            model=model if thread else None,
            outputSchema=output_schema,
        )
        stream = TurnStream(on_start)
        try:
            answer = self._stream("POST", calls.turns(thread_id), body, stream.began)
            with contextlib.closing(answer) as pieces:
                for data in pieces:
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
        return self.wait(thread_id, stream.turn_id or "")

    def wait(self, thread_id: str, turn_id: str) -> FinishedTurn:
        """Wait for the end of a turn; the daemon may be away for a while."""
        while True:
            with passing_trouble():
                finished = finished_of(self.turn(thread_id, turn_id))
                if finished is not None:
                    return finished
            time.sleep(LOOK_S)

    def turn(self, thread_id: str, turn_id: str) -> Turn:
        """A turn with its items."""
        return self._call(calls.turn(thread_id, turn_id))

    def interrupt(self, thread_id: str, turn_id: str) -> None:
        """Interrupt a turn."""
        self._call(calls.interrupt(thread_id, turn_id))

    def steer(self, thread_id: str, turn_id: str, prompt: Input) -> None:
        """Tell the agent something while it works."""
        self._call(calls.steer(thread_id, turn_id, prompt))

    # -- how it is asked -----------------------------------------------------------------------

    def _call(self, call: ApiCall[_Answer], *, timeout_s: float | None = None) -> _Answer:
        data = self._body(call.method, call.path, call.body, timeout_s=timeout_s)
        return decoded(data, call.answer)

    def _body(
        self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None
    ) -> bytes:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return b"".join(_answer(self._where.address(), method, path, body, None, timeout_s))

    def _stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        began: Callable[[str], None] | None = None,
    ) -> Generator[bytes, None, None]:
        where = self._where.address()
        return _answer(where, method, path, body, EVENT_STREAM, self._timeout_s, began)


class Threads:
    """The server's threads."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self, *, limit: int = 50, cwd: str | None = None, archived: bool = False
    ) -> list[JsonObject]:
        """So many threads, the newest first, as the server describes them."""
        found: list[JsonObject] = []
        after: str | None = None
        while len(found) < limit:
            call = calls.threads(min(limit - len(found), 100), after, cwd, archived)
            page = self._client._call(call)
            found += page.threads
            after = page.next
            if after is None:
                break
        return found

    def get(self, thread_id: str) -> JsonObject:
        """One thread with its turns."""
        return self._client._call(calls.thread(thread_id))

    def start(
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
        return self._client._call(calls.start_thread(body))


class Child:
    """The server that the daemon supervises."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def start(self, *, wait_s: float = 0) -> Change:
        """Start it, where it was stopped."""
        return self._change("start", "now", None, wait_s)

    def stop(
        self, *, when: When = "drained", timeout_ms: int | None = None, wait_s: float = 0
    ) -> Change:
        """Stop it; `now` cuts its turns, `drained` lets them end, `idle` waits until none runs."""
        return self._change("stop", when, timeout_ms, wait_s)

    def restart(
        self, *, when: When = "drained", timeout_ms: int | None = None, wait_s: float = 0
    ) -> Change:
        """Start it anew; ``when`` as for :meth:`stop`. ``wait_s`` is how long to wait for it."""
        return self._change("restart", when, timeout_ms, wait_s)

    def _change(
        self, kind: ChangeKind, when: When, timeout_ms: int | None, wait_s: float
    ) -> Change:
        call = calls.change(kind, when, timeout_ms, wait_s)
        return self._client._call(call, timeout_s=self._client._timeout_s + wait_s)


def _answer(
    address: Address,
    method: str,
    path: str,
    body: Any,
    accept: str | None,
    timeout_s: float,
    began: Callable[[str], None] | None = None,
) -> Generator[bytes, None, None]:
    """The pieces of an answer's body, as they come; ``began`` hears where it says to look."""
    exchange = Exchange(address, method, path, body, accept=accept)
    with contextlib.closing(_connected(address, timeout_s)) as connected:
        problem = b""
        try:
            connected.sendall(exchange.request)
            while not exchange.is_over:
                piece = exchange.feed(connected.recv(_READ_BYTES))
                if began is not None and exchange.location is not None:
                    began(exchange.location)
                    began = None
                if exchange.is_refused:
                    problem += piece
                elif piece:
                    if accept is not None:
                        # A stream that lives says so from time to time.
                        connected.settimeout(SILENT_S)
                    yield piece
        except TimeoutError as error:
            text = f"The daemon at {address.name} has said nothing for too long."
            raise DaemonAway(text) from error
        except OSError as error:
            raise DaemonAway(gone(address, error)) from error
        if exchange.is_refused:
            raise refusal(exchange.status, problem)


def _connected(address: Address, timeout_s: float) -> socket.socket:
    try:
        if address.socket_path is None:
            return _connected_over_tcp(address, timeout_s)
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.settimeout(timeout_s)
            connected.connect(address.socket_path)
            require_own_peer(connected)
        except BaseException:
            connected.close()
            raise
        return connected
    except OSError as error:
        raise DaemonAbsent(no_answer(address, error)) from error


def _connected_over_tcp(address: Address, timeout_s: float) -> socket.socket:
    connected = socket.create_connection((address.host, address.port), timeout_s)
    if not address.is_tls:
        return connected
    import ssl

    context = ssl.create_default_context(cafile=address.ca_file)
    return context.wrap_socket(connected, server_hostname=address.host)
