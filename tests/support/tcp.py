"""The TCP listener on a hub that echoes, and those who come to it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import trustme
from websockets.asyncio.client import ClientConnection, connect

from codexd.address import parse_address
from codexd.api.door import Door
from codexd.api.hosts import Hosts
from codexd.api.page_access import PageAccess
from codexd.api.server import ServerLimits
from codexd.api.tcp import bind, resolve
from codexd.api.tokens import Tokens
from codexd.store import token_file
from codexd.tls import Tls
from tests.support.echo import EchoServer

NAME = "hub.example"


class Certificates:
    """A certificate for NAME and localhost, as files, and a client's idea of it."""

    def __init__(self, place: Path) -> None:
        self.cert, self.key = place / "cert.pem", place / "key.pem"
        self.renew()

    def renew(self, *names: str) -> None:
        """Another certificate, of another authority, in the same files."""
        authority = trustme.CA()
        made = authority.issue_cert(*(names or (NAME, "localhost", "127.0.0.1")))
        made.private_key_pem.write_to_path(self.key)
        # The chain as well, as whoever issues certificates sends it.
        self.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


class TcpServer(EchoServer):
    """An echo server that also listens on 127.0.0.1; ``token`` opens all of it."""

    def __init__(
        self, place: Path, limits: ServerLimits, nouns: Iterable[object], tls: Certificates | None
    ) -> None:
        super().__init__(place / "hub.sock", limits, nouns)
        self.certificates = tls
        self.token_path, self.read_path = str(place / "token"), str(place / "read")
        for path in (self.token_path, self.read_path):
            token_file.make(path)
        self.faults: list[str] = []
        self.changes: list[str] = []
        self.wrong: list[str] = []
        self.tokens = Tokens(
            self.token_path,
            self.read_path,
            on_fault=lambda _path, fault: self.faults.append(fault),
            on_change=self.changes.append,
        )
        address = parse_address("127.0.0.1:0")
        self.tls = None if tls is None else Tls(str(tls.cert), str(tls.key))
        names = () if self.tls is None else self.tls.names
        hosts = Hosts(address, "127.0.0.1", is_tls=tls is not None, certified=lambda: names)
        self.page = PageAccess(str(place / "page-sessions.json"))
        self.door = Door(self.service, self.tokens, hosts, self.page, self.wrong.append)
        self.bound = bind(address, resolve(address), str(place / "port"))
        self.port = int(self.bound.getsockname()[1])

    @property
    def token(self) -> str:
        """The token for everything."""
        return Path(self.token_path).read_text().strip()

    @property
    def read_token(self) -> str:
        """The one for reading."""
        return Path(self.read_path).read_text().strip()

    def let_in(self) -> None:
        """Listen."""
        tls = self.tls
        self.server.open_door(self.door, self.bound, None if tls is None else lambda: tls.context)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, with TLS where there is TLS."""
        certificates = self.certificates
        if certificates is None:
            return await asyncio.open_connection("127.0.0.1", self.port)
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=certificates.client, server_hostname=NAME
        )

    async def ask(
        self,
        path: str,
        *,
        token: str | None = None,
        method: str = "GET",
        body: str = "",
        **more: str,
    ) -> tuple[int, bytes]:
        """One HTTP request on a connection of its own: status and body."""
        headers = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", **more}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body:
            headers["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", body]
        reader, writer = await self.open()
        try:
            writer.write("\r\n".join(lines).encode())
            async with asyncio.timeout(10):
                answer = await reader.read()
        finally:
            writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        return (int(head.split(b" ")[1]) if head else 0), rest

    def websocket(
        self, token: str | None = None, **headers: str
    ) -> contextlib.AbstractAsyncContextManager[ClientConnection]:
        """A client of the hub."""
        sent = {**headers, **({} if token is None else {"Authorization": f"Bearer {token}"})}
        scheme = "ws" if self.certificates is None else "wss"
        tls: dict[str, Any] = {}
        if self.certificates is not None:
            tls["ssl"] = self.certificates.client
        return connect(
            f"{scheme}://localhost:{self.port}/",
            host="127.0.0.1",
            additional_headers=sent,
            compression=None,
            max_size=None,
            **tls,
        )


@contextlib.asynccontextmanager
async def tcp_server(
    place: Path,
    tls: Certificates | None = None,
    limits: ServerLimits | None = None,
    nouns: Iterable[object] = (),
) -> AsyncIterator[TcpServer]:
    """Serve for as long as the block runs."""
    made = TcpServer(place, limits or ServerLimits(), nouns, tls)
    await made.server.listen(made.path)
    made.let_in()
    try:
        yield made
    finally:
        await made.server.close()
