"""Waiting for conditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(
    look: Callable[[], Found | None], *, within_s: float = 30.0, what: str = "the condition"
) -> Found:
    """What ``look`` returns once it is true; fails after ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s} s; last: {found!r}")
        time.sleep(0.01)
