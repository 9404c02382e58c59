"""`codexd logs`."""

from __future__ import annotations

import sys

import click

from codexd.cli.options import Count, daemon_options
from codexd.cli.streams import reader_is_gone, tell_if_nothing_is, writing_to
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.eventlog.bytes_reader import read_bytes


@click.command("logs")
@click.argument("stream", type=click.Choice(["stdout", "stderr"]), default="stdout")
@click.option("-n", "--lines", metavar="N", type=Count(), help="Only the last N.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@daemon_options
def logs(config: Config, stream: str, lines: int | None, follow: bool) -> None:
    """Print what the server wrote, byte for byte, over rotated logs."""
    check_owner(config.paths, config.runtime, root_may=True)
    paths = config.paths
    path = paths.stdout_log_path if stream == "stdout" else paths.stderr_log_path
    if follow:
        tell_if_nothing_is(path)
    with writing_to(sys.stdout.buffer) as out:
        stop = reader_is_gone(out) if follow else lambda: True
        for piece in read_bytes(path, lines=lines, stop=stop):
            out.write(piece)
            out.flush()
