"""A client of an app-server's WebSocket, as small as a test needs it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.support.waiting import eventually


class AppClient:
    """Speaks JSON-RPC over the socket at ``path``, or a ws:// URL; keeps every message it got."""

    def __init__(self, path: str, name: str = "test", *, initialize: bool = True) -> None:
        self.path = path
        self.socket: ClientConnection = eventually(lambda: _connect(path), what=f"{path} to answer")
        self.seen: list[dict[str, Any]] = []
        self._taken = 0
        self._count = 0
        if initialize:
            self.initialized = self.initialize(name)

    def initialize(self, name: str = "test", **capabilities: Any) -> dict[str, Any]:
        """Shake hands; the result."""
        params = {
            "clientInfo": {"name": name, "title": None, "version": "1"},
            "capabilities": {"experimentalApi": True, **capabilities},
        }
        result = self.call("initialize", params)
        self.notify("initialized")
        return result

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.socket.send(json.dumps(message))

    def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a notification."""
        self.send({"method": method, **({"params": params} if params is not None else {})})

    def ask(self, method: str, params: dict[str, Any] | None = None) -> int:
        """Send a request; its id."""
        self._count += 1
        self.send({"id": self._count, "method": method, "params": params or {}})
        return self._count

    def receive(self, timeout_s: float = 20) -> dict[str, Any]:
        """The next message, kept in ``seen``."""
        message: dict[str, Any] = json.loads(self.socket.recv(timeout_s))
        self.seen.append(message)
        return message

    def wait_for(
        self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 20
    ) -> dict[str, Any]:
        """The next message (after the last one waited for) that is wanted."""
        while True:
            while self._taken < len(self.seen):
                self._taken += 1
                if wanted(self.seen[self._taken - 1]):
                    return self.seen[self._taken - 1]
            self.receive(timeout_s)

    def pass_over(self) -> None:
        """Wait from now on for what comes only."""
        self._taken = len(self.seen)

    def answer_to(self, request: int | str, timeout_s: float = 20) -> dict[str, Any]:
        """The answer to a request, whenever it came."""
        for message in self.seen:
            if message.get("id") == request and "method" not in message:
                return message
        while True:
            message = self.receive(timeout_s)
            if message.get("id") == request and "method" not in message:
                return message

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request's result; fails on an error."""
        answer = self.answer_to(self.ask(method, params))
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def notification(self, method: str, timeout_s: float = 20, **params: Any) -> dict[str, Any]:
        """The params of the next notification of this method with these params."""

        def wanted(message: dict[str, Any]) -> bool:
            got = message.get("params", {})
            is_it = message.get("method") == method and "id" not in message
            return is_it and all(got.get(key) == value for key, value in params.items())

        found: dict[str, Any] = self.wait_for(wanted, timeout_s)["params"]
        return found

    def seen_of(self, method: str, **params: Any) -> list[dict[str, Any]]:
        """The params of every message of this method, with these params, that has come."""
        found = [entry["params"] for entry in self.seen if entry.get("method") == method]
        return [got for got in found if all(got.get(key) == params[key] for key in params)]

    def start_thread(self) -> str:
        """A new thread's id."""
        thread_id: str = self.call("thread/start", {"cwd": "/"})["thread"]["id"]
        return thread_id

    def start_turn(self, thread_id: str, text: str = "hi") -> str:
        """A new turn's id."""
        params = {"threadId": thread_id, "input": [{"type": "text", "text": text}]}
        turn_id: str = self.call("turn/start", params)["turn"]["id"]
        return turn_id

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError, ConnectionClosed):
            self.socket.close()


def _connect(path: str) -> ClientConnection | None:
    try:
        # Without a bound on what is kept: a test that reads late is not to hold up the server.
        if path.startswith("ws://"):
            connecting = connect(path, max_size=None, max_queue=None, compression=None)
        else:
            connecting = unix_connect(
                path, uri="ws://localhost/", max_size=None, max_queue=None, compression=None
            )
        return connecting.__enter__()
    except (OSError, EOFError):
        return None
