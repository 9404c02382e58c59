"""The hub beside the server's own socket: a small request, a fast turn to many, and what it costs.

``python -m tests.benchmarks.bench_hub``

In turns on one machine: a bare codex on a Unix socket, a byte relay on uvloop before it, a codexd
at its defaults (its server on stdio) and one whose server is on a Unix socket. The clients are
sockets and bytes: the time of a client falls on all alike, and would flatter the ratio.
"""

from __future__ import annotations

import contextlib
import selectors
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from tests.benchmarks.command import alone
from tests.benchmarks.raw_client import Listener, RawClient, first_answer
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, rotated
from tests.support.codex import codex_path
from tests.support.daemon import daemon_box
from tests.support.figures import cpu_s
from tests.support.model import point_at

_ROUNDS: Final = 20
_REQUESTS: Final = 300
# Of those to few clients more: a short one tells less.
_TURNS: Final = {1: 15, 20: 7, 50: 5}
_DELTAS: Final = 1000
_PATIENCE_S: Final = 60.0
_DIRECT: Final = "direct"
_RELAY: Final = "uvloop relay"
_RELAY_PROGRAM: Final = Path(__file__).with_name("relay.py")


def _request_row(endpoint: str, what: str) -> Row:
    return Row(
        f"request.{endpoint}.{what}",
        f"small request, server on {endpoint}, {what}",
        "µs",
        (_DIRECT, _RELAY),
        (Mark(1.5, _DIRECT),),
    )


REQUESTS: Final = tuple(
    _request_row(endpoint, what) for endpoint in ("stdio", "unix") for what in ("p50", "p99")
)
CPU_MESSAGE: Final = Row(
    "cpu.message", "plugin's processor time, a small relayed message", "µs", (_RELAY,), (Mark(30),)
)
DELTAS: Final = {
    count: Row(
        f"deltas.{count}",
        f"deltas of a fast turn, all of {count} client{'s' * (count > 1)}",
        "/s",
        (_DIRECT,),
        (Mark(least, _DIRECT, is_least=True),),
    )
    for count, least in ((1, 1.0), (20, 2.0), (50, 2.0))
}
CPU_LISTENER: Final = Row(
    "cpu.listener", "plugin's processor time, a further listener of a message", "µs", (), (Mark(3),)
)


@contextlib.contextmanager
def bare_server(scene: Scene, port: int) -> Iterator[str]:
    """A codex of nobody; its socket."""
    root = scene.place("direct")
    point_at(root, port)
    path = str(root / "app.sock")
    with scene.helper(codex_path(), "app-server", "--listen", f"unix://{path}", home=root):
        first_answer(path)
        yield path


@contextlib.contextmanager
def relay(scene: Scene, target: str) -> Iterator[tuple[str, psutil.Process] | None]:
    """A relay before a socket, where uvloop can be had; its own socket and process."""
    why = scene.peers.missing.get(_RELAY)
    if why is not None:
        scene.miss(_RELAY, why, (*REQUESTS, CPU_MESSAGE))
        yield None
        return
    path = str(scene.place("relay") / "relay.sock")
    with scene.helper(str(scene.peers.python), str(_RELAY_PROGRAM), path, target) as process:
        first_line(process)
        yield path, psutil.Process(process.pid)


@contextlib.contextmanager
def model(scene: Scene) -> Iterator[int]:
    """A model in a process of its own; its port."""
    with scene.helper(sys.executable, "-m", "tests.benchmarks.model_process") as process:
        yield int(first_line(process))


