"""`codexd render-circus`, `render-plist` and `render-systemd`: they only print."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

import click

from codexd import rendering
from codexd.cli.options import SETTINGS_FILE, BadValue, config_options, setting_values
from codexd.config import Config, setting_texts
from codexd.rendering import CannotRender
from codexd.settings import BY_NAME, DEFAULT
from codexd.settings_file import CONFIG_VARIABLE

Program = Sequence[str]


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both service managers are told."""
    add_program = click.option(
        "--program",
        metavar="PATH",
        help="The codexd that the service runs.  [default: this one]",
    )
    add_home = click.option("--home", metavar="PATH", help="Home of its user.  [default: $HOME]")
    return add_home(add_program(command))


@click.command("render-circus")
@config_options
def render_circus(config: Config) -> None:
    """Print the ini that `start` runs circus with; a stock `circusd` can run it too."""
    _print(_render(lambda: rendering.render_circus_ini(config)))


@click.command("render-plist")
@service_options
@click.option(
    "--label", default=rendering.DEFAULT_LABEL, show_default=True, help="Label of the service."
)
@click.option(
    "--process-type",
    type=click.Choice(get_args(rendering.ProcessType)),
    default="Background",
    show_default=True,
    help="How macOS treats it: Background jobs get less processor and disk.",
)
@config_options
def render_plist(
    config: Config,
    home: str | None,
    program: str | None,
    label: str,
    process_type: rendering.ProcessType,
) -> None:
    """Print the property list of a launchd agent for this configuration."""
    _print(plist_text(config, home_of(home), _words(program), label, process_type))
    tell_secrets("launchd")


@click.command("render-systemd")
@service_options
@config_options
def render_systemd(config: Config, home: str | None, program: str | None) -> None:
    """Print the unit of a systemd user service for this configuration."""
    _print(systemd_text(config, home_of(home), _words(program)))
    tell_secrets("systemd")


def plist_text(
    config: Config,
    home: str,
    program: Program | None,
    label: str,
    process_type: rendering.ProcessType,
) -> str:
    """The property list for this configuration and shell.

    Raises:
        BadValue: a value that it cannot hold.
    """
    return _render(
        lambda: rendering.render_plist(
            config,
            home=home,
            label=label,
            program=program,
            kept=kept_by_service(config),
            umask=_umask(),
            process_type=process_type,
        )
    )


def systemd_text(config: Config, home: str, program: Program | None) -> str:
    """The unit for this configuration and shell.

    Raises:
        BadValue: a value that it cannot hold.
    """
    return _render(
        lambda: rendering.render_systemd(
            config, home=home, program=program, kept=kept_by_service(config), umask=_umask()
        )
    )


_PLACES_FOR_SECRETS: Final[Mapping[str, str]] = {
    "launchd": "in a file that a wrapper around codex reads (docs/how-to/install-launchd.md)",
    "systemd": "in ~/.config/codexd/environment, mode 0600, a line NAME=value each",
}


def tell_secrets(kind: str) -> None:
    """Name what the server may need of this shell and the service is not given."""
    names = rendering.secret_names(os.environ, cwd=os.getcwd())
    if names:
        click.echo(
            f"codexd: left out, for it may be a secret: {', '.join(names)}. Where the server needs "
            f"it, log in once (`codex login`), or give it to the service "
            f"{_PLACES_FOR_SECRETS[kind]}.",
            err=True,
        )


def home_of(given: str | None) -> str:
    """The home that was named, or this user's."""
    return os.path.abspath(given or os.path.expanduser("~"))


def _words(program: str | None) -> Program | None:
    return [os.path.abspath(program)] if program else None


def kept_by_service(config: Config) -> dict[str, str]:
    """What the service gets besides: of the shell, the settings file that was named, and what was
    given at its default, which the user's own settings file may have otherwise.
    """
    kept = rendering.kept_variables(os.environ, cwd=os.getcwd())
    named = click.get_current_context().params.get(SETTINGS_FILE) or os.environ.get(CONFIG_VARIABLE)
    if named and named.strip():
        kept[CONFIG_VARIABLE] = os.path.abspath(named)
    texts = setting_texts(config)
    given = [name for name, value in setting_values().items() if value.origin != DEFAULT]
    return {**kept, **{BY_NAME[name].env[-1]: texts[name] for name in given}}


def _umask() -> int:
    # There is no way to look at it without setting it.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _render(render: Callable[[], str]) -> str:
    try:
        return render()
    except CannotRender as error:
        raise BadValue(str(error)) from error


def _print(text: str) -> None:
    # The bytes of a path may be no text in any encoding.
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
