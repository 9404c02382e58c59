"""HTTP on codexd.sock: what a status costs, and a thousand who follow the events.

``python -m tests.benchmarks.bench_api``

The status is asked for in turn with `/healthz`, which is the floor of the machine and of the
client. The events are those of clients that come and go, from processes of their own.
"""

from __future__ import annotations

import argparse
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.benchmarks.bench_hub import LeanClient
from tests.support.codex import short_directory
from tests.support.daemon import DaemonBox

_ROUNDS = 10
_REQUESTS = 100
_STREAMS = 1000
_EVENTS_PER_S = 200
_SECONDS = 10.0
_PATIENCE_S = 60.0
_STUB = Path(__file__).resolve().parents[1] / "support" / "stub_app_server.py"
_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")


class Stream:
    """One follower on one socket; ``last`` is the number of the last event, ``lost`` the gaps."""

    def __init__(self, path: str, since: int) -> None:
        self.socket = _connect(path)
        request = f"GET /v1/events?since={since} HTTP/1.1\r\nHost: x\r\n"
        self.socket.sendall(f"{request}Accept: text/event-stream\r\n\r\n".encode())
        self.last = since
        self.lost = self.repeated = 0
        self._rest = b""

    def take(self) -> None:
        """What can be read now."""
        data = self._rest + self.socket.recv(1 << 18)
        whole = data.rfind(b"\n\n")
        for found in _ID.findall(data[: whole + 1]):
            seq = int(found)
            self.lost += max(seq - self.last - 1, 0)
            self.repeated += seq <= self.last
            self.last = max(seq, self.last)
        self._rest = data[whole + 1 :]


def _connect(path: str) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(_PATIENCE_S)
    connected.connect(path)
    return connected


class Asker:
    """One kept connection for requests that are answered whole."""

    def __init__(self, path: str) -> None:
        self._socket = _connect(path)

    def ask(self, target: str) -> bytes:
        """The body of the answer."""
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 18)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        while len(body) < int(length[1]):
            body += self._socket.recv(1 << 18)
        return body


def requests(path: str) -> None:
    """Print p50 and p99 of a status and of the least there is."""
    asker, times = Asker(path), {"/healthz": [0.0][:0], "/v1/status": [0.0][:0]}
    for target in times:
        for _ in range(_REQUESTS):
            asker.ask(target)
    for _ in range(_ROUNDS):
        for target, measured in times.items():
            for _ in range(_REQUESTS):
                begun = time.perf_counter()
                asker.ask(target)
                measured.append(time.perf_counter() - begun)
    for target, measured in times.items():
        p50, p99 = statistics.median(measured), statistics.quantiles(measured, n=100)[98]
        print(f"{target:12} p50 {p50 * 1e6:6.0f} us  p99 {p99 * 1e6:6.0f} us")


def come_and_go(path: str) -> None:
    """Two events a visit, until the time is over: run in a process of its own."""
    begun, visits = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < _SECONDS:
        if visits * 2 < now * _EVENTS_PER_S:
            LeanClient(path).socket.close()
            visits += 1
        else:
            time.sleep(0.002)


def _newest(path: str) -> int:
    connected = _connect(path)
    connected.sendall(b"HEAD /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = b""
    while data := connected.recv(1 << 16):
        head += data
    found = re.search(rb"(?i)codexd-newest-event: (\d+)", head)
    assert found is not None
    return int(found[1])


def streams(path: str, plugin: psutil.Process) -> None:
    """Print what is lost, how late the last is, and what it costs the plugin."""
    before = plugin.memory_full_info().pss
    first = _newest(path)
    followers = [Stream(path, first) for _ in range(_STREAMS)]
    poll = select.epoll()
    by_descriptor = {follower.socket.fileno(): follower for follower in followers}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    cpu_s = sum(plugin.cpu_times()[:2])
    code = f"from tests.benchmarks import bench_api; bench_api.come_and_go({path!r})"
    visitors = subprocess.Popen([sys.executable, "-c", code])
    begun, most, last, ended_at = time.perf_counter(), 0, None, 0.0
    looked_at = begun
    while last is None or any(follower.last < last for follower in followers):
        for descriptor, _ in poll.poll(0.1):
            by_descriptor[descriptor].take()
        now = time.perf_counter()
        if now - looked_at > 1.0:
            most, looked_at = max(most, plugin.memory_full_info().pss), now
        if last is None and visitors.poll() is not None:
            last, ended_at = _newest(path), time.perf_counter()
        if last is not None and now - ended_at > _PATIENCE_S:
            break
    took = time.perf_counter() - begun
    used = sum(plugin.cpu_times()[:2]) - cpu_s
    count = max(follower.last for follower in followers) - first
    lost = sum(count - (follower.last - first) + follower.lost for follower in followers)
    repeated = sum(follower.repeated for follower in followers)
    print(
        f"{len(followers)} streams, {count} events in {took:.1f} s ({count / took:.0f}/s): "
        f"{lost} lost, {repeated} repeated, the last one {time.perf_counter() - ended_at:.2f} s "
        f"after the end; plugin +{(most - before) / (1 << 20):.1f} MiB, {used / took:.0%} of a core"
    )


def main() -> None:
    """Start a daemon on a stub and measure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with short_directory() as root:
        flags = ["--server-command", sys.executable]
        flags += [f"--server-arg={word}" for word in ("-IS", str(_STUB), "app-server")]
        box = DaemonBox(Path(root), *flags)
        try:
            box.start()
            path = box.config.runtime.hub_socket_path
            requests(path)
            streams(path, box.plugin())
        finally:
            box.clean_up()


if __name__ == "__main__":
    main()
