"""An echo server for tests that block."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from codexd.api.server import ServerLimits
from tests.support.echo import EchoServer, echo_server


class EchoThread:
    """An echo server on a loop of its own."""

    def __init__(self, path: Path, limits: ServerLimits | None = None) -> None:
        self._path = path
        self._limits = limits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._started = threading.Event()
        self._ending: asyncio.Event | None = None
        self.echo: EchoServer | None = None

    def __enter__(self) -> EchoThread:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._ending is not None
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(20)

    def call(self, action: str, *arguments: object) -> None:
        """Have the server do something on its loop."""
        assert self.echo is not None
        self._loop.call_soon_threadsafe(getattr(self.echo, action), *arguments)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        async with echo_server(self._path, self._limits) as echo:
            self.echo = echo
            self._started.set()
            await self._ending.wait()
