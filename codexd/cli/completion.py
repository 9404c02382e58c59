"""`codexd completion`."""

from __future__ import annotations

import click

from codexd.cli.completing import SHELLS, script


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes commands, options, settings, event types and ids in a shell.

    Put it where the shell looks for such files:

    \b
    bash  ~/.local/share/bash-completion/completions/codexd
    zsh   _codexd, in a directory of $fpath
    fish  ~/.config/fish/completions/codexd.fish
    """
    click.echo(script(ctx.find_root().command, shell))
