"""How much the memory costs: a child that floods its output, and what reaches the disk.

``python -m tests.benchmarks.bench_output [--mb 200] [--runs 3]``

Each command runs into a file first (``COMMAND > file``, the baseline) and then through a pipe,
the capture, the event log and the state files as in the plugin; both on the same file system,
one after the other. A ratio of 1.0 is as fast as the plain file, 2.0 takes twice as long.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from codexd.child.pipes import ChildPipes, pipe_path
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture
from codexd.eventlog.log import EventLog
from codexd.keeper.outputs import BURST_S
from codexd.store.state import Flusher, StateStore
from tests.support.memory import config_at

SHORT_LINES = """
import sys
block = b"".join(b"line %d of a child that talks a lot\\n" % n for n in range(1000))
left = int(sys.argv[1]) * 1000000
while left > 0:
    left -= sys.stdout.buffer.write(block)
"""
LONG_LINES = """
import sys
line = b"x" * 9999999 + b"\\n"
for _ in range(max(int(sys.argv[1]) // 10, 1)):
    sys.stdout.buffer.write(line)
"""
UNBUFFERED = """
import os, sys
for n in range(int(sys.argv[1]) * 1000000 // 40):
    os.write(1, b"%039d\\n" % n)
"""
CHILDREN = {
    "short lines": SHORT_LINES,
    "10 MB lines": LONG_LINES,
    "short lines, one write each": UNBUFFERED,
}


@dataclass(slots=True)
class Run:
    """One run through the capture."""

    seconds: float
    output_bytes: int
    disk_bytes: int
    writes: int
    events: int
    grown_kib: int


def into_file(command: list[str], directory: Path) -> float:
    """Seconds of ``COMMAND > file``."""
    path = directory / "plain.log"
    begun = time.perf_counter()
    with open(path, "wb") as file:
        subprocess.run(command, stdout=file, check=True)
    took = time.perf_counter() - begun
    path.unlink()
    return took


def io_counters() -> tuple[int, int]:
    """Bytes that this process caused to be written to the disk, and its write calls."""
    try:
        text = Path("/proc/self/io").read_text()
    except OSError:
        return 0, 0
    fields = dict(line.split(": ") for line in text.splitlines())
    return int(fields["write_bytes"]), int(fields["syscw"])


def peak_kib() -> int:
    """The most memory this process ever had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


class Plugin:
    """The parts of the plugin that write, on a loop of their own."""

    def __init__(self, directory: Path) -> None:
        self.config = config_at(directory)
        paths, policy = self.config.paths, self.config.policy
        self.events = EventLog(
            paths.structured_event_log_path,
            paths.recent_events_path,
            max_bytes=policy.log_max_bytes,
            backups=policy.log_backups,
            cache_size=self.config.event_cache_size,
        )
        self.store = StateStore.open(self.config, recent=self.events.recent_record)
        self.events.subscribe(self.store.event_recorded)
        self.flusher = Flusher(self.store)
        self.flusher.start()
        self.recorded = 0
        self.moved = 0
        log = AppendLog(
            paths.stdout_log_path, max_bytes=policy.log_max_bytes, backups=policy.log_backups
        )
        self.capture = OutputCapture(log, on_burst=self.tell, on_lost=print)

    def tell(self, burst: Burst) -> None:
        self.recorded += 1
        self.events.record(
            "info", "child.stdout", f"stdout: {burst.preview}", burst.detail("stdout")
        )

    async def run(self, command: list[str]) -> None:
        """Run ``command`` with its output in a named pipe, as circusd runs a child."""
        loop = asyncio.get_running_loop()
        runtime_dir = self.config.runtime.runtime_dir
        pipes = ChildPipes.create(runtime_dir, 1)
        reading = os.open(pipe_path(runtime_dir, 1, "stdout"), os.O_RDONLY | os.O_NONBLOCK)

        def pump() -> None:
            self.moved += self.capture.pump(reading)

        loop.add_reader(reading, pump)
        ticker = asyncio.ensure_future(self._tick())
        process = await asyncio.create_subprocess_exec(*command, stdout=pipes.stdout)
        assert await process.wait() == 0
        pump()
        loop.remove_reader(reading)
        ticker.cancel()
        os.close(reading)
        pipes.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(BURST_S)
            burst = self.capture.take_burst()
            if burst is not None:
                self.tell(burst)

    def close(self) -> None:
        self.capture.close()
        self.flusher.stop()
        self.events.close()


def through_capture(command: list[str], directory: Path) -> Run:
    """One run; call it in a process of its own, whose counters it reads."""
    plugin = Plugin(directory)
    memory = peak_kib()
    disk, writes = io_counters()
    begun = time.perf_counter()
    asyncio.run(plugin.run(command))
    took = time.perf_counter() - begun
    plugin.close()
    disk_after, writes_after = io_counters()
    return Run(
        seconds=took,
        output_bytes=plugin.moved,
        disk_bytes=disk_after - disk,
        writes=writes_after - writes,
        events=plugin.recorded,
        grown_kib=peak_kib() - memory,
    )


def cost_of_events(count: int, directory: Path) -> Run:
    """Record events as fast as it goes, with the state files written beside them."""
    plugin = Plugin(directory)
    memory = peak_kib()
    disk, writes = io_counters()
    begun = time.perf_counter()
    for number in range(count):
        plugin.events.record("info", "turn.started", "A turn began.", {"threadId": str(number)})
    took = time.perf_counter() - begun
    plugin.close()
    disk_after, writes_after = io_counters()
    size = Path(plugin.config.paths.structured_event_log_path).stat().st_size
    return Run(took, size, disk_after - disk, writes_after - writes, count, peak_kib() - memory)


def in_a_process(work: Callable[[Path], Run], directory: Path) -> Run:
    """``work`` in a forked process, so that memory and counters are those of one run."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                run = work(Path(place))
                values = (getattr(run, name) for name in Run.__slots__)
                os.write(writing, " ".join(map(str, values)).encode())
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading, "rb") as result:
            fields = result.read().split()
        assert os.waitpid(pid, 0)[1] == 0
    return Run(float(fields[0]), *map(int, fields[1:]))


def bench(name: str, source: str, megabytes: int, runs: int, directory: Path) -> None:
    command = [sys.executable, "-c", source, str(megabytes)]
    plain: list[float] = []
    captured: list[Run] = []
    for _ in range(runs):
        plain.append(into_file(command, directory))
        captured.append(in_a_process(partial(through_capture, command), directory))
    baseline = statistics.median(plain)
    run = sorted(captured, key=lambda entry: entry.seconds)[len(captured) // 2]
    print(
        f"| {name} | {baseline:.2f} s | {run.seconds:.2f} s | {run.seconds / baseline:.2f} "
        f"| {run.disk_bytes / run.output_bytes:.3f} | {run.events} "
        f"| {run.grown_kib / 1024:.1f} MB |"
    )


def main() -> None:
    """Print both tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200, help="output of each child in MB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dir", default=".", help="a directory on the file system to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as place:
        directory = Path(place)
        print(
            f"| {arguments.mb} MB of output | > file | captured | ratio "
            "| bytes to disk per byte | events | memory grown |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, source in CHILDREN.items():
            bench(name, source, arguments.mb, arguments.runs, directory)
        print()
        print("| events | each | writes per event | bytes to disk per byte | memory grown |")
        print("| --- | --- | --- | --- | --- |")
        for count in (1_000, 10_000, 100_000):
            run = in_a_process(partial(cost_of_events, count), directory)
            print(
                f"| {count} | {run.seconds / count * 1e6:.1f} µs | {run.writes / count:.3f} "
                f"| {run.disk_bytes / run.output_bytes:.2f} | {run.grown_kib / 1024:.1f} MB |"
            )


if __name__ == "__main__":
    main()
