"""A server that costs next to nothing, for a day of short sessions: ``python -IS day_server.py``.

It speaks as much of the protocol as they need, over stdio: threads that start, are resumed and
archived, and turns that are over at once. Imports nothing that is slow to load.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

_READ = 1 << 16


class Server:
    """Ids are never the same again, over restarts too, as codex's are not."""

    def __init__(self) -> None:
        self._prefix = f"{os.getpid():08x}-{os.urandom(4).hex()}"
        self._count = 0
        self._out: list[str] = []
        self._unread = b""

    def serve(self) -> None:
        """Answer until end of input; what came together is answered together."""
        while data := os.read(0, _READ):
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in filter(None, lines):
                self._take(json.loads(line))
            self._flush()

    def _flush(self) -> None:
        data = "".join(self._out).encode()
        self._out.clear()
        while data:
            data = data[os.write(1, data) :]

    def _take(self, message: dict[str, Any]) -> None:
        request_id, method = message.get("id"), message.get("method")
        if request_id is None or method is None:
            return
        params = message.get("params") or {}
        if method == "thread/start":
            thread = self._thread(f"0199-{self._new()}")
            self._say({"method": "thread/started", "params": {"thread": thread}})
            self._answer(request_id, {"thread": thread, "model": "mock", "cwd": "/"})
        elif method == "thread/resume":
            thread = self._thread(params["threadId"])
            self._answer(request_id, {"thread": thread, "model": "mock", "cwd": "/"})
        elif method == "turn/start":
            self._turn(request_id, params["threadId"])
        elif method == "thread/archive":
            self._answer(request_id, {})
            self._say({"method": "thread/archived", "params": {"threadId": params["threadId"]}})
        else:
            self._answer(request_id, {})

    def _turn(self, request_id: Any, thread_id: str) -> None:
        turn: dict[str, Any] = {
            "id": f"turn-{self._new()}",
            "items": [],
            "status": "inProgress",
            "error": None,
        }
        item = {"type": "agentMessage", "id": f"item-{self._count}", "text": "Done."}
        self._answer(request_id, {"turn": turn})
        named = {"threadId": thread_id, "turnId": turn["id"]}
        self._say({"method": "turn/started", "params": {**named, "turn": turn}})
        self._say({"method": "item/completed", "params": {**named, "item": item}})
        over = {**turn, "status": "completed", "durationMs": 1}
        self._say({"method": "turn/completed", "params": {**named, "turn": over}})

    def _thread(self, thread_id: str) -> dict[str, Any]:
        return {
            "id": thread_id,
            "preview": "",
            "ephemeral": False,
            "cwd": "/",
            "status": {"type": "idle"},
            "turns": [],
        }

    def _new(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def _answer(self, request_id: Any, result: dict[str, Any]) -> None:
        self._say({"id": request_id, "result": result})

    def _say(self, message: dict[str, Any]) -> None:
        self._out.append(f"{json.dumps(message)}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server().serve()
