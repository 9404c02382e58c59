"""`codexd help`: what is no command's own."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Mapping
from typing import Final

import click

from codexd.cli.completing import Words
from codexd.cli.options import BadValue
from codexd.cli.suggest import did_you_mean
from codexd.settings import SETTINGS, quoted

# Wider than that nobody reads lines.
_WIDEST: Final = 100

_EXIT_CODES: Final = """\
 0  done
 1  it failed, or a check of `smoke` did
 2  told something that cannot be: a setting, an option, a word
 3  `status --check`: not up and ready
 4  `run`: the turn was interrupted
 5  `run`: it was refused for an approval that nobody gave
130  ended by Ctrl-C

Every error is one line on stderr: what is wrong, and what to do.
"""

_WHICH: Final = """\
The commands that look at a daemon or drive it take

 1. the one that --repo-root or --state-dir names, or their variables,
 2. else the one of this directory, or the nearest above that has one,
 3. else the only one of yours that runs.

Where several run and nothing says which is meant, the command names
each of them. `codexd daemons` lists them from anywhere. `codexd start`
and `codexd config` mean this directory, unless they are told otherwise.
"""


def settings_page(width: int) -> str:
    """Every setting: its flag, what it does, its variables, its default."""
    intro = (
        "Every command takes each setting as a flag; else the environment counts, then a line "
        "NAME = VALUE of ~/.config/codexd/codexd.toml (or of the file that --config or "
        "BAA_CODEXD_CONFIG names), then the default. "
        "NAME is the flag's, with _ for -, and server_args for --server-arg. "
        "`codexd config --show-origin` tells what counts here, and why."
    )
    parts = [textwrap.fill(intro, width)]
    for setting in SETTINGS:
        told = f"{', '.join(setting.env)}; default: {setting.default_text}"
        lines = [
            f"{setting.flag} {setting.metavar}",
            *_indented(setting.help, width),
            *_indented(f"[{told}]", width),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _indented(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width - 4, break_on_hyphens=False)
    return [f"    {line}" for line in lines]


TOPICS: Final[Mapping[str, Callable[[int], str]]] = {
    "settings": settings_page,
    "which": lambda _: _WHICH,
    "exit-codes": lambda _: _EXIT_CODES,
}


class _Topics(Words):
    """Commands and topics."""

    name = "topic"

    def words(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Each, with what it is."""
        del ctx
        from codexd.cli.main import COMMANDS

        return [*((name, "command") for name in COMMANDS), *((name, "topic") for name in TOPICS)]


@click.command("help")
@click.argument("topic", type=_Topics(), metavar="[COMMAND|TOPIC]", required=False)
@click.option("--man", is_flag=True, help="Print the man page (roff): codexd help --man | man -l -")
@click.pass_context
def help_(ctx: click.Context, topic: str | None, man: bool) -> None:
    """Help on a command, or on a topic: settings, which (daemon is meant), exit-codes."""
    if man:
        from codexd.cli.manual import man_page

        click.echo(man_page(), nl=False)
        return
    if topic is None:
        # `codexd help` itself is `codexd --help`: see main.
        click.echo(ctx.get_help())
        return
    page = TOPICS.get(topic)
    if page is None:
        from codexd.cli.main import COMMANDS

        hint = did_you_mean(topic, [*COMMANDS, *TOPICS])
        raise BadValue(f"There is no help on {quoted(topic)}.{hint} Topics: {', '.join(TOPICS)}.")
    width = min(shutil.get_terminal_size().columns - 2, _WIDEST)
    click.echo(page(width), nl=False)
