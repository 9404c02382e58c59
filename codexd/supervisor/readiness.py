"""Waiting until a daemon is up, by looking at its files as anyone else would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from codexd.config import Config
from codexd.contracts import DaemonState
from codexd.store.snapshot import read_daemon

_POLL_S = 0.02
# How long a child that may not speak the protocol gets before it is called running, not ready.
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a start. ``reason`` is one line where it is not ``up``."""

    kind: Literal["up", "failed"]
    reason: str | None = None


def expects_protocol(config: Config) -> bool:
    """Whether the configured child is one that must answer the handshake."""
    return config.server.mode == "app-server" and "app-server" in config.server.child_args


def judge(daemon: DaemonState | None, config: Config, pid: int, waited_s: float) -> Outcome | None:
    """What the files say of the daemon ``pid``; None while it is too early to tell."""
    if daemon is None or daemon.pid != pid or not daemon.started:
        return None
    child = daemon.child
    if child.ready or child.status == "external":
        return Outcome("up")
    if config.server.mode == "exec" and child.status in ("running", "stopped"):
        return Outcome("up")
    is_final = config.policy.restart == "never" or child.next_restart_at is not None
    if child.status == "failed" and is_final:
        return Outcome("failed", child.last_error)
    if child.status == "stopped" and config.policy.restart != "always":
        return Outcome("up")
    patience = config.policy.ready_timeout_ms / 1000 if expects_protocol(config) else _PATIENCE_S
    if waited_s < patience:
        return None
    if child.status == "running" and not expects_protocol(config):
        return Outcome("up")
    return Outcome("failed", child.last_error or f"The child is {child.status}, not ready.")


async def wait_until_up(config: Config, pid: int) -> Outcome:
    """Wait for the daemon ``pid``, from a loop."""
    begun = time.monotonic()
    while True:
        outcome = judge(read_daemon(config.paths), config, pid, time.monotonic() - begun)
        if outcome is not None:
            return outcome
        await asyncio.sleep(_POLL_S)


def wait_for_process(config: Config, pid: int, ended: Callable[[], bool]) -> Outcome | None:
    """Wait for the daemon ``pid``, blocking; None if it ended first."""
    begun = time.monotonic()
    while not ended():
        outcome = judge(read_daemon(config.paths), config, pid, time.monotonic() - begun)
        if outcome is not None:
            return outcome
        time.sleep(_POLL_S)
    return None
