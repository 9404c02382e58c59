"""The `codexd` command: finds the subcommand, and says errors in one line."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from codexd import __version__
from codexd.cli.codex_options import TAKES_VALUE
from codexd.cli.options import BadValue, CliError
from codexd.client.errors import DaemonError
from codexd.settings import SETTINGS
from codexd.settings_file import CONFIG_FLAG

# Loaded on use: `codexd status` must not pay for zmq, tornado and circus.
COMMANDS = {
    "start": "codexd.cli.start:start",
    "stop": "codexd.cli.stop:stop",
    "restart": "codexd.cli.restart:restart",
    "status": "codexd.cli.status:status",
    "config": "codexd.cli.config:config",
    "events": "codexd.cli.events:events",
    "logs": "codexd.cli.logs:logs",
    "smoke": "codexd.cli.smoke:smoke",
    "attach": "codexd.cli.attach:attach",
    "app-server": "codexd.cli.attach:app_server",
    "ctl": "codexd.cli.ctl:ctl",
    "render-circus": "codexd.cli.render:render_circus",
    "render-plist": "codexd.cli.render:render_plist",
    "render-systemd": "codexd.cli.render:render_systemd",
}

# Tools that start `codex app-server` put codex's own options before the subcommand.
_TAKES_VALUE = {setting.flag for setting in SETTINGS} | {CONFIG_FLAG} | TAKES_VALUE


class Commands(click.Group):
    """A group whose default is `start`, and whose options may stand before the subcommand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every subcommand, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand."""
        del ctx
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, name = where.split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the subcommand first; without one, it is `start`."""
        return super().parse_args(ctx, hoist_command(args))


def hoist_command(args: list[str]) -> list[str]:
    """``args`` with the subcommand in front.

    Raises:
        BadValue: an unknown subcommand, or more than one.
    """
    if args in (["--version"], ["--help"], ["-h"], ["help"]):
        return ["--help"] if args == ["help"] else args
    if args[:1] == ["help"]:
        return [*args[1:], "--help"]
    index = _command_index(args)
    if index is None:
        return ["--help"] if {"--help", "-h"} & set(args) else ["start", *args]
    name = args[index]
    if name not in COMMANDS:
        raise BadValue(f'Unknown codexd action "{name}": see codexd --help.')
    return [name, *args[:index], *args[index + 1 :]]


def _command_index(args: list[str]) -> int | None:
    index = 0
    while index < len(args):
        if not args[index].startswith("-"):
            return index
        index += 2 if args[index] in _TAKES_VALUE else 1
    return None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="codexd %(version)s")
def cli() -> None:
    """Keep one `codex app-server` running, remember what it does, and share it.

    Without a command, codexd starts the daemon. Every setting can be a flag, an environment
    variable or a line of codexd.toml; the first of these that has it wins.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 1 failed, 2 told something that cannot be."""
    args = sys.argv[1:] if argv is None else argv
    try:
        code = cli.main(args=args, prog_name="codexd", standalone_mode=False)
    except click.NoSuchOption as error:
        _fail(BadValue(f'Unknown codexd flag "{error.option_name}".'))
    except click.UsageError as error:
        _fail(BadValue(error.format_message()))
    except click.ClickException as error:
        _fail(error)
    except DaemonError as error:
        _fail(CliError(str(error)))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: click.ClickException) -> Any:
    error.show()
    sys.exit(error.exit_code)
