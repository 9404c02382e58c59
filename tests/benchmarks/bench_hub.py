"""The hub beside the child's own socket: a small request, many listeners, and what each costs.

``python -m tests.benchmarks.bench_hub``

Everything is measured in turns in one run on one daemon, so that what else the machine does falls
on both alike. The clients are as lean as a Python client can be (one blocking socket, no thread):
their own time would flatter the ratio.
"""

from __future__ import annotations

import argparse
import select
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.support.codex import codex_path, short_directory
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer, Reply

_ROUNDS = 20
_REQUESTS = 200
_WARM_UP = 100
_LISTENERS = 20
_DELTAS = 2_000
_PATIENCE_S = 60.0


class LeanClient:
    """One WebSocket client on one blocking socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(_PATIENCE_S)
        self.socket.connect(path)
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        self._count = 0
        self.deltas = 0
        self.messages = 0
        self.is_done = False
        while self._protocol.state is not State.OPEN:
            self.receive()
        client = {"name": "bench", "title": None, "version": "0"}
        self.ask("initialize", {"clientInfo": client, "capabilities": {"experimentalApi": True}})

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request; its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        self._protocol.send_text(msgspec.json.encode(message))
        self._flush()
        while True:
            for answer in self.receive():
                if answer.get("id") == self._count and "method" not in answer:
                    result: dict[str, Any] = answer["result"]
                    return result

    def receive(self) -> list[dict[str, Any]]:
        """The messages of what can be read now, waiting for the first byte."""
        self._protocol.receive_data(self.socket.recv(1 << 18))
        messages = [
            msgspec.json.decode(event.data)
            for event in self._protocol.events_received()
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT
        ]
        self.messages += len(messages)
        for message in messages:
            self.deltas += message.get("method") == "item/agentMessage/delta"
            self.is_done = self.is_done or message.get("method") == "turn/completed"
        return messages

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self.socket.sendall(data)


def round_trips(client: LeanClient, requests: int) -> list[float]:
    """Seconds of each of ``requests`` round trips of `thread/loaded/list`."""
    times = []
    for _ in range(requests):
        begun = time.perf_counter()
        client.ask("thread/loaded/list", {"limit": 1})
        times.append(time.perf_counter() - begun)
    return times


def small_requests(direct_path: str, hub_path: str, plugin: psutil.Process) -> None:
    """Print p50 and p99 of both, their ratio, and the hub's processor time for a request."""
    times: dict[str, list[float]] = {"direct": [], "hub": []}
    clients = {"direct": LeanClient(direct_path), "hub": LeanClient(hub_path)}
    for client in clients.values():
        round_trips(client, _WARM_UP)
    cpu_s = 0.0
    for _ in range(_ROUNDS):
        for name, client in clients.items():
            before = _cpu_s(plugin)
            times[name] += round_trips(client, _REQUESTS)
            cpu_s += _cpu_s(plugin) - before if name == "hub" else 0.0
    for name, measured in times.items():
        p99 = statistics.quantiles(measured, n=100)[98]
        p50 = statistics.median(measured)
        print(f"small request, {name:7} p50 {p50 * 1e6:6.0f} us  p99 {p99 * 1e6:6.0f} us")
    ratio = statistics.median(times["hub"]) / statistics.median(times["direct"])
    per_message = cpu_s / (2 * len(times["hub"]))
    print(f"small request, ratio of p50: {ratio:.2f}")
    print(f"small request, hub's CPU for a relayed message: {per_message * 1e6:.0f} us")


def fan_out(name: str, path: str, model: ModelServer, cpu_s: Callable[[], float]) -> None:
    """Print how long it takes until every listener has every delta of a fast turn."""
    clients = [LeanClient(path) for _ in range(_LISTENERS)]
    thread_id = clients[0].ask("thread/start", {"cwd": "/"})["thread"]["id"]
    turn = {"threadId": thread_id, "input": [{"type": "text", "text": "go"}]}
    clients[0].ask("turn/start", turn)
    _until_done(clients[:1])
    for client in clients[1:]:
        client.ask("thread/resume", {"threadId": thread_id, "excludeTurns": True})
    for client in clients:
        client.deltas = client.messages = 0
        client.is_done = False
    model.queue.append(Reply(deltas=["x" * 20] * _DELTAS))
    before, begun = cpu_s(), time.perf_counter()
    clients[0].ask("turn/start", turn)
    _until_done(clients)
    took, used = time.perf_counter() - begun, cpu_s() - before
    counts = {client.deltas for client in clients}
    messages = sum(client.messages for client in clients)
    print(
        f"{_LISTENERS} listeners, {name:7} deltas of each {counts} of {_DELTAS}, {took:.2f} s, "
        f"{messages / took:.0f} messages/s, hub's CPU {used / messages * 1e6:.1f} us a message"
    )
    for client in clients:
        client.socket.close()


def _until_done(clients: list[LeanClient]) -> None:
    waiting = {client.socket: client for client in clients if not client.is_done}
    while waiting:
        readable, _, _ = select.select(list(waiting), [], [], _PATIENCE_S)
        if not readable:
            raise TimeoutError("not every listener has heard the end of the turn")
        for one in readable:
            waiting[one].receive()
            if waiting[one].is_done:
                del waiting[one]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Start a daemon on a unix endpoint and measure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    model = ModelServer()
    with short_directory() as root:
        socket_path = str(root / "app.sock")
        flags = ["--server-endpoint", f"unix://{socket_path}", "--server-command", codex_path()]
        box = DaemonBox(Path(root), *flags)
        model.write_config(box.codex_home)
        try:
            box.start()
            plugin = box.plugin()
            hub_path = box.config.runtime.hub_socket_path
            small_requests(socket_path, hub_path, plugin)
            for _ in range(2):
                fan_out("direct", socket_path, model, lambda: 0.0)
                fan_out("hub", hub_path, model, lambda: _cpu_s(plugin))
        finally:
            box.clean_up()
            model.close()


if __name__ == "__main__":
    main()