def first_line(process: subprocess.Popen[bytes]) -> str:
    """What a process says once it is there."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line, f"process {process.pid} has ended"
    return line


@contextlib.contextmanager
def daemon(scene: Scene, port: int, endpoint: str = "") -> Iterator[tuple[str, psutil.Process]]:
    """A codexd; codexd.sock and the plugin."""
    root = scene.place("codexd")
    flags = ["--server-endpoint", f"unix://{root}/app.sock"] if endpoint == "unix" else []
    with daemon_box(root, "--server-command", codex_path(), *flags) as box:
        point_at(box.codex_home, port)
        box.start()
        yield box.config.runtime.hub_socket_path, box.plugin()


# -- a small request -------------------------------------------------------------------------------


def requests(scene: Scene) -> None:
    """Blocks of requests in turns; of each its p50 and p99."""
    scene.begin("small requests")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(model(scene))
        direct = stack.enter_context(bare_server(scene, port))
        stdio, plugin = stack.enter_context(daemon(scene, port))
        unix, _ = stack.enter_context(daemon(scene, port, "unix"))
        paths = {"direct": direct, "stdio": stdio, "unix": unix}
        relays = {"stdio": (OURS, plugin)}
        relayed = stack.enter_context(relay(scene, direct))
        if relayed is not None:
            paths["relay"], process = relayed
            relays["relay"] = (_RELAY, process)
        clients = {name: RawClient(path) for name, path in paths.items()}
        for client in clients.values():
            stack.callback(client.close)
            block(client)
        for number in scene.rounds(_ROUNDS, quick=4):
            times = {}
            for name in rotated(list(clients), number):
                side, process = relays.get(name, ("", plugin))
                before = cpu_s(process)
                times[name] = block(clients[name])
                if side:
                    used_s = cpu_s(process) - before
                    scene.take(CPU_MESSAGE.name, side, used_s / (2 * _REQUESTS) * 1e6)
            _take_block(scene, times)


def block(client: RawClient) -> list[float]:
    """Microseconds of each of some requests."""
    times = []
    for _ in range(_REQUESTS):
        begun = time.perf_counter()
        client.ask("thread/loaded/list", {"limit": 1})
        times.append((time.perf_counter() - begun) * 1e6)
    return times


def _take_block(scene: Scene, times: dict[str, list[float]]) -> None:
    for endpoint in ("stdio", "unix"):
        for side, name in ((OURS, endpoint), (_DIRECT, "direct"), (_RELAY, "relay")):
            if name in times:
                p99 = statistics.quantiles(times[name], n=100)[98]
                scene.take(f"request.{endpoint}.p50", side, statistics.median(times[name]))
                scene.take(f"request.{endpoint}.p99", side, p99)


# -- a fast turn --------------------------------------------------------------------------------


def deltas(scene: Scene) -> None:
    """Turns to one client, to twenty and to fifty, on both sides in turns."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(model(scene))
        direct = stack.enter_context(bare_server(scene, port))
        hub, plugin = stack.enter_context(daemon(scene, port))
        used: dict[int, list[float]] = {}
        for count, row in DELTAS.items():
            scene.begin(f"a fast turn to {count}")
            with Audience(hub, count) as ours, Audience(direct, count) as theirs:
                for audience in (ours, theirs):
                    audience.turn(_DELTAS)
                for number in scene.rounds(_TURNS[count], quick=2):
                    for side, audience in rotated([(OURS, ours), (_DIRECT, theirs)], number):
                        before = cpu_s(plugin)
                        scene.take(row.name, side, audience.turn(_DELTAS))
                        if side == OURS:
                            used.setdefault(count, []).append(cpu_s(plugin) - before)
        _take_listeners(scene, used)


def _take_listeners(scene: Scene, used: dict[int, list[float]]) -> None:
    few, many = min(used), max(used)
    alone_s = statistics.median(used[few])
    for one in used[many]:
        each = (one - alone_s) / ((many - few) * _DELTAS)
        scene.take(CPU_LISTENER.name, OURS, each * 1e6)


@dataclass
class Audience:
    """Clients that are all on one thread."""

    path: str
    count: int

    def __enter__(self) -> Audience:
        self.clients = [Listener(self.path) for _ in range(self.count)]
        started = self.clients[0].ask("thread/start", {"cwd": "/"})
        self.thread_id = msgspec.json.decode(started)["thread"]["id"]
        # A thread can be resumed once it has had a turn.
        self._run(self.clients[:1], 1)
        for client in self.clients[1:]:
            client.ask("thread/resume", {"threadId": self.thread_id, "excludeTurns": True})
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()

    def turn(self, count: int) -> float:
        """Have a turn of so many deltas; deltas a second, of all clients together."""
        took = self._run(self.clients, count)
        heard = [client.deltas for client in self.clients]
        assert heard == [count] * self.count, f"{min(heard)} to {max(heard)} of {count} deltas"
        return sum(heard) / took

    def _run(self, clients: list[Listener], count: int) -> float:
        for client in clients:
            client.begin()
        text = [{"type": "text", "text": f"{count} deltas"}]
        params: dict[str, Any] = {"threadId": self.thread_id, "input": text}
        begun = time.perf_counter()
        clients[0].send({"id": "turn", "method": "turn/start", "params": params})
        with selectors.DefaultSelector() as waiting:
            for client in clients:
                waiting.register(client.socket, selectors.EVENT_READ, client)
            while waiting.get_map():
                readable = waiting.select(_PATIENCE_S)
                if not readable:
                    raise TimeoutError("not every client has heard the end of the turn")
                for key, _ in readable:
                    key.data.hear()
                    if key.data.is_done:
                        waiting.unregister(key.fileobj)
        return time.perf_counter() - begun


BENCHES: Final = (
    Bench((*REQUESTS, CPU_MESSAGE), requests),
    Bench((*DELTAS.values(), CPU_LISTENER), deltas),
)

if __name__ == "__main__":
    alone(BENCHES)
