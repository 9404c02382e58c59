"""`codexd config`."""

from __future__ import annotations

import click
import msgspec

from codexd.cli.options import config_options, json_option, run_once_ignored, setting_values
from codexd.config import Config, format_text, setting_texts
from codexd.encoding import encode_json
from codexd.settings import DEFAULT


@click.command("config")
@click.option("--show-origin", is_flag=True, help="Tell of every setting where its value is from.")
@run_once_ignored
@json_option
@config_options
def config(config: Config, as_json: bool, show_origin: bool) -> None:
    """Print the resolved configuration."""
    if as_json:
        document = msgspec.to_builtins(config)
        if show_origin:
            document["origins"] = {name: value.origin for name, value in setting_values().items()}
        click.echo(msgspec.json.format(encode_json(document), indent=2))
    elif show_origin:
        click.echo(format_origins(config))
    else:
        click.echo(format_text(config))


def format_origins(config: Config) -> str:
    """A line for every setting, by its name in codexd.toml: its value, and where that is from."""
    texts = setting_texts(config)
    origins = {name: value.origin for name, value in setting_values().items()}
    rows = sorted((origin == DEFAULT, name, origin) for name, origin in origins.items())
    return "\n".join(f"{name}: {texts[name] or 'not-set'}  ({origin})" for _, name, origin in rows)
