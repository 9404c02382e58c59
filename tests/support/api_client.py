"""Clients of the HTTP side of codexd.sock, as small as a test needs them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import Any

_TIMEOUT_S = 30.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP to the socket at ``path``."""

    def __init__(self, path: str, timeout_s: float = _TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """Asks, each time on a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(
        self, method: str, target: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers by lower-case name, and the document, or the bytes where it is none."""
        connection = UnixConnection(self.path)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            content = response.read()
        finally:
            connection.close()
        is_json = told.get("content-type", "").endswith("json") and content
        return response.status, told, json.loads(content) if is_json else content

    def get(self, target: str, **headers: str) -> Any:
        """The document of a GET that is answered with 200."""
        status, _, document = self.ask("GET", target, **headers)
        assert status == 200, document
        return document


class Follower:
    """Follows `GET /v1/events` as an EventSource does: back again whenever the stream ends."""

    def __init__(self, path: str, last: int = 0) -> None:
        self.seqs: list[int] = []
        self.connected = 0
        self._path = path
        self._last = last
        self._ended = threading.Event()
        self._connection: UnixConnection | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Follow no more."""
        self._ended.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._follow()
            self._ended.wait(0.02)

    def _follow(self) -> None:
        self._connection = connection = UnixConnection(self._path)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._last)}
        try:
            connection.request("GET", "/v1/events", headers=headers)
            response = connection.getresponse()
            assert response.status == 200
            self.connected += 1
            while line := response.readline():
                if line.startswith(b"id: "):
                    number = int(line[4:])
                elif line.startswith(b"data: ") and line.endswith(b"\n"):
                    assert json.loads(line[6:])["seq"] == number
                    self._last = number
                    self.seqs.append(number)
        finally:
            connection.close()
