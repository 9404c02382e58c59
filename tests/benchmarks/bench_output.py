"""How much the memory costs: a child that floods its output, and what reaches the disk.

``python -m tests.benchmarks.bench_output``

Each command runs into a file (``COMMAND > file``, the baseline) and through a pipe, the capture,
the event log and the state files as in the plugin; both on the same file system, in turns. A ratio
of 1.0 is as fast as the plain file, 2.0 takes twice as long. Beside both stands a pipe that the
kernel empties into a file: who holds a child's output in a pipe cannot be quicker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from codexd.child.pipes import ChildPipes, pipe_path, stage_path
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture
from codexd.eventlog.log import EventLog
from codexd.eventlog.stage import Stage
from codexd.keeper.outputs import BURST_S
from codexd.platform.pipes import set_pipe_capacity
from codexd.store.state import Flusher, StateStore
from tests.benchmarks.command import alone
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, rotated
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
_FILE: Final = "> file"
_PIPE: Final = "pipe > file"
_RUNS: Final = 9
_MEGABYTES: Final = 200
# As much as the pipe of a child holds.
_PIPE_BYTES: Final = 1 << 20
_MEGABYTE: Final = 1_000_000


def _row(name: str, title: str) -> Row:
    title = f"200 MB of output, {title}"
    return Row(f"output.{name}", title, "ms", (_FILE, _PIPE), (Mark(1.4, _FILE),))


CHILDREN: Final = {
    _row("short", "short lines"): SHORT_LINES,
    _row("long", "10 MB lines"): LONG_LINES,
}


def into_file(command: list[str], directory: Path) -> float:
    """Milliseconds of ``COMMAND > file``."""
    path = directory / "plain.log"
    begun = time.perf_counter()
    with open(path, "wb") as file:
        subprocess.run(command, stdout=file, check=True, env=_env(directory))
    took = (time.perf_counter() - begun) * 1000
    path.unlink()
    return took


def through_pipe(command: list[str], directory: Path) -> float:
    """Milliseconds of a pipe, emptied into a file and nothing else."""
    path = directory / "pipe.log"
    reading, writing = os.pipe()
    set_pipe_capacity(writing, _PIPE_BYTES)
    begun = time.perf_counter()
    with (
        open(reading, "rb", buffering=0) as pipe,
        open(path, "wb", buffering=0) as file,
        subprocess.Popen(command, stdout=writing, env=_env(directory)),
    ):
        os.close(writing)
        while _move(pipe.fileno(), file.fileno()):
            pass
    took = (time.perf_counter() - begun) * 1000
    path.unlink()
    return took


def _move(pipe: int, file: int) -> int:
    if sys.platform == "linux":
        return os.splice(pipe, file, _PIPE_BYTES)
    return os.write(file, os.read(pipe, 1 << 16))


def _env(directory: Path) -> dict[str, str]:
    """By which what is run is found, should this end before it."""
    return {**os.environ, "CODEX_HOME": str(directory)}


class Plugin:
    """The parts of the plugin that write, on a loop of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
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
        self.moved = 0
        log = AppendLog(
            paths.stdout_log_path, max_bytes=policy.log_max_bytes, backups=policy.log_backups
        )
        self.capture = OutputCapture(log, on_burst=self.tell, on_lost=print)

    def tell(self, burst: Burst) -> None:
        self.events.record(
            "info", "child.stdout", f"stdout: {burst.preview}", burst.detail("stdout")
        )

    async def run(self, command: list[str]) -> None:
        """Run ``command`` with its output in a named pipe, as circusd runs a child."""
        loop = asyncio.get_running_loop()
        runtime_dir = self.config.runtime.runtime_dir
        pipes = ChildPipes.create(runtime_dir, 1)
        reading = os.open(pipe_path(runtime_dir, 1, "stdout"), os.O_RDONLY | os.O_NONBLOCK)
        stage = Stage(stage_path(runtime_dir, 1, "stdout")) if sys.platform == "linux" else None

        def pump() -> None:
            self.moved += self.capture.pump(reading, stage=stage)

        loop.add_reader(reading, pump)
        ticker = asyncio.ensure_future(self._tick())
        process = await asyncio.create_subprocess_exec(
            *command, stdout=pipes.stdout, env=_env(self.directory)
        )
        assert await process.wait() == 0
        pump()
        loop.remove_reader(reading)
        ticker.cancel()
        os.close(reading)
        if stage is not None:
            stage.close()
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


def through_capture(command: list[str], directory: Path) -> tuple[float, int]:
    """Milliseconds of one run, and how many bytes went through."""
    plugin = Plugin(directory)
    begun = time.perf_counter()
    asyncio.run(plugin.run(command))
    took = (time.perf_counter() - begun) * 1000
    plugin.close()
    return took, plugin.moved


def in_a_process(command: list[str], directory: Path) -> tuple[float, int]:
    """The same in a forked process, which has nothing of what ran here before."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                told = through_capture(command, Path(place))
                os.write(writing, " ".join(map(str, told)).encode())
                os._exit(0)
            finally:
                os._exit(1)
        try:
            os.close(writing)
            with open(reading, "rb") as result:
                fields = result.read().split()
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(pid, 0)
        assert status == 0, "the capture has failed"
    return float(fields[0]), int(fields[1])


def through_codexd(command: list[str], directory: Path) -> float:
    """Milliseconds of one run through the capture, with nothing lost."""
    took, moved = in_a_process(command, directory)
    assert moved >= _MEGABYTES * _MEGABYTE, f"{moved} bytes came through"
    return took


def output(scene: Scene) -> None:
    """Each kind of child on each way, in turns."""
    scene.begin("output")
    for row, source in CHILDREN.items():
        command = [sys.executable, "-c", source, str(_MEGABYTES)]
        into_file(command, scene.directory)
        ways = [(_FILE, into_file), (_PIPE, through_pipe), (OURS, through_codexd)]
        for number in scene.rounds(_RUNS, quick=3):
            for side, way in rotated(ways, number):
                scene.take(row.name, side, way(command, scene.directory))


BENCHES: Final = (Bench(tuple(CHILDREN), output),)

if __name__ == "__main__":
    alone(BENCHES)
