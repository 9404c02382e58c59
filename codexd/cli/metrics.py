"""`codexd metrics`."""

from __future__ import annotations

import sys

import click

from codexd.cli.options import CliError, config_options
from codexd.cli.streams import writing_to
from codexd.client.http import fetch_metrics
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock


@click.command("metrics")
@config_options
def metrics(config: Config) -> None:
    """Print what `GET /metrics` tells: the daemon's numbers, in Prometheus's text format."""
    check_owner(config.paths, config.runtime)
    if lock.living_holder(config.runtime.lock_path) is None:
        where = config.paths.state_dir
        raise CliError(f"No daemon runs on {where}: start it with `codexd start`.")
    with writing_to(sys.stdout.buffer) as out:
        out.write(fetch_metrics(config.runtime.hub_socket_path))
