"""Metrics as Prometheus reads them.

prometheus_client has 1 to 2 MiB and takes some 15 ms to load, so it is loaded by the first who
asks. Nothing of it counts anything: what it is given was counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from codexd.histogram import Histogram
from codexd.keeper.metric_table import PREFIX, Row, Samples, Scrape

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def load() -> None:
    """Load what :func:`render` needs."""
    import prometheus_client.exposition  # noqa: F401


def render(rows: Iterable[Row], scrape: Scrape) -> bytes:
    """The page, in the text format 0.0.4."""
    from prometheus_client.exposition import generate_latest

    return generate_latest(_Collector(rows, scrape))


class _Collector:
    """What prometheus_client asks of a registry: the families, once."""

    def __init__(self, rows: Iterable[Row], scrape: Scrape) -> None:
        self._rows = rows
        self._scrape = scrape

    def collect(self) -> Iterator[Metric]:
        for row in self._rows:
            yield _family(row, row.read(self._scrape))


def _family(row: Row, samples: Samples) -> Metric:
    from prometheus_client.metrics_core import Metric

    # A counter or an info is named without its ending there.
    name = PREFIX.removesuffix("_") if row.kind == "info" else PREFIX + row.name
    family = Metric(name.removesuffix("_total"), row.help, row.kind)
    for values, value in samples:
        labels = {label: _text(text) for label, text in zip(row.labels, values, strict=True)}
        if isinstance(value, Histogram):
            _add_histogram(family, labels, value)
        else:
            family.add_sample(PREFIX + row.name, labels, value)
    return family


def _add_histogram(family: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    totals = list(accumulate(histogram.counts))
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    for bound, total in zip(bounds, totals, strict=True):
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, total)
    family.add_sample(f"{family.name}_count", labels, totals[-1])
    family.add_sample(f"{family.name}_sum", labels, histogram.sum)


def _text(text: str) -> str:
    """A flag may hold bytes that are no text, which the page cannot."""
    return text.encode("utf-8", "replace").decode()
