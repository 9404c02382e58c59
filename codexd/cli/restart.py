"""`codexd restart`."""

from __future__ import annotations

import click

from codexd.cli.drain import drain_options, grace_of, running_daemon, wait_until_idle
from codexd.cli.options import CliError, daemon_options, json_option
from codexd.cli.status import print_status
from codexd.client.circus import order_restart, settings_of
from codexd.config import Config
from codexd.platform.process import is_alive
from codexd.store.snapshot import read_daemon


@click.command("restart")
@drain_options
@json_option
@daemon_options
def restart(
    config: Config, timeout_s: float | None, when_idle: bool, now: bool, as_json: bool
) -> None:
    """Start the server anew; the daemon and its clients stay."""
    config = restart_server(config, timeout_s, when_idle=when_idle, now=now)
    print_status(config, as_json=as_json)


def restart_server(
    config: Config,
    timeout_s: float | None = None,
    *,
    when_idle: bool = False,
    now: bool = False,
) -> Config:
    """Start the server anew, and wait until it is ready; returns the daemon's own settings."""
    from codexd.supervisor.readiness import wait_for_process

    daemon = running_daemon(config)
    # Not what this shell would run, but what the daemon does.
    config = settings_of(config)
    if config.server.child_strategy == "external":
        raise CliError("The server is external: restart it where it was started.")
    if when_idle:
        wait_until_idle(config, timeout_s)
    grace_s = grace_of(timeout_s, when_idle=when_idle, now=now)
    record = read_daemon(config.paths)
    order_restart(config.runtime, grace_s, else_s=config.policy.stop_timeout_ms / 1000)
    outcome = wait_for_process(
        config,
        daemon.pid,
        lambda: not is_alive(daemon),
        after=None if record is None else record.child,
    )
    if outcome is None or outcome.kind == "failed":
        raise CliError(f"The server is not ready: {outcome.reason if outcome else 'it ended'}")
    return config
