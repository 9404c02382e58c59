"""Where a run measures: its directories, its processes, its rounds, and what it took so far."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import psutil

from tests.benchmarks.peers import Peers
from tests.benchmarks.row import Measured, Row

# A socket's path has room for so much before its name: 103 bytes on macOS.
_SHORT: Final = 45
_SWEEPS: Final = 20

Side = TypeVar("Side")


def say(text: str) -> None:
    """A line for whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Scene:
    """One run; what it made and started is gone with the block.

    Every process has a CODEX_HOME below its directory, and is found by that.
    """

    def __init__(self, peers: Peers, rows: list[Row], *, is_quick: bool = False) -> None:
        self.peers = peers
        self.is_quick = is_quick
        # Whether something that is codexd's could not be measured.
        self.has_failed = False
        self.measured = {row.name: Measured(row) for row in rows}
        is_short = len(str(peers.directory)) <= _SHORT
        parent, prefix = (peers.directory, "run-") if is_short else (Path("/tmp"), "codexd-bench-")
        self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._title = ""

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what is measured ----------------------------------------------------------------------

    def begin(self, title: str) -> None:
        """What the next rounds are of."""
        self._title = title
        say(title)

    def rounds(self, full: int, quick: int = 2) -> Iterator[int]:
        """So many, each told of."""
        count = quick if self.is_quick else full
        for number in range(count):
            say(f"{self._title}: {number + 1} of {count}")
            yield number

    def take(self, row: str, side: str, value: float) -> None:
        """A value; those of rows that nobody wants are let go."""
        if row in self.measured:
            self.measured[row].take(side, value)

    def miss(self, side: str, why: str, rows: tuple[Row, ...]) -> None:
        """Say why a side has no value in these rows."""
        say(f"without {side}: {why}")
        for row in rows:
            if row.name in self.measured and side not in self.measured[row.name].samples:
                self.measured[row.name].missing[side] = why

    # -- what there is to measure with -----------------------------------------------------------

    def place(self, name: str) -> Path:
        """A new directory."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))

    @contextlib.contextmanager
    def helper(self, *command: str, home: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A process that runs during the block; its stdout is a pipe."""
        env = {**os.environ, "CODEX_HOME": str(home or self.directory)}
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process of this run, and take its directory away."""
        end_all_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


def rotated(sides: list[Side], number: int) -> list[Side]:
    """Another one first each time: what one leaves behind is to meet all alike."""
    first = number % len(sides)
    return sides[first:] + sides[:first]


def of_home(home: Path) -> list[psutil.Process]:
    """The processes whose CODEX_HOME is this directory, or below it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            told = process.environ().get("CODEX_HOME")
            if told and Path(told).is_relative_to(home) and process.pid != os.getpid():
                found.append(process)
    return found


def end_all_below(home: Path) -> None:
    """Kill the processes of a home until there are none: some of them start others."""
    for _ in range(_SWEEPS):
        left = [one for one in of_home(home) if one.status() != psutil.STATUS_ZOMBIE]
        if not left:
            return
        # The oldest first: they keep the others.
        for process in sorted(left, key=lambda one: one.create_time()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    say("these processes do not end: " + ", ".join(str(one.pid) for one in of_home(home)))
