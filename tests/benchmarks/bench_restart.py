"""How long codexd is without a server when it is killed again and again, at the defaults.

``python -m tests.benchmarks.bench_restart [--kills 12] [--apart 2.5]``

From each SIGKILL until the next server answers `initialize`. Beside each kill the same codex is
booted bare: spawned with pipes and asked the same. A ratio of 1.0 means that codexd adds nothing
to that; dying takes a process some milliseconds too, and they count. Everything is on stdio, in
turn, on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from codex_cli_bin import bundled_codex_path

from tests.support.daemon import DaemonBox
from tests.support.waiting import eventually

INITIALIZE = {"clientInfo": {"name": "bench", "title": None, "version": "0"}}


def boot_bare(box: DaemonBox) -> float:
    """Seconds from spawning codex to its answer."""
    request = json.dumps({"id": 1, "method": "initialize", "params": INITIALIZE}).encode()
    begun = time.perf_counter()
    with subprocess.Popen(
        [str(bundled_codex_path()), "app-server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=box.env,
        cwd=box.root,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        took = time.perf_counter() - begun
        process.kill()
    return took


def kill_child(box: DaemonBox) -> tuple[float, float]:
    """Seconds from SIGKILL until the end of the child, and until the next is ready."""
    child = box.wait_ready()
    killed_at = time.time()
    os.kill(child["pid"], signal.SIGKILL)
    # Only a look at one small file, now and then: this process must not take the processor time
    # that is being measured.
    eventually(lambda: _is_ready(box.child(), child["pid"]), what="another child")
    ended, ready = box.events("child.exited")[-1], box.events("child.ready")[-1]
    return _moment(ended) - killed_at, _moment(ready) - killed_at


def _is_ready(child: dict[str, Any] | None, other_than: int) -> bool:
    return child is not None and child["ready"] and child["pid"] != other_than


def _moment(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["createdAt"]).timestamp()


def main() -> None:
    """Print each kill, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--apart", type=float, default=2.5, metavar="SECONDS")
    options = parser.parse_args()
    bare, ended, ready = [], [], []
    with tempfile.TemporaryDirectory(prefix="codexd-bench-", dir=Path.home()) as directory:
        box = DaemonBox(Path(directory))
        try:
            box.start()
            boot_bare(box)
            for number in range(options.kills):
                next_at = time.monotonic() + options.apart
                bare.append(boot_bare(box))
                time.sleep(max(0.0, next_at - time.monotonic()))
                times = kill_child(box)
                ended.append(times[0])
                ready.append(times[1])
                print(
                    f"kill {number + 1:2}: its end on record {times[0] * 1000:6.1f} ms, the next "
                    f"ready {times[1] * 1000:6.1f} ms, bare boot {bare[-1] * 1000:6.1f} ms, "
                    f"ratio {times[1] / bare[-1]:.2f}",
                    flush=True,
                )
        finally:
            box.clean_up()
    print(f"bare boot of codex           {_ms(bare)}")
    print(f"SIGKILL to its end on record {_ms(ended)}")
    print(f"SIGKILL to ready again       {_ms(ready)}")
    print(f"ratio of the medians         {statistics.median(ready) / statistics.median(bare):.2f}")


def _ms(seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * 1000:6.1f} ms (from {low * 1000:.1f} to {high * 1000:.1f})"


if __name__ == "__main__":
    main()
