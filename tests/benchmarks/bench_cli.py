"""How long `codexd status` and `--help` take beside a Python that loads click and json.

By hand: `python -m tests.benchmarks.bench_cli`, where `codexd status` finds a daemon or none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

ROUNDS = 15
BASELINE = "python -c 'import click, json'"
COMMANDS = {
    BASELINE: ["-c", "import click, json"],
    "codexd status": ["-m", "codexd", "status"],
    "codexd --help": ["-m", "codexd", "--help"],
    "codexd status --help": ["-m", "codexd", "status", "--help"],
}
# The mark: so many times the baseline.
AT_MOST = 2.0


def measure(arguments: list[str]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor, of one run."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after, took = os.times(), time.perf_counter() - begun
    used = after.children_user + after.children_system
    return took, used - before.children_user - before.children_system


def main() -> None:
    """Print the best of some rounds, by turns, so that what else runs here counts for all alike."""
    best = dict.fromkeys(COMMANDS, (float("inf"), float("inf")))
    # The first writes the bytecode.
    for _ in range(ROUNDS + 1):
        for name, arguments in COMMANDS.items():
            took, used = measure(arguments)
            best[name] = (min(best[name][0], took), min(best[name][1], used))
    for name, (took, used) in best.items():
        ratio = took / best[BASELINE][0]
        verdict = "" if ratio <= AT_MOST else f"  over {AT_MOST}"
        print(f"{took * 1000:6.0f} ms, {used * 1000:4.0f} ms of CPU, x{ratio:.2f}  {name}{verdict}")


if __name__ == "__main__":
    main()
