"""Every route that codexd's modules have."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from codexd import api
from codexd.api.table import Row, rows_of


def all_rows() -> list[Row]:
    """The rows of every noun, by path."""
    rows = []
    for info in pkgutil.iter_modules(api.__path__):
        module = importlib.import_module(f"codexd.api.{info.name}")
        for _, noun in inspect.getmembers(module, inspect.isclass):
            if noun.__module__ == module.__name__:
                rows += rows_of(noun)
    return sorted(rows, key=lambda row: (row.path, row.method))
