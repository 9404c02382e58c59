"""`codexd restart`."""

from __future__ import annotations

import click

from codexd.cli.drain import MARGIN_S, drain_options, prepare_drain, running_daemon
from codexd.cli.options import CliError, config_options, json_option
from codexd.cli.status import print_status
from codexd.client.circus import WATCHER, call_circus, set_grace
from codexd.config import Config
from codexd.platform.process import is_alive


@click.command("restart")
@drain_options
@json_option
@config_options
def restart(
    config: Config, timeout_s: float | None, when_idle: bool, now: bool, as_json: bool
) -> None:
    """Start the server anew; the daemon and its clients stay."""
    from codexd.supervisor.readiness import wait_for_process

    daemon = running_daemon(config)
    if config.server.child_strategy == "external":
        raise CliError("The server is external: restart it where it was started.")
    grace_s = prepare_drain(config, timeout_s, when_idle, now)
    try:
        call_circus(config, "restart", name=WATCHER, timeout_s=grace_s + MARGIN_S, waiting=True)
    finally:
        set_grace(config, config.policy.stop_timeout_ms / 1000)
    outcome = wait_for_process(config, daemon.pid, lambda: not is_alive(daemon))
    if outcome is None or outcome.kind == "failed":
        raise CliError(f"The server is not ready: {outcome.reason if outcome else 'it ended'}")
    print_status(config, as_json=as_json)
