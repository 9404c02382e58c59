"""The `codexd` command: finds the subcommand, and says errors in one line."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from codexd.cli.codex_options import TAKES_VALUE as CODEX_TAKES_VALUE
from codexd.cli.completing import VARIABLE, complete, with_ids
from codexd.cli.groups import GROUPS
from codexd.cli.options import IS_BARE, BadValue, CliError
from codexd.cli.streams import (
    discard_stderr,
    discard_stdout,
    open_what_is_closed,
    show_what_has_no_letters,
)
from codexd.cli.suggest import did_you_mean
from codexd.client.errors import DaemonError
from codexd.settings import SETTINGS, quoted
from codexd.settings_file import CONFIG_FLAG

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Loaded on use: `codexd status` must not pay for zmq, tornado and circus.
COMMANDS = {
    "start": "codexd.cli.start:start",
    "stop": "codexd.cli.stop:stop",
    "restart": "codexd.cli.restart:restart",
    "status": "codexd.cli.status:status",
    "run": "codexd.cli.run:run",
    "sessions": "codexd.cli.sessions:sessions",
    "threads": "codexd.cli.threads:threads",
    "approvals": "codexd.cli.approvals:approvals",
    "daemons": "codexd.cli.daemons:daemons",
    "doctor": "codexd.cli.doctor:doctor",
    "config": "codexd.cli.config:config",
    "events": "codexd.cli.events:events",
    "logs": "codexd.cli.logs:logs",
    "metrics": "codexd.cli.metrics:metrics",
    "service": "codexd.cli.service:service",
    "top": "codexd.cli.top.command:top",
    "tui": "codexd.cli.tui:tui",
    "smoke": "codexd.cli.smoke:smoke",
    "attach": "codexd.cli.attach:attach",
    "app-server": "codexd.cli.attach:app_server",
    "ctl": "codexd.cli.ctl:ctl",
    "dashboard": "codexd.cli.dashboard:dashboard",
    "token": "codexd.cli.token:token",
    "render-circus": "codexd.cli.render:render_circus",
    "render-plist": "codexd.cli.render:render_plist",
    "render-systemd": "codexd.cli.render:render_systemd",
    "completion": "codexd.cli.completion:completion",
    "help": "codexd.cli.help:help_",
}

# Tools that start `codex app-server` put codex's own options before the subcommand.
_TAKES_VALUE = {setting.flag for setting in SETTINGS} | {CONFIG_FLAG} | CODEX_TAKES_VALUE
# What follows these is not for codexd, or is said by someone else.
_OWN_HELP = {"ctl", "app-server"}


class Commands(click.Group):
    """A group whose default is `start`, and whose options may stand before the subcommand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every subcommand, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand."""
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, name = where.split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return with_ids(command) if ctx.resilient_parsing else command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the subcommand first; without one, it is `start`."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, _begun(args))
        ctx.meta[IS_BARE] = _find_command(args) == (None, False)
        return super().parse_args(ctx, hoist_command(args))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by group."""
        known = {name for rows in GROUPS.values() for name in rows}
        # One that has no group has a line of its own, which costs to load it.
        others = {name: self._line_of(ctx, name) for name in COMMANDS if name not in known}
        for title, rows in (*GROUPS.items(), ("Others", others)):
            shown = [(name, line) for name, line in rows.items() if name in COMMANDS]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown)

    def _line_of(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str() if command is not None else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """The commands, none of which is loaded for it."""
        from click.shell_completion import CompletionItem

        lines = {name: line for rows in GROUPS.values() for name, line in rows.items()}
        found = [name for name in COMMANDS if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=lines.get(name, "")) for name in found), *options]


def hoist_command(args: list[str]) -> list[str]:
    """``args`` with the subcommand in front.

    Raises:
        BadValue: an unknown subcommand, or more than one.
    """
    index, asks_for_version = _find_command(args)
    if asks_for_version:
        return ["--version"]
    if index is None:
        return ["--help"] if {"--help", "-h"} & set(args) else ["start", *args]
    name, rest = args[index], args[index + 1 :]
    if name == "help":
        return _asks_for_help(rest)
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise BadValue(f"Unknown codexd action {quoted(name)}: see codexd --help.{hint}")
    if rest[:1] == ["help"] and name not in _OWN_HELP:
        return [name, "--help"]
    return [name, *args[:index], *rest]


def _asks_for_help(rest: list[str]) -> list[str]:
    """`codexd help events`, and `codexd --json help` as the reference took it."""
    if rest[:1] in (["--man"], ["--help"], ["-h"]):
        return ["help", rest[0]]
    topic = next((word for word in rest if not word.startswith("-")), None)
    if topic is None:
        return ["--help"]
    return [topic, "--help"] if topic in COMMANDS else ["help", topic]


def _begun(args: list[str]) -> list[str]:
    """As :func:`hoist_command`, for a line that somebody is still writing."""
    index, _ = _find_command(args)
    if index is None or args[index] not in COMMANDS:
        return []
    return [args[index], *args[:index], *args[index + 1 :]]


def _find_command(args: list[str]) -> tuple[int | None, bool]:
    """Where the subcommand stands, and whether --version before it asks for codexd's own."""
    index = 0
    while index < len(args):
        word, following = args[index], args[index + 1 : index + 2]
        if not word.startswith("-"):
            return index, False
        if word == "--version" and _is_no_value(following):
            return index, True
        index += 2 if word in _TAKES_VALUE else 1
    return None, False


def _is_no_value(following: list[str]) -> bool:
    return not following or following[0].startswith("-") or following[0] in {*COMMANDS, "help"}


def _show_version(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        from codexd.cli.codex import version_text

        click.echo(version_text())
        context.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of codex and codexd and exit.",
)
def cli() -> None:
    """Keep one `codex app-server` running, remember what it does, and share it.

    Without a command, codexd starts the daemon. Every setting can be a flag, an environment
    variable or a line of codexd.toml; the first of these that has it wins.

    More: codexd help COMMAND, codexd help settings, codexd help which, codexd help exit-codes.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 1 failed, 2 told something that cannot be."""
    args = sys.argv[1:] if argv is None else argv
    open_what_is_closed()
    show_what_has_no_letters(sys.stdout)
    instruction = os.environ.get(VARIABLE)
    if instruction:
        complete(cli, instruction)
        sys.exit(0)
    try:
        code = cli.main(args=args, prog_name="codexd", standalone_mode=False)
        sys.stdout.flush()
    except click.NoSuchOption as error:
        found = error.possibilities or []
        hint = f" Did you mean {found[0]}?" if found else ""
        _fail(BadValue(f"Unknown codexd flag {quoted(error.option_name)}.{hint}"))
    except click.UsageError as error:
        _fail(BadValue(error.format_message()))
    except click.ClickException as error:
        _fail(error)
    except DaemonError as error:
        _fail(CliError(str(error)))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        discard_stdout()
        sys.exit(1)
    except OSError as error:
        discard_stdout()
        _fail(CliError(_trouble(error)))
    sys.exit(code if isinstance(code, int) else 0)


# What write(2) says of a stdout that takes nothing; other calls say it with a file's name.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def _trouble(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT and not error.filename and _is_cwd_gone():
        return "The working directory is gone: cd to one that exists."
    if error.filename:
        return f"{reason}: {error.filename}"
    if error.errno in _UNWRITABLE:
        return f"The output cannot be written: {reason}."
    return f"Cannot go on: {reason}."


def _is_cwd_gone() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _fail(error: click.ClickException) -> Any:
    try:
        error.show()
    except OSError:
        discard_stderr()
    sys.exit(error.exit_code)
