"""`codexd ctl`."""

from __future__ import annotations

import os
import sys

import click

from codexd.cli.drain import running_daemon
from codexd.cli.options import config_options
from codexd.client.owner import check_owner
from codexd.config import Config


@click.command(
    "ctl",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@config_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ctl(config: Config, arguments: tuple[str, ...]) -> None:
    """Run circusctl on this daemon's endpoint: `codexd ctl status`, `codexd ctl --help`."""
    runtime = config.runtime
    endpoint = runtime.circus_pubsub_endpoint if "listen" in arguments else runtime.circus_endpoint
    if arguments and "--help" not in arguments:
        check_owner(config)
        running_daemon(config)
    code = "from circus.circusctl import main; main()"
    os.execv(sys.executable, [sys.executable, "-P", "-c", code, "--endpoint", endpoint, *arguments])
