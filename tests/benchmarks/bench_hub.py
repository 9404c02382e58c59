"""A small request through the hub beside the same request on the child's own socket.

Run it as ``python -m tests.benchmarks.bench_hub``. Both are measured in turns in one run, with
one client, so that what else the machine does falls on both alike.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from tests.support.codex import RawClient, codex_path, short_directory
from tests.support.daemon import DaemonBox

_ROUNDS = 20
_REQUESTS = 200
_WARM_UP = 100


def measure(client: RawClient, requests: int) -> list[float]:
    """Seconds of each of ``requests`` round trips of `thread/loaded/list`."""
    times = []
    for _ in range(requests):
        begun = time.perf_counter()
        answer = client.ask("thread/loaded/list", {"limit": 1})
        times.append(time.perf_counter() - begun)
        if "result" not in answer:
            raise RuntimeError(f"not an answer: {answer}")
    return times


def compare(direct_path: str, hub_path: str) -> tuple[list[float], list[float]]:
    """Round trips in seconds, on the child's own socket and through the hub."""
    direct, hub = RawClient(direct_path), RawClient(hub_path)
    direct_times: list[float] = []
    hub_times: list[float] = []
    try:
        for client in (direct, hub):
            client.initialize()
            measure(client, _WARM_UP)
        for _ in range(_ROUNDS):
            direct_times += measure(direct, _REQUESTS)
            hub_times += measure(hub, _REQUESTS)
    finally:
        direct.close()
        hub.close()
    return direct_times, hub_times


def main() -> None:
    """Start a daemon, compare, and print p50, p99 and the ratio of the p50."""
    with short_directory() as root:
        socket_path = root / "app.sock"
        box = DaemonBox(
            Path(root),
            "--server-endpoint",
            f"unix://{socket_path}",
            "--server-command",
            codex_path(),
        )
        try:
            box.start()
            hub_path = box.config.runtime.hub_socket_path
            direct, hub = compare(str(socket_path), hub_path)
        finally:
            box.clean_up()
    for name, times in (("direct", direct), ("hub", hub)):
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"{name:8} p50 {statistics.median(times) * 1e6:6.0f} us  p99 {p99 * 1e6:6.0f} us")
    print(f"ratio of p50: {statistics.median(hub) / statistics.median(direct):.2f}")


if __name__ == "__main__":
    main()
