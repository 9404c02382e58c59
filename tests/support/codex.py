"""A real `codex app-server` in a CODEX_HOME of its own, and a plain client for its sockets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, unix_connect

from tests.support.waiting import eventually

CLIENT_INFO = {"name": "test-client", "title": "Test", "version": "1"}


def codex_path() -> str:
    """The real binary, from the `codex` extra."""
    from codex_cli_bin import bundled_codex_path

    return str(bundled_codex_path())


def free_port() -> int:
    """A TCP port of the loopback that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    path = tempfile.mkdtemp(prefix="cx-", dir="/tmp")
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


class CodexServer:
    """One `codex app-server --listen ENDPOINT`; its CODEX_HOME outlives restarts."""

    def __init__(
        self,
        root: Path,
        endpoint: str | None = None,
        *,
        binary: str | None = None,
        home: str = "home",
    ) -> None:
        self._binary = binary or codex_path()
        self.home = root / home
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.socket_path = str(root / "app.sock")
        self.endpoint = endpoint or f"unix://{self.socket_path}"
        self.process: subprocess.Popen[bytes] | None = None
        self._errors = root / "codex.err"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; the socket comes a little later."""
        with open(self._errors, "ab") as errors:
            self.process = subprocess.Popen(
                [self._binary, "app-server", "--listen", self.endpoint],
                env={**os.environ, "CODEX_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        return self.process

    @property
    def address(self) -> str | tuple[str, int]:
        """Of its socket."""
        parts = urlsplit(self.endpoint)
        if parts.scheme == "unix":
            return self.socket_path
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def start_ready(self) -> None:
        """Start it and wait until it takes connections."""
        self.start()
        eventually(self._accepts, what="a socket of codex")

    def kill(self) -> None:
        """SIGKILL it and everything that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def _accepts(self) -> bool:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        with socket.socket(family) as probe:
            return probe.connect_ex(self.address) == 0


class RawClient:
    """One WebSocket client that speaks in dictionaries."""

    def __init__(self, socket_path: str) -> None:
        connecting = unix_connect(socket_path, compression=None, max_size=None)
        self._stack = contextlib.ExitStack()
        self.connection: ClientConnection = self._stack.enter_context(connecting)
        self.notifications: list[dict[str, Any]] = []
        self._asked = 0

    def initialize(self) -> dict[str, Any]:
        """Shake hands; the result."""
        capabilities = {"experimentalApi": True}
        params = {"clientInfo": CLIENT_INFO, "capabilities": capabilities}
        answer = self.ask("initialize", params)
        self.send({"method": "initialized"})
        result: dict[str, Any] = answer["result"]
        return result

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.connection.send(json.dumps(message))

    def receive(self, timeout_s: float = 10) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=timeout_s))
        return message

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request; its answer. Notifications on the way are kept."""
        self._asked += 1
        self.send({"id": self._asked, "method": method, "params": params})
        while True:
            message = self.receive()
            if message.get("id") == self._asked and "method" not in message:
                return message
            self.notifications.append(message)

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(WebSocketException, OSError):
            self._stack.close()
