"""What is measured, beside what, and what it is to reach. Nothing here measures."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.benchmarks.scene import Scene

OURS: Final = "codexd"


@dataclass(frozen=True, slots=True)
class Mark:
    """What codexd is to reach: so many times the side ``beside``, or with none, its own value.

    With ``each`` every single value is to, and not only their median.
    """

    limit: float
    beside: str = ""
    is_least: bool = False
    each: bool = False

    def __str__(self) -> str:
        sign = "≥" if self.is_least else "≤"
        return f"{'each ' if self.each else ''}{sign} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of what is promised. ``unit`` is that of every value that is taken."""

    name: str
    title: str
    unit: str
    baselines: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """Rows that are measured together, in turns; ``measure`` takes values by the scene."""

    rows: tuple[Row, ...]
    measure: Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the quartiles beside it."""

    median: float
    first: float
    third: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """That of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        first, median, third = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, first, third)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a mark. ``value`` is what is held against it, None where it was not measured.

    ``floor`` is the same of the side beside, where every value is to be in bounds: what no
    supervisor could be below.
    """

    mark: Mark
    value: float | None
    floor: float | None = None

    @property
    def is_met(self) -> bool | None:
        """None where one of the two sides is missing."""
        if self.value is None:
            return None
        if self.mark.is_least:
            return self.value >= self.mark.limit
        return self.value <= self.mark.limit


@dataclass(slots=True)
class Measured:
    """The values of a row by side; ``missing`` says in a word why a side has none."""

    row: Row
    samples: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def take(self, side: str, value: float) -> None:
        """Another value of a side."""
        self.samples.setdefault(side, []).append(value)

    def spread(self, side: str) -> Spread | None:
        """None of a side that was not measured."""
        values = self.samples.get(side)
        return Spread.of(values) if values else None

    def ratio(self, side: str) -> float | None:
        """The median of codexd's to that of a side."""
        ours, theirs = self.spread(OURS), self.spread(side)
        if ours is None or theirs is None or not theirs.median:
            return None
        return ours.median / theirs.median

    def verdicts(self) -> list[Verdict]:
        """One for each mark."""
        return [self._judge(mark) for mark in self.row.marks]

    def _judge(self, mark: Mark) -> Verdict:
        base = 1.0
        if mark.beside:
            beside = self.spread(mark.beside)
            if beside is None or not beside.median:
                return Verdict(mark, None)
            base = beside.median
        ours = self.spread(OURS)
        if ours is None:
            return Verdict(mark, None)
        if not mark.each:
            return Verdict(mark, ours.median / base)
        worst = min if mark.is_least else max
        floor = worst(self.samples[mark.beside]) / base if mark.beside else None
        return Verdict(mark, worst(self.samples[OURS]) / base, floor)
