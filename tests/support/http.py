"""HTTP over a Unix socket for tests, with the standard library's client."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """One connection; ``timeout_s`` is for each read."""

    def __init__(self, path: str, timeout_s: float = 30.0) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


def ask(
    path: str, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> Reply:
    """One request on a connection of its own; ``body`` is sent as JSON."""
    connection = UnixConnection(path)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, headers or {})
        response = connection.getresponse()
        sent = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, sent, response.read())
    finally:
        connection.close()


@contextlib.contextmanager
def stream(
    path: str, method: str, target: str, body: Any = None, accept: str = "text/event-stream"
) -> Iterator[Iterator[tuple[str, Any]]]:
    """The events of a stream as they come: (event, data)."""
    connection = UnixConnection(path)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, {"Accept": accept})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("Content-Type") == accept
        yield _events(response) if accept == "text/event-stream" else _lines(response)
    finally:
        connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    event = ""
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)


def _lines(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    for line in response:
        document = json.loads(line)
        yield document.get("method", "finished"), document
