"""`codexd stop`."""

from __future__ import annotations

import os
import signal
import time

import click

from codexd.cli.drain import MARGIN_S, drain_options, prepare_drain, wait_for
from codexd.cli.options import config_options
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.process import is_alive


@click.command("stop")
@drain_options
@config_options
def stop(config: Config, timeout_s: float | None, when_idle: bool, now: bool) -> None:
    """Stop the daemon and its server.

    Running turns may end first: the server gets SIGTERM and finishes them.
    """
    check_owner(config, root_may=True)
    daemon = lock.living_holder(config.runtime.lock_path)
    if daemon is None:
        click.echo("codexd is not running")
        return
    grace_s = prepare_drain(config, timeout_s, when_idle, now)
    os.kill(daemon.pid, signal.SIGTERM)
    # Stopped (SIGSTOP), it would not hear that it shall end.
    os.kill(daemon.pid, signal.SIGCONT)
    deadline = time.monotonic() + grace_s + MARGIN_S
    wait_for(lambda: not is_alive(daemon), deadline, "the daemon to end", f"pid {daemon.pid}")
    click.echo("codexd stopped")
