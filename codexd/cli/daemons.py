"""`codexd daemons`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import click
import msgspec

from codexd.cli.options import CliError, config_options, json_option
from codexd.cli.terminal import cells, cut, one_line, padded
from codexd.client.roll import SeenDaemon, ask_each
from codexd.config import Config
from codexd.daemons.listing import read_list
from codexd.encoding import encode_json

_INDENT = 8
_WIDEST = 16
# Narrower than that, a path is a column of letters.
_MIN_WIDTH = 40


@click.command("daemons")
@json_option
@config_options
def daemons(config: Config, as_json: bool) -> None:
    """List the daemons of this user that run: pid, node, since when, state, repository, state
    directory (as --state-dir takes it) and CODEX_HOME.

    The state is "ready", "not ready" (what --check of status tells), or "no answer". Not on a
    terminal it is a line each, parted by tabs.
    """
    del config
    found, faults = read_list(os.environ)
    if faults and not found:
        raise CliError(" ".join(faults))
    for fault in faults:
        click.echo(f"codexd: {fault}", err=True)
    seen = ask_each(found)
    if as_json:
        click.echo(msgspec.json.format(encode_json({"daemons": seen})))
    elif not seen:
        click.echo("No codexd runs: start one with `codexd start`.")
    elif sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, _MIN_WIDTH)
        click.echo("\n".join(format_table(seen, width, datetime.now(UTC), os.environ)))
    else:
        click.echo("\n".join(format_line(daemon) for daemon in seen))


def format_line(daemon: SeenDaemon) -> str:
    """A daemon for programs that read lines."""
    return "\t".join(
        one_line(text)
        for text in (
            str(daemon.pid),
            daemon.node_id,
            daemon.started_at,
            daemon.state,
            daemon.repo_root,
            daemon.state_root_dir,
            daemon.codex_home or "-",
        )
    )


def format_table(
    seen: list[SeenDaemon], width: int, now: datetime, environ: Mapping[str, str]
) -> Iterator[str]:
    """Lines for people, none longer than ``width``; what is longer goes on in the next."""
    rows = [("PID", "UP", "STATE", "NODE", "REPOSITORY")]
    home = environ.get("HOME", "")
    for daemon in seen:
        up = format_age(daemon.started_at, now)
        repo = _short(daemon.repo_root, home)
        rows.append((str(daemon.pid), up, daemon.state, one_line(daemon.node_id), repo))
    # A long name of a node pushes its own row only.
    widths = [min(max(cells(row[column]) for row in rows), _WIDEST) for column in range(4)]
    for row, about in zip(rows, [None, *seen], strict=True):
        columns = [padded(cell, size) for cell, size in zip(row[:4], widths, strict=True)]
        yield from _folded("  ".join([*columns, row[4]]), width)
        if about is not None:
            served = "-" if about.codex_home is None else _short(about.codex_home, home)
            state = _short(about.state_root_dir, home)
            for text in (f"--state-dir {state}", f"CODEX_HOME {served}"):
                yield from _folded(f"{'':{_INDENT}}{text}", width)


def format_age(since: str, now: datetime) -> str:
    """How long something has run, in its two largest units; "?" where ``since`` is no time."""
    try:
        age = now - datetime.fromisoformat(since)
    except (ValueError, TypeError):
        return "?"
    seconds = max(0, int(age.total_seconds()))
    for unit, size, below, smaller in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // smaller}{below}"
    return f"{seconds // 60}m" if seconds >= 60 else f"{seconds}s"


def _short(path: str, home: str) -> str:
    is_below = len(home) > 1 and (path == home or path.startswith(home.rstrip("/") + "/"))
    return one_line(f"~{path[len(home.rstrip('/')) :]}" if is_below else path)


def _folded(line: str, width: int) -> Iterator[str]:
    piece, rest = cut(line, width)
    yield piece.rstrip()
    while rest:
        piece, rest = cut(rest, width - _INDENT)
        yield f"{'':{_INDENT}}{piece}".rstrip()
