"""The options that every command takes, made from the table of settings."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from codexd.cli.called import as_called
from codexd.cli.streams import tell
from codexd.config import Config, build, read_values
from codexd.settings import (
    SETTINGS,
    Setting,
    SettingError,
    Value,
    parse_integer,
    parse_seconds,
    quoted,
)
from codexd.settings_file import CONFIG_FLAG, CONFIG_VARIABLE, read_settings_file

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class CliError(click.ClickException):
    """One line on stderr and exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the line."""
        line = " ".join(part.strip() for part in self.format_message().splitlines())
        if file is None and sys.stderr.isatty():
            line = as_called(line)
        click.echo(f"codexd: {line}", file=file, err=True)


class BadValue(CliError):
    """A flag or variable that cannot be used: exit code 2, so that no service manager retries."""

    exit_code = 2


class Count(click.ParamType[int]):
    """A whole number of any size, as settings take it."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; BadValue names the option."""
        del ctx
        try:
            return parse_integer(str(value), param.opts[-1] if param else "")
        except SettingError as error:
            raise BadValue(str(error)) from error


class Seconds(click.ParamType[float]):
    """A time in seconds, which every clock and timer here takes."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; BadValue names the option."""
        del ctx
        try:
            return parse_seconds(str(value), param.opts[-1] if param else "")
        except SettingError as error:
            raise BadValue(str(error)) from error


def config_options(
    command: Callable[..., Any], *, takes_file: bool = True, finds_daemon: bool = False
) -> Callable[..., Any]:
    """Add a flag for every setting; the command gets the resolved ``config``.

    ``takes_file``: add --config as well. Where that is codex's own flag, only the variable counts.
    ``finds_daemon``: the config is that of a daemon that may run anywhere.
    """

    @functools.wraps(command)
    def with_config(*args: Any, **kwargs: Any) -> Any:
        told = _take(kwargs)
        click.get_current_context().meta[_TOLD] = told
        config = found_config() if finds_daemon else _resolve(told)
        return command(*args, config=config, **kwargs)

    return _with_flags(with_config, takes_file=takes_file)


def told_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`config_options`, for a command that looks at settings that may be wrong.

    It gets the text of each flag, as ``flags``, and the settings file that was named, as ``file``.
    """

    @functools.wraps(command)
    def with_told(*args: Any, **kwargs: Any) -> Any:
        told = _take(kwargs)
        _check_flags(told)
        return command(*args, flags=told.flags, file=told.file, **kwargs)

    return _with_flags(with_told)


def resolve_told(flags: dict[str, Any], file: str | None) -> Config:
    """What :func:`told_options` gave, resolved as :func:`config_options` does."""
    return _resolve(_Told(flags, file))


def _take(kwargs: dict[str, Any]) -> _Told:
    flags = {setting.name: kwargs.pop(setting.name) for setting in SETTINGS}
    return _Told(flags, kwargs.pop(SETTINGS_FILE, None))


def _with_flags(decorated: Callable[..., Any], *, takes_file: bool = True) -> Callable[..., Any]:
    if takes_file:
        decorated = _file_option(decorated)
    for setting in reversed(SETTINGS):
        decorated = _option(setting)(decorated)
    return decorated


def daemon_options(command: Callable[..., Any], *, takes_file: bool = True) -> Callable[..., Any]:
    """As :func:`config_options`, for the commands that look at a daemon or drive it.

    It is found wherever this is called: see :mod:`codexd.client.find`.
    """
    return config_options(command, takes_file=takes_file, finds_daemon=True)


# The reference took the flag with every command, and let it count for `start` alone.
run_once_ignored = click.option("--run-once", is_flag=True, hidden=True, expose_value=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


SETTINGS_FILE = "settings_file"
# In click's context: no command was named, and it is `start`.
IS_BARE = "codexd.bare"
_file_option = click.option(
    CONFIG_FLAG,
    SETTINGS_FILE,
    metavar="FILE",
    help=f"Settings file.  [env: {CONFIG_VARIABLE}]",
)
# Where a command finds the values of all settings, with their origins, in click's context.
_VALUES = "codexd.values"
_TOLD = "codexd.told"


class _Told(NamedTuple):
    """The text of each setting's flag, and the settings file that was named."""

    flags: dict[str, Any]
    file: str | None


def setting_values() -> dict[str, Value]:
    """Every setting of the command that runs, with where its value is from."""
    values: dict[str, Value] = click.get_current_context().meta[_VALUES]
    return values


def found_config() -> Config:
    """The configuration of the daemon that the command's flags, or where it is called, lead to."""
    from codexd.client.find import NoPlace, locate, working_directory

    told: _Told = click.get_current_context().meta[_TOLD]
    _check_flags(told)
    try:
        file = read_settings_file(told.file, os.environ)
        place = locate(told.flags, os.environ, cwd=working_directory(), file=file)
    except (SettingError, NoPlace) as error:
        raise BadValue(str(error)) from error
    for fault in place.faults:
        tell(fault)
    if place.is_only_one and place.process is not None and sys.stderr.isatty():
        # Whoever is elsewhere wants to know whom they are about to stop.
        who = f"the daemon of {place.repo_root} (pid {place.process.pid})"
        tell(f"{who}, the only one that runs")
    return place.config


def _resolve(told: _Told) -> Config:
    _check_flags(told)
    try:
        cwd = _working_directory()
        file = read_settings_file(told.file, os.environ)
        values = read_values(told.flags, os.environ, cwd=cwd, file=file)
        click.get_current_context().meta[_VALUES] = values
        return build(values, cwd=cwd)
    except SettingError as error:
        raise BadValue(str(error)) from error


def _check_flags(told: _Told) -> None:
    for setting in SETTINGS:
        value = told.flags[setting.name]
        # A forgotten value would swallow the next flag. Arguments of the child may be flags.
        if isinstance(value, str) and value.startswith("--"):
            raise BadValue(f"Missing value for {setting.flag}: {quoted(value)} is a flag.")


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise BadValue("The working directory is gone: cd to one that exists.") from error


class _SettingOption(click.Option):
    """A setting as a flag. There are too many for the help of a command: one line is for all."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line, where this is the first of them."""
        del ctx
        if self.name != SETTINGS[0].name:
            return None
        return "--SETTING VALUE", "Any setting: see `codexd help settings`."

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Directories, where it is one."""
        if self.metavar != "PATH":
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="dir")]


def _option(setting: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = f"{setting.help}  [env: {', '.join(setting.env)}; default: {setting.default_text}]"
    return click.option(
        setting.flag,
        setting.name,
        cls=_SettingOption,
        metavar=setting.metavar,
        multiple=setting.repeated,
        help=text,
    )
