"""Waiting until a daemon is up, by looking at its files as anyone else would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from codexd.child.outcome import Outcome, judge
from codexd.config import Config, Paths, Server
from codexd.settings import Policy
from codexd.store.snapshot import read_daemon

_POLL_S = 0.01
_TELL_AFTER_S = 1.0


def ignore(_outcome: Outcome) -> None:
    """For those who want to know only what came of it."""


async def wait_until_up(
    config: Config, pid: int, tell: Callable[[Outcome], None] = ignore
) -> Outcome:
    """Wait for the daemon ``pid``, from a loop; ``tell`` hears of each step on the way."""
    wait = _Wait(config.paths, config.server, config.policy, pid, tell)
    while True:
        outcome = wait.look()
        if outcome is not None:
            return outcome
        await asyncio.sleep(_POLL_S)


def wait_for_process(
    config: Config,
    pid: int,
    ended: Callable[[], bool],
    tell: Callable[[Outcome], None] = ignore,
) -> Outcome | None:
    """Wait for the daemon ``pid``, blocking; None if it ended first."""
    wait = _Wait(config.paths, config.server, config.policy, pid, tell)
    while not ended():
        outcome = wait.look()
        if outcome is not None:
            return outcome
        time.sleep(_POLL_S)
    return None


class _Wait:
    def __init__(
        self,
        paths: Paths,
        server: Server,
        policy: Policy,
        pid: int,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._paths = paths
        self._server = server
        self._policy = policy
        self._pid = pid
        self._tell = tell
        self._begun = time.monotonic()
        self._running_since: float | None = None
        self._told_waiting = False

    def look(self) -> Outcome | None:
        now = time.monotonic()
        daemon = read_daemon(self._paths)
        outcome = judge(daemon, self._server, self._policy, self._pid, now - self._begun)
        if outcome is None and daemon is not None and daemon.pid == self._pid:
            self._tell_step(daemon.child.status == "running", now)
        return outcome

    def _tell_step(self, is_running: bool, now: float) -> None:
        if not is_running:
            return
        if self._running_since is None:
            self._running_since = now
            self._tell(Outcome("running"))
        elif not self._told_waiting and now - self._running_since > _TELL_AFTER_S:
            self._told_waiting = True
            self._tell(Outcome("waiting"))
