"""The files of a daemon that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def settled(*places: Path) -> Iterator[Path]:
    """All under ``places``, but what is about to be renamed: at the next look that is gone."""
    return (path for place in places for path in place.rglob("*") if path.suffix != ".tmp")
