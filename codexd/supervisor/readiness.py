"""Waiting until a daemon is up, by looking at its files as anyone else would."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

from codexd.child.outcome import Outcome, judge
from codexd.config import Config, Paths, Server
from codexd.contracts import ChildState
from codexd.settings import Policy
from codexd.store.snapshot import read_daemon

_POLL_S = 0.01
_TELL_AFTER_S = 1.0
# The plugin records an end at once. Where nothing is on record for so long, the hub is asked.
_UNRECORDED_S = 3.0
_ASK_S = 1.0


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
    *,
    after: ChildState | None = None,
) -> Outcome | None:
    """Wait for the daemon ``pid``, blocking; None if it ended first.

    ``after`` is what was on record of the child before: that says nothing of the one to come.
    """
    wait = _Wait(config.paths, config.server, config.policy, pid, tell)
    if after is not None:
        wait.comes_after(after, functools.partial(_hub_is_ready, config.runtime.hub_socket_path))
    while not ended():
        outcome = wait.look()
        if outcome is not None:
            return outcome
        time.sleep(_POLL_S)
    return None


def _hub_is_ready(socket_path: str) -> bool:
    from codexd.client.errors import DaemonError
    from codexd.client.http import get

    try:
        status, _ = get(socket_path, "/readyz", _ASK_S)
    except DaemonError:
        return False
    return status == 200


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
        self._after: ChildState | None = None
        self._ask: Callable[[], bool] = lambda: False
        self._ask_at = self._begun + _UNRECORDED_S

    def comes_after(self, child: ChildState, ask: Callable[[], bool]) -> None:
        """Until the record is another than this, it is of a child that has ended.

        ``ask`` tells whether the child answers where nothing can be recorded.
        """
        self._after, self._ask = child, ask

    def look(self) -> Outcome | None:
        now = time.monotonic()
        daemon = read_daemon(self._paths)
        if self._after is not None and daemon is not None and daemon.child == self._after:
            return self._look_beside_the_record(now)
        outcome = judge(daemon, self._server, self._policy, self._pid, now - self._begun)
        if outcome is None and daemon is not None and daemon.pid == self._pid:
            self._tell_step(daemon.child.status == "running", now)
        return outcome

    def _look_beside_the_record(self, now: float) -> Outcome | None:
        """The plugin hangs, or its disk takes nothing: then the hub alone can tell."""
        if now >= self._ask_at:
            if self._ask():
                return Outcome("up")
            self._ask_at = now + _UNRECORDED_S
        if now - self._begun < self._policy.ready_timeout_ms / 1000:
            return None
        return Outcome(
            "failed",
            "nothing of it is on record, and the hub does not answer: `codexd doctor` looks why.",
        )

    def _tell_step(self, is_running: bool, now: float) -> None:
        if not is_running:
            return
        if self._running_since is None:
            self._running_since = now
            self._tell(Outcome("running"))
        elif not self._told_waiting and now - self._running_since > _TELL_AFTER_S:
            self._told_waiting = True
            self._tell(Outcome("waiting"))
