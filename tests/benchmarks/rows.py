"""Every bench there is, in the order of the table. A new one is a module with a line here."""

from __future__ import annotations

from typing import Final

from tests.benchmarks import (
    bench_cli,
    bench_day,
    bench_hub,
    bench_idle,
    bench_memory,
    bench_output,
    bench_record,
    bench_restart,
    bench_start,
)
from tests.benchmarks.row import Bench

BENCHES: Final[tuple[Bench, ...]] = (
    *bench_restart.BENCHES,
    *bench_hub.BENCHES,
    *bench_output.BENCHES,
    *bench_memory.BENCHES,
    *bench_idle.BENCHES,
    *bench_start.BENCHES,
    *bench_cli.BENCHES,
    *bench_record.BENCHES,
    *bench_day.BENCHES,
)
