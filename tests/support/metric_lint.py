"""What `promtool check metrics` finds fault with, as far as it can be said of a table of metrics.

After prometheus/client_golang, testutil/promlint, and https://prometheus.io/docs/practices/naming.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from codexd.keeper.metric_table import PREFIX, Row

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_TYPES = ("gauge", "counter", "summary", "histogram", "untyped")
_OF_HISTOGRAMS = ("_bucket", "_count", "_sum")
_RESERVED_LABELS = ("le", "quantile")
_ABBREVIATED = re.compile("[mun]?s|m?sec|min|[mhdb]|[kmgtp]i?b")
_NO_BASE_UNIT = re.compile(
    "(milli|micro|nano)seconds|minutes|hours|days|weeks|.+bytes|bits|percent"
)


def faults(row: Row) -> Iterator[str]:
    """What is wrong with one metric, a line each."""
    name = PREFIX + row.name
    words = row.name.split("_")
    if not _NAME.fullmatch(name):
        yield f"{name} is not in snake_case"
    if not row.help.strip() or "\n" in row.help or not row.help.endswith("."):
        yield f"{name} has no help of one line that is a sentence"
    if (row.kind == "counter") != row.name.endswith("_total"):
        yield f"{name} is a {row.kind}: counters end in _total, and they alone"
    if (row.kind == "info") != (words[-1] == "info"):
        yield f"{name} is a {row.kind}: infos end in _info, and they alone"
    if row.name.endswith(_OF_HISTOGRAMS):
        yield f"{name} ends as a part of a histogram does"
    if {*words} & {*_TYPES}:
        yield f"{name} has its type in its name"
    for word in words:
        if _ABBREVIATED.fullmatch(word) or _NO_BASE_UNIT.fullmatch(word):
            yield f"{name} has a unit that is abbreviated or no base unit: {word}"
    yield from _label_faults(name, row.labels)


def _label_faults(name: str, labels: tuple[str, ...]) -> Iterator[str]:
    for label in labels:
        if not _NAME.fullmatch(label) or label in _RESERVED_LABELS or label.startswith("__"):
            yield f"{name} has a label that is not to be: {label}"
    if len(set(labels)) != len(labels):
        yield f"{name} has a label twice"
