"""Times as the files hold them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """``moment`` as ISO 8601 UTC with milliseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_iso() -> str:
    """The present time, as :func:`iso`."""
    return iso(datetime.now(UTC))


def from_epoch(seconds: float) -> str:
    """A POSIX timestamp (seconds) as :func:`iso`."""
    return iso(datetime.fromtimestamp(seconds, UTC))


def to_epoch(text: str) -> float | None:
    """An ISO 8601 time as a POSIX timestamp (seconds); None for another text."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def now_ms() -> int:
    """The present moment in milliseconds since 1970, as codex puts it into notifications."""
    return round(time.time() * 1000)
