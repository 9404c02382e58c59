"""The talk with the child: connect, shake hands, stay connected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from codexd.child import pipes as child_io
from codexd.config import Server
from codexd.encoding import UNDECODABLE
from codexd.link.endpoint import Endpoint, parse_endpoint
from codexd.link.errors import LinkError, LinkLost
from codexd.link.link import Link
from codexd.link.transport_stdio import StdioTransport
from codexd.link.transport_websocket import WebSocketTransport
from codexd.platform.files import Stamp, read_whole, stamp, write_aside
from codexd.platform.process import ProcessId, identify

logger = logging.getLogger("codexd")

Ready = Callable[[int | None, dict[str, Any]], None]

_RETRY_MIN_S = 0.01
_RETRY_MAX_S = 2.0
# The pause grows with what was waited: a server that has just begun to listen is found so soon.
_RETRY_SHARE = 1 / 8
# One try to connect and shake hands; a slow server gets as many as it needs.
_ATTEMPT_S = 30.0


class Driver(Protocol):
    """Who carries messages between the child and the clients."""

    def child_ready(
        self,
        send: Callable[[bytes], None],
        initialize_result: bytes,
        *,
        same_child: bool,
        pid: int | None,
    ) -> None: ...

    def child_message(self, data: bytes) -> None: ...

    def child_lost(self, reason: str, unread: list[bytes]) -> None: ...


class _Handshake(msgspec.Struct):
    """What a restarted plugin must know of a child that is initialized already."""

    child: ProcessId | None
    result: msgspec.Raw


class Connector:
    """Speaks with one child after the other.

    ``hand_stdout(generation, feed)`` lets ``feed`` have what that child says on its stdout.
    """

    def __init__(
        self,
        server: Server,
        runtime_dir: str,
        driver: Driver,
        hand_stdout: Callable[[int, Callable[[bytes], None]], None],
        on_ready: Ready,
        on_lost: Callable[[str], None],
    ) -> None:
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
        """The loop's time at which a child last sent anything; 0.0 for never."""
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

    async def ask(self, method: str, params: Any, timeout_s: float) -> bytes:
        """Ask the child something for codexd itself; see :meth:`codexd.link.link.Link.request`."""
        if self._link is None:
            raise LinkLost("There is no connection to the server.")
        return await self._link.request(method, params, timeout_s)

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the child is spoken to; None where it is not."""
        return self._endpoint

    # -- for the keeper ----------------------------------------------------------------------

    def child_started(self, generation: int, pid: int | None) -> None:
        """A child runs (or, with pid None, an external one may): speak with it."""
        self._cancel()
        self.waiting_since = self._loop.time()
        if self._endpoint is not None:
            self._task = self._loop.create_task(self._talk(self._endpoint, generation, pid))

    def child_ended(self, reason: str) -> None:
        """The child is gone."""
        self._cancel()
        self._handshake = None
        self.waiting_since = None
        self._drop(reason, self._link.unread() if self._link is not None else [])

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
        known = self._load_handshake(pid)
        lost: asyncio.Future[str] = self._loop.create_future()
        transport = self._transport(endpoint, generation)
        link = Link(transport, on_message=self._driver.child_message, on_lost=lost.set_result)
        try:
            result = await link.open(_ATTEMPT_S)
            self._connected(link, pid, result, known)
        except BaseException:
            link.close()
            raise
        self._lost(await lost)

    def _lost(self, reason: str) -> None:
        """The connection is gone; the child may live, and read what was sent to it."""
        self._drop(reason, [])
        self.waiting_since = self._loop.time()
        self._on_lost(reason)

    def _transport(
        self, endpoint: Endpoint, generation: int
    ) -> StdioTransport | WebSocketTransport:
        if endpoint.kind != "stdio":
            return WebSocketTransport(endpoint)
        path = child_io.pipe_path(self._runtime_dir, generation, "stdin")
        is_first = child_io.speaks_first(self._runtime_dir, generation)
        transport = StdioTransport(path, is_first=is_first)
        self._hand_stdout(generation, transport.feed)
        return transport

    def _connected(
        self, link: Link, pid: int | None, result: bytes | None, known: _Handshake | None
    ) -> None:
        is_new = result is not None
        if result is None:
            result = b"{}" if known is None else bytes(known.result)
        self._link = link
        self._has_spoken = True
        now = self._loop.time()
        after_ms = round((now - (self.waiting_since or now)) * 1000)
        self.waiting_since = None
        self._driver.child_ready(link.send, result, same_child=known is not None, pid=pid)
        self._on_ready(pid, {"pid": pid, "afterMs": after_ms})
        link.listen()
        if is_new:
            # Last: it may wait for the disk, and nobody should wait for it.
            self._save_handshake(pid, result)

    # -- the handshake, for the next plugin --------------------------------------------------

    @property
    def _handshake_path(self) -> str:
        return os.path.join(self._runtime_dir, "handshake.json")

    def _load_handshake(self, pid: int | None) -> _Handshake | None:
        child = None if pid is None else identify(pid)
        with contextlib.suppress(OSError, *UNDECODABLE):
            found = msgspec.json.decode(read_whole(self._handshake_path), type=_Handshake)
            return found if child is not None and found.child == child else None
        return None

    def _save_handshake(self, pid: int | None, result: bytes) -> None:
        record = _Handshake(None if pid is None else identify(pid), msgspec.Raw(result))
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
