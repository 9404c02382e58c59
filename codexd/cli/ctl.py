"""`codexd ctl`."""

from __future__ import annotations

import os
import sys

import click

from codexd.cli.drain import running_daemon
from codexd.cli.options import BadValue, CliError, config_options, found_config
from codexd.client.circus import known_commands
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform.files import require_private_directory
from codexd.settings import quoted

# What is not undone by the command that is its opposite.
_ENDS = {
    "quit": "ends the daemon for everybody who uses it, and nothing starts it again.",
    "rm": "takes the watcher away until the daemon is started anew.",
}

# Options of circusctl itself that are followed by a value.
_TAKES_VALUE = {"--endpoint", "--ssh", "--ssh_keyfile", "--timeout"}


@click.command(
    "ctl",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@click.option("--yes", is_flag=True, help="Do not ask before `quit` and `rm`.")
@config_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ctl(config: Config, arguments: tuple[str, ...], yes: bool) -> None:
    """Run circusctl on this daemon's endpoint: `codexd ctl status`, `codexd ctl --help`.

    On a terminal, `quit` and `rm` ask first. There is no prompt: one command a call.
    """
    del config
    if arguments == ("help",):
        arguments = ("--help",)
    known = known_commands()
    commands = [word for word in arguments if word in known]
    if not commands:
        _refuse_unknown(arguments)
    if not commands and not {"--help", "--version"} & set(arguments):
        # circusctl would show its prompt, where `quit` ends not the prompt but the daemon.
        arguments = ("--help",)
    if commands and not yes and sys.stdin.isatty():
        _confirm(commands[0])
    code = "from codexd.circus_ext.circusctl import main; main()"
    told = [] if "--help" in arguments else ["--endpoint", _endpoint(arguments)]
    os.execv(sys.executable, [sys.executable, "-P", "-c", code, *told, *arguments])


def _endpoint(arguments: tuple[str, ...]) -> str:
    """Where the daemon's circusd is asked, or heard."""
    config = found_config()
    check_owner(config.paths, config.runtime)
    running_daemon(config)
    runtime = config.runtime
    _check_place(runtime.runtime_dir)
    return runtime.circus_pubsub_endpoint if "listen" in arguments else runtime.circus_endpoint


def _refuse_unknown(arguments: tuple[str, ...]) -> None:
    """A word where circusctl has its command is a wrong one."""
    words = iter(arguments)
    for word in words:
        if word in _TAKES_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            raise BadValue(f"Unknown circusctl command {quoted(word)}: see codexd ctl --help.")


def _confirm(command: str) -> None:
    if command in _ENDS:
        click.confirm(f"`{command}` {_ENDS[command]} Go on?", abort=True, err=True)


def _check_place(runtime_dir: str) -> None:
    """Nobody else may be able to stand where circusd is asked."""
    try:
        require_private_directory(runtime_dir)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CliError(f"The runtime directory {runtime_dir} {error.strerror}.") from error
