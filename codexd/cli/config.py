"""`codexd config`."""

from __future__ import annotations

import click
import msgspec

from codexd.cli.options import config_options, json_option
from codexd.config import Config, format_text
from codexd.encoding import encode_json


@click.command("config")
@json_option
@config_options
def config(config: Config, as_json: bool) -> None:
    """Print the resolved configuration."""
    if as_json:
        click.echo(msgspec.json.format(encode_json(config), indent=2))
    else:
        click.echo(format_text(config))
