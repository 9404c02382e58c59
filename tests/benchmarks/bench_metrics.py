"""What `/metrics` costs: beside `/healthz`, the first time, and while nobody asks.

``python -m tests.benchmarks.bench_metrics``

A scrape is a connection, as Prometheus or `codexd metrics` makes one where it keeps none. The idle
daemon is looked at before anybody asked and after, for what is counted costs as little as what is
not, and what was loaded for the page stays loaded.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from codexd.hub.request_methods import REQUESTS
from tests.benchmarks.raw_client import RawClient
from tests.support.codex import short_directory
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer

_SCRAPES = 300
_IDLE_S = 20.0
_CALM_S = 5.0


def get(path: str, target: str) -> float:
    """Seconds that one request on a connection of its own takes; the answer is a 200."""
    begun = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:100]
    return time.perf_counter() - begun


def compare(title: str, path: str, plugin: psutil.Process) -> None:
    """Print p50 and p99 of both, in turns, and the plugin's processor time for a page."""
    times: dict[str, list[float]] = {"/healthz": [], "/metrics": []}
    used = dict.fromkeys(times, 0.0)
    for _ in range(_SCRAPES):
        for target, measured in times.items():
            before = _cpu_s(plugin)
            measured.append(get(path, target))
            used[target] += _cpu_s(plugin) - before
    for target, measured in times.items():
        p50, p99 = statistics.median(measured), statistics.quantiles(measured, n=100)[98]
        cpu_ms = used[target] / len(measured) * 1e3
        print(
            f"{title}, {target:8} p50 {p50 * 1e3:6.2f} ms  p99 {p99 * 1e3:6.2f} ms  "
            f"plugin's CPU {cpu_ms:.2f} ms"
        )
    ratio = statistics.median(times["/metrics"]) / statistics.median(times["/healthz"])
    print(f"{title}, ratio of p50: {ratio:.1f}")


def idle(title: str, plugin: psutil.Process) -> None:
    """Print wake-ups a second, the share of a core and the memory of a plugin left alone."""
    # What a connection leaves behind is done by then.
    time.sleep(_CALM_S)
    wakes, used = plugin.num_ctx_switches().voluntary, _cpu_s(plugin)
    time.sleep(_IDLE_S)
    wakes = plugin.num_ctx_switches().voluntary - wakes
    share = (_cpu_s(plugin) - used) / _IDLE_S
    memory = plugin.memory_full_info().pss / (1 << 20)
    print(
        f"idle {title}: {wakes / _IDLE_S:.1f} wake-ups/s, {share * 100:.2f} % of a core, "
        f"PSS {memory:.1f} MiB"
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Start a daemon and measure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    model = ModelServer()
    with short_directory() as root:
        box = DaemonBox(Path(root))
        model.write_config(box.codex_home)
        try:
            box.start()
            plugin, path = box.plugin(), box.config.runtime.hub_socket_path
            run: list[Callable[[], None]] = [
                lambda: idle("before anybody asked", plugin),
                lambda: print(f"the first page: {get(path, '/metrics') * 1e3:.1f} ms"),
                lambda: compare("a quiet daemon", path, plugin),
                lambda: _ask_everything(path),
                lambda: compare("every method asked for", path, plugin),
                lambda: idle("after it was asked", plugin),
            ]
            for step in run:
                step()
        finally:
            box.clean_up()
            model.close()


def _ask_everything(path: str) -> None:
    """Have a row for every method there is: with bad params it is answered, and does nothing."""
    client = RawClient(path)
    no_params: Any = 7
    for method in sorted(REQUESTS):
        client.ask(method, no_params)
    client.close()


if __name__ == "__main__":
    main()
