"""A daemon with a local model behind it, and clients on its hub."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.support.client import AppClient
from tests.support.codex import free_port
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer, Reply
from tests.support.schema import CheckedClient, Schemas
from tests.support.waiting import eventually

ENDPOINTS = ("stdio", "unix", "ws")


class HubRoom:
    """One daemon; every client's messages are checked against the schema."""

    def __init__(
        self,
        schemas: Schemas,
        *flags: str,
        endpoint: str = "stdio",
        **config: str,
    ) -> None:
        self._schemas = schemas
        self.endpoint = endpoint
        # A short path: sockets are below it.
        self.root = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
        self.child_socket = str(self.root / "child.sock")
        self.model = ModelServer()
        self.clients: list[AppClient] = []
        self.box = DaemonBox(self.root, *self._endpoint_flags(endpoint), *flags)
        self.model.write_config(self.box.codex_home, **config)
        try:
            self.box.start()
        except BaseException:
            self.close()
            raise

    def _endpoint_flags(self, kind: str) -> list[str]:
        if kind == "stdio":
            return []
        url = f"unix://{self.child_socket}" if kind == "unix" else f"ws://127.0.0.1:{free_port()}"
        return ["--server-endpoint", url]

    @property
    def hub_socket(self) -> str:
        """codexd.sock."""
        return str(self.box.state_dir / "run" / "codexd.sock")

    def client(
        self, name: str = "test", *, path: str | None = None, initialize: bool = True
    ) -> AppClient:
        """A client of the hub (or of the socket at ``path``)."""
        client = CheckedClient(self._schemas, path or self.hub_socket, name, initialize=initialize)
        self.clients.append(client)
        return client

    def hold_turn(self, *deltas: str) -> Reply:
        """The model's next reply; it ends only when its ``hold`` is set."""
        reply = Reply(deltas=list(deltas or ("thinking",)), hold=threading.Event())
        self.model.queue.append(reply)
        return reply

    @property
    def child_pid(self) -> int:
        """The child's process."""
        child = self.box.child()
        assert child is not None
        assert child["pid"] is not None
        return int(child["pid"])

    def kill_child(self) -> int:
        """SIGKILL the child; its pid."""
        pid = self.child_pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def control(self, action: str) -> None:
        """Start or stop the child by hand."""
        self.box.order(action)

    def live(self) -> dict[str, Any]:
        """What `status` says of the hub, from the hub itself."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.hub_socket)
        connection.request("GET", "/v1/status")
        document: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return document

    def event(self, type_: str, **detail: Any) -> dict[str, Any]:
        """The first event of this type with these details, once it is there."""

        def look() -> dict[str, Any] | None:
            for event in self.box.events(type_):
                got = event["detail"] or {}
                if all(got.get(key) == value for key, value in detail.items()):
                    return event
            return None

        return eventually(look, what=f"an event {type_} {detail}")

    def session(self, thread_id: str) -> dict[str, Any] | None:
        """The newest session of a thread in the registry."""
        registry = self.box.read("session-registry.json") or {"sessions": []}
        found = [entry for entry in registry["sessions"] if entry["threadId"] == thread_id]
        return found[-1] if found else None

    def forget_clients(self) -> None:
        """Hang up for all of them."""
        for client in self.clients:
            client.close()
        self.clients.clear()

    def close(self) -> None:
        """End everything, whatever happened."""
        self.forget_clients()
        self.box.clean_up()
        self.model.close()
        shutil.rmtree(self.root, ignore_errors=True)
