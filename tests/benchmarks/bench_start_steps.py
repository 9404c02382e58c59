"""From `codexd start` until it says that the server is ready, beside a bare boot of that server.

``python -m tests.benchmarks.bench_start_steps [--runs 9] [--floor] [--code DIR]``

Run in turn: codex booted bare (spawned with pipes, `initialize` sent, its answer read), and codexd
started in a directory of its own, at the defaults. Both times are from before the fork. Of codexd
also the moments in between, as events.jsonl has them, and the processor time of its two processes
up to then. Byte code is kept, as an installed codexd has it.

``--floor``: also a bare circusd with a plugin that does nothing but ask it one thing, until that
plugin has its answer. ``--code``: where another codexd is, run in turn with this one.

On a machine that others use, `chrt -r 1` before all of it makes times that mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil

from tests.benchmarks.boot import BareBoot
from tests.support.daemon import DaemonBox

ROOT = Path(__file__).resolve().parents[2]
READY = b"the server is ready"
FLOOR_INI = """\
[circus]
check_delay = 5
endpoint = ipc://{root}/circus.sock
pubsub_endpoint = ipc://{root}/events.sock
multicast_endpoint =
[watcher:sleep]
cmd = sleep 60
[plugin:bare]
use = bare_plugin.Bare
working_dir = {root}
"""
FLOOR_PLUGIN = """\
from circus.plugins import CircusPlugin
class Bare(CircusPlugin):
    name = "bare"
    def initialize(self):
        super().initialize()
        self.call("list")
        open({path!r}, "w").close()
    def handle_recv(self, data):
        pass
"""
FLOOR_CIRCUSD = "import sys; sys.path.insert(0, {root!r}); from circus.circusd import main; main()"


class Started:
    """One start: seconds to each moment, and processor time in seconds until it was ready."""

    def __init__(self, moments: dict[str, float], cpu: dict[str, float]) -> None:
        self.moments = moments
        self.cpu = cpu


def start_codexd(code: str) -> Started:
    """Start the daemon that is in the directory ``code``, wait for its word, stop it."""
    with _directory() as root:
        box = DaemonBox(root, env={"PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": code})
        command = [sys.executable, "-m", "codexd", "start", *box.flags]
        begun, begun_wall = time.perf_counter(), time.time()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=box.env,
            cwd=root,
        )
        try:
            assert process.stderr is not None
            said = b""
            while READY not in said:
                said = process.stderr.readline()
                assert said, "the daemon ended"
            told = time.perf_counter() - begun
            moments = {
                event["type"]: datetime.fromisoformat(event["createdAt"]).timestamp() - begun_wall
                for event in box.events()
            }
            return Started({**moments, "told": told}, _processor_time(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            assert process.stderr is not None
            process.stderr.close()


def start_floor() -> float:
    """Seconds from starting circusd until a bare plugin has an answer of it."""
    with _directory() as root:
        heard = root / "heard"
        (root / "bare_plugin.py").write_text(FLOOR_PLUGIN.format(path=str(heard)))
        (root / "circus.ini").write_text(FLOOR_INI.format(root=root))
        command = [
            sys.executable,
            "-c",
            FLOOR_CIRCUSD.format(root=str(root)),
            str(root / "circus.ini"),
        ]
        begun = time.perf_counter()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(root)},
            cwd=root,
        ) as process:
            try:
                while not heard.exists():
                    assert process.poll() is None
                    time.sleep(0.001)
                return time.perf_counter() - begun
            finally:
                process.send_signal(signal.SIGTERM)


def _processor_time(pid: int) -> dict[str, float]:
    """Seconds of processor time of the daemon's own processes, by what they are."""
    daemon = psutil.Process(pid)
    plugins = [child for child in daemon.children() if "codexd" in " ".join(child.cmdline())]
    used = {"circusd": _ran(pid), "plugin": sum(_ran(plugin.pid) for plugin in plugins)}
    return {**used, "both": sum(used.values())}


def _ran(pid: int) -> float:
    # Nanoseconds, where /proc/PID/stat has hundredths of a second.
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="codexd-bench-", dir=Path.home()) as directory:
        yield Path(directory)


def bare(root: Path) -> float:
    """Seconds of a bare boot of codex."""
    return BareBoot(root, DaemonBox(root).env).seconds()


def arguments() -> argparse.ArgumentParser:
    """What may be given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--floor", action="store_true", help="a bare circusd and plugin")
    parser.add_argument("--code", action="append", default=[], metavar="DIR")
    return parser


def main() -> None:
    """Print medians."""
    options = arguments().parse_args()
    codes = [*options.code, str(ROOT)]
    bares: list[float] = []
    floors: list[float] = []
    starts: dict[str, list[Started]] = {code: [] for code in codes}
    for code in codes:
        start_codexd(code)
    for _ in range(options.runs):
        with _directory() as root:
            bares.append(bare(root))
        for code in codes:
            starts[code].append(start_codexd(code))
        if options.floor:
            floors.append(start_floor())
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"bare boot                {_ms(bares)}")
    for code, runs in starts.items():
        print(code)
        for moment in runs[0].moments:
            print(f"  {moment:22} {_ms([run.moments.get(moment, 0.0) for run in runs])}")
        for process in runs[0].cpu:
            print(f"  processor time {process:7} {_ms([run.cpu[process] for run in runs])}")
        told = [run.moments["told"] for run in runs]
        print(f"  ratio of the medians   {statistics.median(told) / statistics.median(bares):.2f}")
        print(f"  ratio of the least     {min(told) / min(bares):.2f}")
    if floors:
        print(f"circusd, a bare plugin   {_ms(floors)}")


def _ms(seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * 1000:6.1f} ms (from {low * 1000:.1f} to {high * 1000:.1f})"


if __name__ == "__main__":
    main()
