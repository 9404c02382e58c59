"""A hub server whose hub sends every message back, in this process and on this loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from websockets.asyncio.client import ClientConnection, unix_connect

from codexd.api.health import HealthRoutes
from codexd.api.server import HubServer, ServerLimits
from codexd.api.service import Service
from codexd.api.status import StatusRoutes
from codexd.api.table import Table
from codexd.api.websocket import ClientEnd
from codexd.hub.profile import ClientProfile


class EchoHub:
    """An adapter that keeps what it heard and sends it back."""

    def __init__(self) -> None:
        self.ends: dict[int, ClientEnd] = {}
        self.opened_clients: list[int] = []
        self.closed_clients: list[int] = []
        self.cut: list[tuple[int | None, int]] = []
        self.messages: list[tuple[int, bytes]] = []
        self.echo = True

    def opened(self, profile: ClientProfile, end: ClientEnd) -> int:
        """Number the clients from 1."""
        del profile
        self.opened_clients.append(len(self.opened_clients) + 1)
        self.ends[self.opened_clients[-1]] = end
        return self.opened_clients[-1]

    def message(self, client: int, data: bytes) -> None:
        """Keep it and send it back."""
        self.messages.append((client, data))
        if self.echo:
            self.ends[client].send(data)

    def closed(self, client: int) -> None:
        """Keep the number."""
        self.closed_clients.append(client)

    def on_cut(self, client: int | None, unread: int) -> None:
        """Keep who was cut off."""
        self.cut.append((client, unread))


class EchoServer:
    """The hub, its server, and where it listens."""

    def __init__(self, path: Path, limits: ServerLimits, nouns: Iterable[object] = ()) -> None:
        self.path = str(path)
        self.hub = EchoHub()
        self.is_ready = True
        health, status = HealthRoutes(lambda: self.is_ready), StatusRoutes(lambda: {"clients": 0})
        self.service = Service(Table([health, status, *nouns]))
        self.server = HubServer(
            self.hub,
            self.service,
            limits,
            on_cut=self.hub.on_cut,
            on_full=lambda _connections: None,
        )

    def send(self, client: int, data: bytes) -> None:
        """As the hub sends one message; nothing happens if the client is gone."""
        if client not in self.hub.closed_clients:
            self.hub.ends[client].send(data)

    def close_client(self, client: int, code: int, reason: str) -> None:
        """As the hub ends a connection."""
        self.hub.ends[client].close(code, reason)

    def client(self) -> contextlib.AbstractAsyncContextManager[ClientConnection]:
        """A WebSocket client of it."""
        return unix_connect(self.path, compression=None, max_size=None, ping_interval=None)

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes on a plain connection, and read until the server ends it."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str, *, method: str = "GET") -> tuple[int, bytes]:
        """One HTTP request: status and body."""
        answer = await self.exchange(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body


@contextlib.asynccontextmanager
async def echo_server(
    path: Path, limits: ServerLimits | None = None, nouns: Iterable[object] = ()
) -> AsyncIterator[EchoServer]:
    """Serve ``path`` for as long as the block runs; ``nouns`` have further routes."""
    echo = EchoServer(path, limits or ServerLimits(), nouns)
    await echo.server.listen(echo.path)
    try:
        yield echo
    finally:
        await echo.server.close()


async def round_trip(client: ClientConnection, text: str) -> str | bytes:
    """Send one message and read the next one."""
    await client.send(text)
    async with asyncio.timeout(20):
        return await client.recv()
