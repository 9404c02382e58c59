"""Daemons whose child is :mod:`tests.support.stub_app_server`."""

from __future__ import annotations

import sys
from pathlib import Path

STUB = str(Path(__file__).with_name("stub_app_server.py"))


def stub_flags(*words: str, command: str = sys.executable) -> list[str]:
    """Flags of a daemon whose child is the stub that does as the words say."""
    arguments = ["-IS", STUB, "app-server", *words]
    return ["--server-command", command, *(f"--server-arg={word}" for word in arguments)]


def quick_health(*, misses: int = 2, timeout_ms: int = 200) -> list[str]:
    """Health checks that find a hung child within a second."""
    return [
        "--health-interval-ms=100",
        f"--health-timeout-ms={timeout_ms}",
        f"--health-misses={misses}",
    ]


def backoff(base_ms: int, max_ms: int) -> list[str]:
    """The delays of a crash loop."""
    return [f"--restart-backoff-ms={base_ms}", f"--restart-backoff-max-ms={max_ms}"]
