"""Bytes from one Unix socket to another, on uvloop: what any relay at least costs.

``PYTHON relay.py LISTEN TARGET``, with a Python that has uvloop; prints a line once it listens.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One end of a connection; what comes goes to ``other``."""

    def __init__(self) -> None:
        self.other: Side | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Front(Side):
    """The end of a client."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._joining = asyncio.get_running_loop().create_task(self._join())

    async def _join(self) -> None:
        loop = asyncio.get_running_loop()
        _, back = await loop.create_unix_connection(Side, self._target)
        self.other, back.other = back, self
        assert back.transport is not None
        back.transport.writelines(self.early)


async def main(listen: str, target: str) -> None:
    """Relay for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Front(target), listen)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
