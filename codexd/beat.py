"""Moments at which all of codexd wakes that waits for no certain time.

A wake-up after seconds of sleep costs a third of a millisecond before anything is done: nothing of
the process is in a cache. What is done beside something else costs a fraction of that. Both
processes go by the same clock, the monotonic one.
"""

from __future__ import annotations

from typing import Final

BEAT_S: Final = 5.0
# Timers and their callers are a little early and late.
_TOLERANCE_S: Final = 0.05


def until_beat(now: float, wait_s: float) -> float:
    """For how long to wait of ``wait_s`` seconds: less, so that others wake at the same time.

    That is so for waits of some beats. Any other would come round oftener by it.
    """
    if not wait_s or wait_s % BEAT_S:
        return wait_s
    return (now + wait_s + _TOLERANCE_S) // BEAT_S * BEAT_S - now
