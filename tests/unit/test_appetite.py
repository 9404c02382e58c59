"""A server that eats too much is replaced while nobody needs it, and not else."""

from __future__ import annotations

import os
from typing import Any

import pytest

from codexd.contracts import EventLevel
from codexd.keeper.appetite import Appetite, Usage, is_idle, read_usage

MIB = 1 << 20


class Table:
    """An appetite with a child whose usage the test sets."""

    def __init__(self, max_mib: int = 100) -> None:
        self.used: Usage | None = Usage(50 * MIB, 0.0)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.recycled = 0
        self.appetite = Appetite(max_mib * MIB, self.record, self.recycle, lambda _pid: self.used)

    def record(self, level: EventLevel, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level == "warn"
        assert message
        self.events.append((type_, detail))

    def recycle(self) -> None:
        # The event comes before.
        assert self.events[-1][0] == "child.recycling"
        self.recycled += 1

    def look(self, now: float, *, pid: int | None = 7, is_idle: bool = True) -> int:
        """Look once; how often the child was recycled so far."""
        self.appetite.look(pid, is_idle=is_idle, now=now)
        return self.recycled


def test_above_the_limit_it_is_replaced_once_nobody_needs_it() -> None:
    table = Table()
    assert table.look(0) == 0
    table.used = Usage(101 * MIB, 0.0)
    assert table.look(5, is_idle=False) == 0
    assert table.look(10) == 1
    detail = {"pid": 7, "residentBytes": 101 * MIB, "limitBytes": 100 * MIB}
    assert table.events == [("child.recycling", detail)]


def test_one_that_is_as_big_again_at_once_is_left_for_a_minute() -> None:
    table = Table()
    table.used = Usage(101 * MIB, 0.0)
    assert [table.look(now, pid=now) for now in (5, 10, 60, 64, 65, 70, 124, 125)] == [
        *[1] * 4,
        *[2] * 3,
        3,
    ]


@pytest.mark.parametrize(
    ("max_mib", "used"), [(0, Usage(1 << 50, 0.0)), (100, Usage(100 * MIB, 0.0)), (100, None)]
)
def test_without_a_limit_or_below_it_nothing_happens(max_mib: int, used: Usage | None) -> None:
    table = Table(max_mib)
    table.used = used
    assert table.look(5) == 0
    assert table.look(10, pid=None) == 0


def busy(table: Table, begin: int, end: int, *, share: float, **look: Any) -> None:
    for now in range(begin, end + 1, 5):
        table.used = Usage(MIB, now * share)
        table.look(now, **look)


def test_one_that_computes_with_nothing_to_do_is_told_once() -> None:
    table = Table()
    busy(table, 0, 2000, share=0.9)
    assert table.events == [
        ("child.busy_idle", {"pid": 7, "processorSeconds": 540, "seconds": 600})
    ]
    busy(table, 2005, 4000, share=0.9, pid=8)
    assert len(table.events) == 2


def test_one_that_has_something_to_do_or_rests_is_not_told() -> None:
    table = Table()
    busy(table, 0, 2000, share=0.5)
    table.look(2001, is_idle=False)
    for begin in range(2005, 6000, 600):
        busy(table, begin, begin + 590, share=1.0)
        table.look(begin + 595, is_idle=False)
    assert table.events == []


IDLE = {
    "server": "up",
    "runningTurns": 0,
    "waitingApprovals": 0,
    "waitingRequests": 0,
    "clients": 3,
}


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        (IDLE, True),
        ({**IDLE, "runningTurns": 1}, False),
        ({**IDLE, "waitingApprovals": 1}, False),
        ({**IDLE, "waitingRequests": 1}, False),
        ({**IDLE, "runningTurns": None}, False),
        ({**IDLE, "server": "away"}, False),
        ({**IDLE, "server": "recovering"}, False),
        ({}, False),
    ],
)
def test_unknown_is_not_idle(counts: dict[str, Any], wanted: bool) -> None:
    assert is_idle(counts) is wanted


def test_what_the_kernel_says() -> None:
    used = read_usage(os.getpid())
    assert used is not None
    assert used.resident > MIB
    assert used.processor_s > 0
    # No such process: pids end at 2^22.
    assert read_usage(1 << 23) is None
