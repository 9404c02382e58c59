"""A hub server whose hub sends every message back, in this process and on this loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from websockets.asyncio.client import ClientConnection, unix_connect

from codexd.api.routes import Routes
from codexd.api.server import HubServer, ServerLimits
from codexd.hub.profile import ClientProfile


class EchoHub:
    """An adapter that keeps what it heard and sends it back."""

    def __init__(self) -> None:
        self.server: HubServer | None = None
        self.opened_clients: list[int] = []
        self.closed_clients: list[int] = []
        self.cut: list[tuple[int, int]] = []
        self.messages: list[tuple[int, bytes]] = []
        self.echo = True

    def opened(self, profile: ClientProfile) -> int:
        """Number the clients from 1."""
        del profile
        self.opened_clients.append(len(self.opened_clients) + 1)
        return self.opened_clients[-1]

    def message(self, client: int, data: bytes) -> None:
        """Keep it and send it back."""
        self.messages.append((client, data))
        if self.echo and self.server is not None:
            self.server.send(client, data)

    def closed(self, client: int) -> None:
        """Keep the number."""
        self.closed_clients.append(client)

    def on_cut(self, client: int, unread: int) -> None:
        """Keep who was cut off."""
        self.cut.append((client, unread))


class EchoServer:
    """The hub, its server, and where it listens."""

    def __init__(self, path: Path, limits: ServerLimits) -> None:
        self.path = str(path)
        self.hub = EchoHub()
        self.is_ready = True
        http = Routes(lambda: self.is_ready, lambda: b'{"clients":0}\n')
        self.server = HubServer(
            self.hub, http, limits, on_cut=self.hub.on_cut, on_full=lambda _connections: None
        )
        self.hub.server = self.server

    def client(self) -> contextlib.AbstractAsyncContextManager[ClientConnection]:
        """A WebSocket client of it."""
        return unix_connect(self.path, compression=None, max_size=None, ping_interval=None)

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes on a plain connection, and read until the server ends it."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(data)
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
async def echo_server(path: Path, limits: ServerLimits | None = None) -> AsyncIterator[EchoServer]:
    """Serve ``path`` for as long as the block runs."""
    echo = EchoServer(path, limits or ServerLimits())
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
