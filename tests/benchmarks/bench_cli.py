"""How long `codexd status` and `codexd --help` take beside a Python that loads click and json.

``python -m tests.benchmarks.bench_cli``

The status is that of a daemon that runs, on a pipe.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.benchmarks.bench_start import program
from tests.benchmarks.command import alone
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, rotated
from tests.support.daemon import daemon_box

_ROUNDS: Final = 20
_BASELINE: Final = "click, json"
_LOAD: Final = [sys.executable, "-c", "import click, json"]


def _row(name: str, command: str) -> Row:
    title = f"`{command}`, beside `python -c 'import click, json'`"
    return Row(f"cli.{name}", title, "ms", (_BASELINE,), (Mark(2, _BASELINE),))


STATUS: Final = _row("status", "codexd status")
HELP: Final = _row("help", "codexd --help")


def commands(scene: Scene) -> None:
    """Both and the baseline in turns."""
    scene.begin("commands")
    with daemon_box(scene.place("codexd")) as box:
        box.start()
        status, helps = [program(), "status", *box.flags], [program(), "--help"]
        for command in (_LOAD, status, helps):
            milliseconds(command, box.env, box.root)
        for number in scene.rounds(_ROUNDS, quick=5):
            for command in rotated([_LOAD, status, helps], number):
                took = milliseconds(command, box.env, box.root)
                if command is _LOAD:
                    scene.take(STATUS.name, _BASELINE, took)
                    scene.take(HELP.name, _BASELINE, took)
                else:
                    scene.take(STATUS.name if command is status else HELP.name, OURS, took)


def milliseconds(command: list[str], env: dict[str, str], cwd: Path) -> float:
    """Of one run."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env, cwd=cwd)
    return (time.perf_counter() - begun) * 1000


BENCHES: Final = (Bench((STATUS, HELP), commands),)

if __name__ == "__main__":
    alone(BENCHES)
