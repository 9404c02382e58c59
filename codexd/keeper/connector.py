"""The talk with the child: connect, shake hands, stay connected."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from codexd.child import pipes as child_io
from codexd.config import Server
from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub.introduction import Capabilities, ClientInfo
from codexd.keeper.introduction import Introduction, caretaker_params, own_params
from codexd.keeper.same_server import Told, ask_who
from codexd.keeper.spare import Greeted, saved_answer
from codexd.link.endpoint import Endpoint, parse_endpoint, token_file
from codexd.link.errors import LinkError, LinkLost, LinkUnauthorized, RequestFailed
from codexd.link.link import Link
from codexd.link.transport_stdio import StdioTransport
from codexd.link.transport_websocket import WebSocketTransport
from codexd.platform.files import Stamp, read_whole, stamp, write_aside
from codexd.platform.process import ProcessId, identify

logger = logging.getLogger("codexd")

Feed = Callable[[bytes], None]
Ready = Callable[[int | None, dict[str, Any]], None]

_RETRY_MIN_S = 0.01
_RETRY_MAX_S = 2.0
# The pause grows with what was waited: a server that has just begun to listen is found so soon.
_RETRY_SHARE = 1 / 8
# One try to connect and shake hands; a slow server gets as many as it needs.
_ATTEMPT_S = 30.0
# How long a child that nobody has used waits for its first client, to be told that one's name;
# without any, it cannot tell whether it is logged in.
_ALONE_S = 3.0
# On a pipe that wait is all there is; the first client ever may come from a busy machine.
_FIRST_EVER_S = 6.0


class Driver(Protocol):
    """Who carries messages between the child and the clients."""

    def child_ready(
        self,
        send: Callable[[bytes], None],
        initialize_result: bytes | None,
        *,
        same_child: bool,
        pid: int | None,
    ) -> None: ...

    def introduced(self, send: Callable[[bytes], None], initialize_result: bytes) -> None: ...

    @property
    def heard_threads(self) -> frozenset[str]: ...

    @property
    def is_unused(self) -> bool: ...

    @property
    def present(self) -> list[Capabilities]: ...

    def child_message(self, data: bytes) -> None: ...

    def answered(self) -> None: ...

    def child_lost(self, reason: str, unread: list[bytes]) -> None: ...

    def child_ended(self) -> None: ...


class _Handshake(msgspec.Struct):
    """What a restarted plugin must know of a child that is initialized already."""

    child: ProcessId | None
    result: msgspec.Raw
    # Of an external server, what it says itself of its process.
    told: Told = Told()


class Connector:
    """Speaks with one child after the other.

    ``hand_stdout(generation, feed)`` lets ``feed`` have what that child says on its stdout.
    ``around(feed, data)`` calls ``feed(data)``, which is all that a child said in one go.
    """

    def __init__(
        self,
        server: Server,
        runtime_dir: str,
        driver: Driver,
        hand_stdout: Callable[[int, Callable[[bytes], None]], None],
        on_ready: Ready,
        on_lost: Callable[[str], None],
        on_introduced: Callable[[], None],
        on_refused: Callable[[str], None],
        introduction: Introduction,
        around: Callable[[Feed, bytes], None],
        spare: Callable[[int], Greeted | None] = lambda _pid: None,
    ) -> None:
        self._around = around
        self._spare = spare
        self._introduction = introduction
        self._first_client: asyncio.Event = asyncio.Event()
        self._is_caretaker = False
        self._on_introduced = on_introduced
        self._on_refused = on_refused
        self._refused_for = ""
        # Who is behind an external endpoint, as it says itself.
        self._told = Told()
        self._server = server
        self._driver = driver
        self._hand_stdout = hand_stdout
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._endpoint = _spoken_endpoint(server)
        self._runtime_dir = runtime_dir
        self._loop = asyncio.get_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._has_spoken = "app-server" in server.child_args
        self.waiting_since: float | None = None
        self._heard_before = 0.0
        self._handshake: bytes | None = None
        self._written: Stamp | None = None

    # -- for the health check ----------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the handshake with the present child is done."""
        return self._link is not None

    @property
    def speaks(self) -> bool:
        """Whether the child is known to speak the protocol."""
        return self._endpoint is not None and self._has_spoken

    @property
    def last_heard(self) -> float:
        """When, by time.monotonic(), a child last sent anything; 0.0 for never."""
        return self._heard_before if self._link is None else self._link.last_heard

    async def probe(self, timeout_s: float) -> None:
        """Ask the child something cheap.

        Raises:
            TimeoutError: no answer within ``timeout_s`` seconds.
            ConnectionError: the connection is gone; that is told elsewhere.
        """
        if self._link is None:
            raise ConnectionError("there is no connection")
        await self._link.probe(timeout_s)
        self._driver.answered()

    async def ask(self, method: str, params: Any, timeout_s: float) -> bytes:
        """Ask the child something for codexd itself; see :meth:`codexd.link.link.Link.request`."""
        if self._link is None:
            raise LinkLost("There is no connection to the server.")
        return await self._link.request(method, params, timeout_s)

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the child is spoken to; None where it is not."""
        return self._endpoint

    def client_came(self, info: ClientInfo, capabilities: Capabilities) -> None:
        """A client says who it is: the child may be waiting for that."""
        data = self._introduction.came(info, capabilities)
        self._first_client.set()
        if data is not None:
            self._loop.run_in_executor(None, self._introduction.save, data)

    def spare_introduction(self, *, lasting: bool = False) -> dict[str, Any] | None:
        """As whom a spare is greeted; None as long as the child itself has not been told.

        ``lasting``: without what only the clients present make of it.
        """
        if self._link is None or self._link.awaits_introduction:
            return None
        if self._is_caretaker:
            return caretaker_params()
        return self._introduction.params([] if lasting else self._driver.present)

    @property
    def is_caretaker(self) -> bool:
        """Whether codexd only looks after the server, as long as no client has come."""
        return self._is_caretaker

    # -- for the keeper ----------------------------------------------------------------------

    def child_started(self, generation: int, pid: int | None) -> None:
        """A child runs (or, with pid None, an external one may): speak with it."""
        self._cancel()
        self._refused_for = ""
        self.waiting_since = self._loop.time()
        if self._endpoint is not None:
            self._task = self._loop.create_task(self._talk(self._endpoint, generation, pid))

    def child_ended(self, reason: str) -> None:
        """The child is gone."""
        self._cancel()
        self._handshake = None
        self.waiting_since = None
        self._drop(reason, self._link.unread() if self._link is not None else [])
        self._driver.child_ended()

    async def close(self) -> None:
        """Stop speaking; the child does not notice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._link is not None:
            self._link.close()
            self._link = None

    # -- connecting --------------------------------------------------------------------------

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _drop(self, reason: str, unread: list[bytes]) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._heard_before = link.last_heard
            link.close()
            self._driver.child_lost(reason, unread)

    async def _talk(self, endpoint: Endpoint, generation: int, pid: int | None) -> None:
        since = self._loop.time()
        while True:
            begun = self._loop.time()
            try:
                await self._talk_once(endpoint, generation, pid)
            except LinkUnauthorized as error:
                self._unauthorized(str(error))
            except LinkError as error:
                logger.info("%s", error)
            except Exception:
                # Whatever it is, the next try may go well, and nobody else would make one.
                logger.exception("the talk with the server broke off")
                self._break_off()
            now = self._loop.time()
            if now - begun > _RETRY_MAX_S:
                since = now
            await asyncio.sleep(pause_s(now - since))

    def _unauthorized(self, reason: str) -> None:
        """Say once what is wrong. A server that asks for a token lives; another would ask, too."""
        self.waiting_since = None
        if reason != self._refused_for:
            self._refused_for = reason
            logger.error("%s", reason)
            self._on_refused(reason)

    def _break_off(self) -> None:
        try:
            self._lost("codexd could not go on with this connection")
        except Exception:
            logger.exception("the loss of the connection could not be told")

    async def _talk_once(self, endpoint: Endpoint, generation: int, pid: int | None) -> None:
        """One connection, from its first byte to its last.

        Raises:
            LinkError: there was none.
        """
        spare = None if pid is None else self._spare(pid)
        if spare is not None:
            await self._talk_with_promoted(spare, pid)
            return
        known = self._load_handshake(pid)
        lost: asyncio.Future[str] = self._loop.create_future()
        link = self._new_link(endpoint, generation, lost)
        try:
            result = await self._open(link, known)
            if pid is None:
                known = await self._if_same(link)
            self._connected(link, pid, result, known)
        except BaseException:
            link.close()
            raise
        if link.awaits_introduction:
            try:
                lost = await self._introduce(endpoint, generation, link, pid, lost)
            except LinkError as error:
                self._lost(str(error))
                return
        self._lost(await lost)

    async def _talk_with_promoted(self, spare: Greeted, pid: int | None) -> None:
        """As :meth:`_talk_once`, with a server that was introduced while it was a spare.

        Raises:
            LinkError: it does not answer.
        """
        try:
            await spare.ask()
            self._connected(spare.link, pid, spare.result, None)
        except BaseException:
            spare.link.close()
            raise
        self._lost(await spare.lost)

    def _new_link(self, endpoint: Endpoint, generation: int, lost: asyncio.Future[str]) -> Link:
        transport = self._transport(endpoint, generation)
        return Link(transport, on_message=self._driver.child_message, on_lost=lost.set_result)

    async def _open(self, link: Link, known: _Handshake | None) -> bytes | None:
        if known is None and self._driver.is_unused:
            self._first_client.clear()
            await link.open(_ATTEMPT_S, None)
            if link.awaits_introduction and self._driver.is_unused:
                return None
            return await self._say_who(link)
        return await link.open(_ATTEMPT_S, self._introduction.params(self._driver.present))

    async def _introduce(
        self,
        endpoint: Endpoint,
        generation: int,
        link: Link,
        pid: int | None,
        lost: asyncio.Future[str],
    ) -> asyncio.Future[str]:
        """Speak with the child as its first client; returns what tells that it is lost.

        A pipe is introduced once, so that client must come within a while. On a socket codexd
        looks after the server until then, and makes a connection of that client's own.
        """
        is_pipe = endpoint.kind == "stdio"
        is_last_chance = is_pipe and not self._introduction.is_known
        wait_s = _FIRST_EVER_S if is_last_chance else _ALONE_S
        if not await self._first_client_comes(lost, wait_s) and not is_pipe:
            await link.introduce(caretaker_params(), _ATTEMPT_S)
            self._is_caretaker = True
            self._on_introduced()
            if await self._first_client_comes(lost, None):
                lost = self._loop.create_future()
                link = await self._instead(link, self._new_link(endpoint, generation, lost))
        if lost.done():
            return lost
        result = await self._say_who(link)
        self._is_caretaker = False
        self._driver.introduced(link.send, result or b"{}")
        link.listen()
        self._on_introduced()
        if pid is None:
            self._told = await ask_who(link)
        if result is not None:
            self._save_handshake(pid, result)
        return lost

    async def _first_client_comes(self, lost: asyncio.Future[str], wait_s: float | None) -> bool:
        client = asyncio.ensure_future(self._first_client.wait())
        either: set[asyncio.Future[Any]] = {client, lost}
        try:
            await asyncio.wait(either, timeout=wait_s, return_when="FIRST_COMPLETED")
        finally:
            client.cancel()
        return self._first_client.is_set() and not lost.done()

    async def _instead(self, before: Link, link: Link) -> Link:
        """Have another connection in place of one over which nothing was done."""
        try:
            await link.open(_ATTEMPT_S, None)
        except BaseException:
            link.close()
            raise
        before.close()
        self._link = link
        return link

    async def _say_who(self, link: Link) -> bytes | None:
        params = self._introduction.params(self._driver.present)
        try:
            return await link.introduce(params, _ATTEMPT_S)
        except RequestFailed as error:
            logger.warning("The server does not take the introduction: %s", error)
            return await link.introduce(own_params(), _ATTEMPT_S)

    def _lost(self, reason: str) -> None:
        """The connection is gone; the child may live, and read what was sent to it."""
        self._drop(reason, [])
        self.waiting_since = self._loop.time()
        self._on_lost(reason)

    def _transport(
        self, endpoint: Endpoint, generation: int
    ) -> StdioTransport | WebSocketTransport:
        if endpoint.kind != "stdio":
            return WebSocketTransport(endpoint, token_file(self._server), self._around)
        path = child_io.pipe_path(self._runtime_dir, generation, "stdin")
        is_first = child_io.speaks_first(self._runtime_dir, generation)
        transport = StdioTransport(path, is_first=is_first)
        self._hand_stdout(generation, functools.partial(self._around, transport.feed))
        return transport

    def _connected(
        self, link: Link, pid: int | None, result: bytes | None, known: _Handshake | None
    ) -> None:
        is_new = result is not None
        if result is None and not link.awaits_introduction:
            result = saved_answer(self._runtime_dir, pid) if known is None else bytes(known.result)
            is_new = known is None and result is not None
            result = result or b"{}"
        self._link = link
        self._is_caretaker = False
        self._has_spoken = True
        self._refused_for = ""
        now = self._loop.time()
        after_ms = round((now - (self.waiting_since or now)) * 1000)
        self.waiting_since = None
        self._driver.child_ready(link.send, result, same_child=known is not None, pid=pid)
        self._on_ready(pid, {"pid": pid, "afterMs": after_ms})
        link.listen()
        if result is not None:
            self._on_introduced()
        if is_new and result is not None:
            # Last: it may wait for the disk, and nobody should wait for it.
            self._save_handshake(pid, result)

    # -- the handshake, for the next plugin --------------------------------------------------

    @property
    def _handshake_path(self) -> str:
        return os.path.join(self._runtime_dir, "handshake.json")

    def _load_handshake(self, pid: int | None) -> _Handshake | None:
        child = None if pid is None else identify(pid)
        found = None if child is None else self._read_handshake()
        return found if found is not None and found.child == child else None

    def _read_handshake(self) -> _Handshake | None:
        with contextlib.suppress(OSError, *UNDECODABLE):
            return decode_json(read_whole(self._handshake_path), _Handshake)
        return None

    async def _if_same(self, link: Link) -> _Handshake | None:
        """The handshake with another's server, where this is the one before."""
        found = self._read_handshake()
        self._told = Told() if link.awaits_introduction else await ask_who(link)
        heard = self._driver.heard_threads
        is_same = found is not None and self._told.is_same_as(found.told, heard)
        return found if is_same else None

    def _save_handshake(self, pid: int | None, result: bytes) -> None:
        child = None if pid is None else identify(pid)
        record = _Handshake(child, msgspec.Raw(result), Told(self._told.pid))
        self._handshake = msgspec.json.encode(record)
        self._write_handshake()

    def look(self) -> None:
        """See that the handshake's file is there; call it every second."""
        if self._handshake is None:
            return
        if self._written is None or stamp(self._handshake_path) != self._written:
            self._write_handshake()

    def _write_handshake(self) -> None:
        # Without it a restarted plugin only knows less to tell new clients; see `look`.
        with contextlib.suppress(OSError):
            if self._handshake is not None:
                self._written = None
                write_aside(self._handshake_path, self._handshake, flush=False)
                self._written = stamp(self._handshake_path)


def pause_s(waited_s: float) -> float:
    """Seconds until the next try to connect, where there was none for ``waited_s``."""
    return min(max(waited_s * _RETRY_SHARE, _RETRY_MIN_S), _RETRY_MAX_S)


def _spoken_endpoint(server: Server) -> Endpoint | None:
    if server.mode != "app-server":
        return None
    endpoint = parse_endpoint(server.endpoint, os.environ, cwd=server.child_cwd)
    # Nobody but its parent can speak with a server on stdio.
    is_mute = server.child_strategy == "external" and endpoint.kind == "stdio"
    return None if is_mute else endpoint
