"""Metrics as Prometheus reads them, in its text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/ has the format. It is written here, for
prometheus_client brings http.server, urllib.request, email and wsgiref with it: 3 MiB that stay.
Nothing here counts anything: what it is given was counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from codexd.histogram import Histogram
from codexd.keeper.metric_table import PREFIX, Row, Scrape

_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def render(rows: Iterable[Row], scrape: Scrape) -> bytes:
    """The page."""
    lines = [line for row in rows for line in _family(row, scrape)]
    # A flag may hold bytes that are no text, which the page cannot.
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _family(row: Row, scrape: Scrape) -> Iterator[str]:
    name = PREFIX + row.name
    # What is always 1, and tells by its labels, is no type of its own in this format.
    kind = "gauge" if row.kind == "info" else row.kind
    yield f"# HELP {name} {row.help.translate(_HELP_ESCAPES)}"
    yield f"# TYPE {name} {kind}"
    for values, value in row.read(scrape):
        labels = [_label(*pair) for pair in zip(row.labels, values, strict=True)]
        if isinstance(value, Histogram):
            yield from _histogram(name, labels, value)
        else:
            yield _sample(name, labels, value)


def _histogram(name: str, labels: list[str], histogram: Histogram) -> Iterator[str]:
    totals = list(accumulate(histogram.counts))
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    for bound, total in zip(bounds, totals, strict=True):
        yield _sample(f"{name}_bucket", [*labels, _label("le", bound)], total)
    yield _sample(f"{name}_count", labels, totals[-1])
    yield _sample(f"{name}_sum", labels, histogram.sum)


def _sample(name: str, labels: list[str], value: float) -> str:
    told = f"{{{','.join(labels)}}}" if labels else ""
    return f"{name}{told} {float(value)!r}"


def _label(name: str, value: str) -> str:
    return f'{name}="{value.translate(_LABEL_ESCAPES)}"'
