"""`codexd tui`: the vendor's terminal UI on this daemon."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Final

import click

from codexd.cli.options import CliError, daemon_options
from codexd.cli.server_ready import why_no_app_server
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.program import NoAnswer, ask
from codexd.settings import SETTINGS
from codexd.settings_file import CONFIG_FLAG

_HELP_S: Final = 10.0
_REMOTE: Final = "--remote"
# codex has a --version and a --config of its own.
_OURS: Final = {setting.flag for setting in SETTINGS} - {"--version", CONFIG_FLAG}


class _Passing(click.Command):
    """What follows codexd's own flags goes to codex as it is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Part the two."""
        own, rest = part_arguments(args)
        return super().parse_args(ctx, [*own, "--", *rest])


def part_arguments(args: list[str]) -> tuple[list[str], list[str]]:
    """codexd's flags, which come first, and codex's arguments."""
    at = 0
    while at < len(args):
        word = args[at]
        if word in _OURS:
            at += 2
        elif word.partition("=")[0] in _OURS:
            at += 1
        else:
            break
    own, rest = args[:at], args[at:]
    if rest[:1] == ["--"]:
        return own, rest[1:]
    return (["--help"], []) if rest[:1] in (["--help"], ["-h"]) else (own, rest)


@click.command("tui", cls=_Passing)
@functools.partial(daemon_options, takes_file=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def tui(config: Config, arguments: tuple[str, ...]) -> None:
    """Start codex's own terminal UI on this daemon, in the directory that this is called in.

    Flags of codexd come first; from the first other word on, everything goes to codex: `codexd
    tui -m MODEL "a prompt"`, `codexd tui resume --last`. It is the codex on PATH, or else the one
    that came with codexd.
    """
    check_owner(config.paths, config.runtime)
    if lock.living_holder(config.runtime.lock_path) is None:
        where = config.paths.state_dir
        raise CliError(f"No daemon runs on {where}: start it with `codexd start`.")
    why_not = why_no_app_server(config)
    if why_not is not None:
        raise CliError(why_not)
    program, environ = find_tui(config, os.environ)
    remote = [_REMOTE, f"unix://{config.runtime.hub_socket_path}"]
    try:
        os.execve(program, [program, *remote, *arguments], environ)
    except OSError as error:
        raise CliError(f"{program} cannot be run: {error.strerror}.") from error


def find_tui(config: Config, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """A codex that knows --remote, and the environment it runs in.

    Raises:
        CliError: there is none.
    """
    from codexd.child.npm_shim import behind_shim

    old = None
    for path in _candidates(config, environ):
        # npm's shim takes a second where the program behind it takes a tenth of one.
        native = behind_shim(path, environ)
        program = path if native is None else native.path
        environment = dict(environ) if native is None else native.environ
        if _knows_remote(program, environment):
            return program, environment
        old = path
    if old is not None:
        raise CliError(f"{old} does not know {_REMOTE}: install a newer codex.")
    raise CliError("There is no codex on PATH: install it, or the package openai-codex-cli-bin.")


def _candidates(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """The one on PATH (or named by the environment), the bundled one, the daemon's own."""
    from codexd.child.command import CommandNotFound, locate
    from codexd.cli.codex import real_codex

    seen = set()
    server = config.server
    for find in (
        real_codex,
        # Nothing is in a PATH like this: what is left is the bundled one.
        lambda: locate("codex", cwd="/", environ={**environ, "PATH": os.devnull}),
        lambda: locate(server.child_command, cwd=server.child_cwd, environ=environ),
    ):
        try:
            path = find()
        except CommandNotFound:
            continue
        if path not in seen and os.path.basename(path).startswith("codex"):
            seen.add(path)
            yield path


def _knows_remote(program: str, environ: Mapping[str, str]) -> bool:
    try:
        _, said = ask([program, "--help"], environ, _HELP_S)
    except (OSError, NoAnswer):
        return False
    return f"{_REMOTE} ".encode() in said
