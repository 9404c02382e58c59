"""A model server for whole turns without an account: `POST /v1/responses`, server-sent events.

Codex is pointed at it by `config.toml` (see :func:`write_config`). Each request takes the next
script of the queue, or the default one. Source of the event shapes: codex 0.163, measured.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Reply:
    """One answer of the model: ``deltas`` of text, ``delay_s`` between them; or a call.

    ``call`` is the tool's name, with its namespace before a dot if it has one, and arguments.
    """

    deltas: list[str] = field(default_factory=lambda: ["Hello", ", ", "world"])
    delay_s: float = 0.0
    call: tuple[str, dict[str, Any]] | None = None
    hold: threading.Event | None = None


class ModelServer:
    """Answers on a free port of the loopback until closed; with ``at_once`` in one piece."""

    def __init__(self, default: Callable[[], Reply] = Reply, *, at_once: bool = False) -> None:
        self.default = default
        self._at_once = at_once
        self.queue: deque[Reply] = deque()
        self.requests: list[dict[str, Any]] = []
        self._closing = threading.Event()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._json({"object": "list", "data": [], "models": []})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if not self.path.endswith("/responses"):
                    self._json({})
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                try:
                    for text in model.pieces(body):
                        self.wfile.write(text.encode())
                        self.wfile.flush()
                except OSError:
                    return

            def _json(self, document: dict[str, Any]) -> None:
                data = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def write_config(self, codex_home: Path, **extra: str) -> None:
        """Point codex at this server; ``extra`` are more top-level keys, as TOML values."""
        point_at(codex_home, self.port, **extra)

    def pieces(self, body: bytes) -> Iterator[str]:
        """The response, as it is written."""
        events = (
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in self.answer(body)
        )
        if self._at_once:
            yield "".join(events)
        else:
            yield from events

    def answer(self, body: bytes) -> Iterator[dict[str, Any]]:
        """The events of one response."""
        try:
            self.requests.append(json.loads(body))
        except ValueError:
            self.requests.append({})
        number = len(self.requests)
        reply = self.queue.popleft() if self.queue else self.default()
        yield {"type": "response.created", "response": {"id": f"resp-{number}"}}
        if reply.call is not None:
            yield self._call(reply.call, number)
        else:
            yield from self._message(reply, number)
        usage = {
            "input_tokens": 1,
            "input_tokens_details": None,
            "output_tokens": 1,
            "output_tokens_details": None,
            "total_tokens": 2,
        }
        yield {"type": "response.completed", "response": {"id": f"resp-{number}", "usage": usage}}

    def _call(self, call: tuple[str, dict[str, Any]], number: int) -> dict[str, Any]:
        tool, arguments = call
        namespace, _, name = tool.rpartition(".")
        item = {
            "type": "function_call",
            "call_id": f"call-{number}",
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "arguments": json.dumps(arguments),
        }
        return {"type": "response.output_item.done", "item": item}

    def _message(self, reply: Reply, number: int) -> Iterator[dict[str, Any]]:
        item = {"type": "message", "role": "assistant", "id": f"msg-{number}", "content": []}
        yield {"type": "response.output_item.added", "item": item}
        for delta in reply.deltas:
            self._pause(reply)
            yield {
                "type": "response.output_text.delta",
                "item_id": f"msg-{number}",
                "output_index": 0,
                "content_index": 0,
                "delta": delta,
            }
        if reply.hold is not None:
            while not reply.hold.wait(0.05) and not self._closing.is_set():
                pass
        content = [{"type": "output_text", "text": "".join(reply.deltas)}]
        yield {"type": "response.output_item.done", "item": {**item, "content": content}}

    def _pause(self, reply: Reply) -> None:
        if reply.delay_s and not self._closing.is_set():
            time.sleep(reply.delay_s)

    def close(self) -> None:
        """Stop listening; answers under way end."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def point_at(codex_home: Path, port: int, **extra: str) -> None:
    """Point codex at the model on a port; ``extra`` are more top-level keys, as TOML values."""
    lines = ['model = "mock"', 'model_provider = "mock"']
    lines += [f"{key} = {value}" for key, value in extra.items()]
    lines += [
        "[model_providers.mock]",
        'name = "mock"',
        f'base_url = "http://127.0.0.1:{port}/v1"',
        'wire_api = "responses"',
        "request_max_retries = 0",
        "stream_max_retries = 0",
    ]
    (codex_home / "config.toml").write_text("\n".join(lines) + "\n", "utf-8")
