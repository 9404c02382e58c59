"""`codexd stop`."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import click

from codexd.cli.drain import drain_options, grace_of, wait_for, wait_until_idle
from codexd.cli.options import daemon_options
from codexd.client.circus import MARGIN_S, order_stop, stop_timeout_s
from codexd.client.errors import DaemonError
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.process import ProcessId, is_alive


@click.command("stop")
@drain_options
@daemon_options
def stop(config: Config, timeout_s: float | None, when_idle: bool, now: bool) -> None:
    """Stop the daemon and its server.

    New turns wait, running ones may end first; then the server gets SIGTERM.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    daemon = lock.living_holder(config.runtime.lock_path)
    if daemon is None:
        click.echo("codexd is not running")
        return
    end_daemon(config, daemon, timeout_s, when_idle=when_idle, now=now)
    click.echo("codexd stopped")


def end_daemon(
    config: Config,
    daemon: ProcessId,
    timeout_s: float | None = None,
    *,
    when_idle: bool = False,
    now: bool = False,
) -> None:
    """End the daemon, and wait until it has ended; see :func:`.drain.drain_options`."""
    # Stopped (SIGSTOP), it would not hear that it shall end.
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon.pid, signal.SIGCONT)
    if when_idle:
        wait_until_idle(config, timeout_s)
    grace_s = grace_of(timeout_s, when_idle=when_idle, now=now)
    try:
        allowed_s = order_stop(config.runtime, grace_s)
    except DaemonError:
        # Whatever its endpoint does, a signal is heard.
        allowed_s = None
    if allowed_s is None:
        else_s = config.policy.stop_timeout_ms / 1000
        allowed_s = stop_timeout_s(config.runtime, else_s=else_s) if grace_s is None else grace_s
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, signal.SIGTERM)
    deadline = time.monotonic() + allowed_s + MARGIN_S
    wait_for(
        lambda: not is_alive(daemon), deadline, "the daemon to end", lambda: f"pid {daemon.pid}"
    )
