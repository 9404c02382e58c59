"""What was measured, as a table in Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import unicodedata
from typing import Any, Final

from tests.benchmarks.row import OURS, Measured, Spread, Verdict

_HEAD: Final = ("row", "", "median", "quartiles", "ratio", "mark", "")


def markdown(measured: list[Measured]) -> str:
    """A line for codexd's value of each row, and one for each side beside it."""
    lines = [_HEAD, *(line for one in measured for line in _lines(one))]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(_HEAD))]
    rule = tuple("-" * max(width, 3) for width in widths)
    return "\n".join(_padded(line, widths) for line in (_HEAD, rule, *lines[1:]))


def _padded(line: tuple[str, ...], widths: list[int]) -> str:
    cells = [cell + " " * (wide - _width(cell)) for cell, wide in zip(line, widths, strict=True)]
    return f"| {' | '.join(cells)} |"


def _lines(one: Measured) -> list[tuple[str, ...]]:
    verdicts = one.verdicts()
    lines: list[tuple[str, ...]] = []
    for side in (OURS, *one.row.baselines):
        title = f"{one.row.name}: {one.row.title}" if side == OURS else ""
        own = [v for v in verdicts if v.mark.beside == ("" if side == OURS else side)]
        spread = one.spread(side)
        if spread is None:
            lines.append((title, side, "–", "", "", "", _answer(own)))
            continue
        ratio = None if side == OURS else one.ratio(side)
        middle, quartiles = _numbers(spread)
        lines.append(
            (
                title,
                side,
                f"{middle} {one.row.unit}",
                quartiles,
                "" if ratio is None else f"{ratio:.2f}",
                ", ".join(_mark(verdict) for verdict in own),
                _answer(own),
            )
        )
    return lines


def left_out(measured: list[Measured]) -> str:
    """Why sides of these rows have no value, a line for each reason."""
    rows: dict[tuple[str, str], list[str]] = {}
    for one in measured:
        for side, why in one.missing.items():
            rows.setdefault((side, why), []).append(one.row.name)
    return "\n".join(
        f"{', '.join(names)}: without {side}: {why}" for (side, why), names in rows.items()
    )


def summary(measured: list[Measured]) -> str:
    """How many marks are met, and which are not."""
    verdicts = [(one.row.name, verdict) for one in measured for verdict in one.verdicts()]
    met = sum(verdict.is_met is True for _, verdict in verdicts)
    missed = [name for name, verdict in verdicts if verdict.is_met is False]
    unknown = [name for name, verdict in verdicts if verdict.is_met is None]
    told = [f"{met} of {len(verdicts)} marks are met"]
    told += [f"missed: {', '.join(dict.fromkeys(missed))}"] if missed else []
    told += [f"open: {', '.join(dict.fromkeys(unknown))}"] if unknown else []
    return "; ".join(told)


def _mark(verdict: Verdict) -> str:
    if not verdict.mark.each or verdict.value is None:
        return str(verdict.mark)
    floor = "" if verdict.floor is None else f"; of {verdict.mark.beside} {verdict.floor:.2f}"
    return f"{verdict.mark} (worst {verdict.value:.2f}{floor})"


def _answer(verdicts: list[Verdict]) -> str:
    answers = {verdict.is_met for verdict in verdicts}
    if False in answers:
        return "missed"
    if None in answers:
        return "open"
    return "met" if answers else ""


def _numbers(spread: Spread) -> tuple[str, str]:
    digits = 0 if spread.median >= 1000 else 1 if spread.median >= 20 else 2
    if 0 < spread.median < 0.1:
        digits = 4
    return f"{spread.median:.{digits}f}", f"{spread.first:.{digits}f} to {spread.third:.{digits}f}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def document(measured: list[Measured], **about: Any) -> dict[str, Any]:
    """The same for programs, with every value."""
    return {**about, "rows": [_row(one) for one in measured]}


def _row(one: Measured) -> dict[str, Any]:
    sides = {}
    for side, values in one.samples.items():
        ratio = None if side == OURS else one.ratio(side)
        sides[side] = {**dataclasses.asdict(Spread.of(values)), "ratio": ratio, "values": values}
    marks = [
        {
            "beside": verdict.mark.beside or None,
            "limit": verdict.mark.limit,
            "atLeast": verdict.mark.is_least,
            "each": verdict.mark.each,
            "value": verdict.value,
            "floor": verdict.floor,
            "met": verdict.is_met,
        }
        for verdict in one.verdicts()
    ]
    head = {"name": one.row.name, "title": one.row.title, "unit": one.row.unit}
    return {**head, "sides": sides, "missing": one.missing, "marks": marks}
