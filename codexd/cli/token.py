"""`codexd token`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from codexd.cli.options import CliError, daemon_options
from codexd.client.http import ask_hub
from codexd.client.live import running_config
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock
from codexd.store import token_file
from codexd.store.snapshot import read_daemon
from codexd.store.token_file import BadToken

_UNASKED = (
    "codexd listens on TCP only where it is told to: `codexd start --hub-listen 127.0.0.1:8765`, "
    'or hub_listen = "127.0.0.1:8765" in codexd.toml'
)


@click.command("token")
@click.option("--rotate", is_flag=True, help="Make a new one; whoever has the old one is cut off.")
@click.option("--path", "only_path", is_flag=True, help="Print where it is, not the token.")
@click.option("--read", "for_reading", is_flag=True, help="The one of --hub-read-token-file.")
@daemon_options
def token(config: Config, rotate: bool, only_path: bool, for_reading: bool) -> None:
    """Print the token for the TCP listener."""
    check_owner(config.paths, config.runtime, root_may=True)
    holder = lock.living_holder(config.runtime.lock_path)
    told: dict[str, Any] = {}
    if holder is not None:
        # Not where this shell would have it, but where the daemon has.
        recorded = read_daemon(config.paths)
        if recorded is not None:
            config = running_config(config, recorded, holder.pid)
        told = (ask_hub(config.runtime.hub_socket_path) or {}).get("tcp") or {}
    try:
        path = _path(config, told, for_reading=for_reading)
        if rotate:
            token_file.rotate(path)
            _tell_rotated(config, is_running=holder is not None)
        elif config.policy.hub_listen and holder is None:
            # As the start would. One that a daemon has lost, it is told of how to mend.
            token_file.make(path)
        text = path if only_path else token_file.read(path).decode()
    except BadToken as error:
        raise CliError(str(error)) from error
    if not config.policy.hub_listen:
        click.echo(f"codexd: {_UNASKED}.", err=True)
    click.echo(text)


def _path(config: Config, told: Mapping[str, Any], *, for_reading: bool) -> str:
    policy = config.policy
    if for_reading:
        if not policy.hub_read_token_file:
            raise CliError(
                "There is no token for reading only: name it with --hub-read-token-file."
            )
        return policy.hub_read_token_file
    found = told.get("tokenFile")
    path = str(found) if found else policy.hub_token_file
    path = path or token_file.default_path(config.paths, os.environ)
    if not policy.hub_listen and not os.path.lexists(path):
        raise CliError(f"There is no token: {_UNASKED}.")
    return path


def _tell_rotated(config: Config, *, is_running: bool) -> None:
    """Have the daemon look, and say what came of it."""
    if not (is_running and config.policy.hub_listen):
        return
    if ask_hub(config.runtime.hub_socket_path) is None:
        what = "the daemon does not answer now; the new token is in force when it does"
    else:
        what = "the new token is in force; who has the old one is cut off"
    click.echo(f"codexd: {what}", err=True)
