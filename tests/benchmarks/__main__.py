"""All rows: ``python -m tests.benchmarks``, or ``ops/bench``, which brings what that needs."""

from __future__ import annotations

from tests.benchmarks.command import alone
from tests.benchmarks.rows import BENCHES

if __name__ == "__main__":
    alone(BENCHES)
