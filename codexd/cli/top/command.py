"""`codexd top`."""

from __future__ import annotations

import os
import sys

import click

from codexd.cli.options import daemon_options
from codexd.client.owner import check_owner
from codexd.config import Config


@click.command("top")
@daemon_options
def top(config: Config) -> None:
    """Watch the daemon live: server, processes, restarts, sessions with their turns, events.

    Keys: q quits, r restarts the server when no turn runs (press it twice), arrows and Enter look
    into a session, ? tells the rest. It stays while the daemon goes down and comes back. Where
    there is no screen (a pipe, TERM=dumb) it prints a line whenever something changes.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    if _has_screen():
        from codexd.cli.top.screen import Screen

        Screen(config, config.paths.repo_root).run()
    else:
        from codexd.cli.top.lines import print_lines

        print_lines(config)


def _has_screen() -> bool:
    is_dumb = os.environ.get("TERM", "dumb") in ("", "dumb")
    return sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb
