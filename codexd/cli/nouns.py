"""Commands of a noun: `codexd NOUN [VERB] …`, where no verb means `list`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from codexd.cli.options import CliError
from codexd.cli.terminal import (
    Style,
    columns,
    is_terminal,
    local_time,
    one_line,
    painter,
    table,
)
from codexd.client.owner import check_owner
from codexd.client.sync import Client
from codexd.clock import to_epoch
from codexd.config import Config
from codexd.encoding import encode_json
from codexd.platform import lock

_DEFAULT = "list"
# Nobody waits longer at a terminal for a daemon that says nothing.
_PATIENCE_S = 10.0


class NounGroup(click.Group):
    """A group whose default is `list`, and whose options may stand before the verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the verb first."""
        if ctx.resilient_parsing:
            # Of a line that somebody is still writing, it may be what comes next.
            return super().parse_args(ctx, args)
        if not {"--help", "-h"} & set(args) or self._verb_at(args) is not None:
            index = self._verb_at(args)
            if index is None:
                args = [_DEFAULT, *args]
            else:
                args = [args[index], *args[:index], *args[index + 1 :]]
        return super().parse_args(ctx, args)

    def _verb_at(self, args: list[str]) -> int | None:
        """Where the first word stands that is neither an option nor an option's value."""
        index, takes_value = 0, self._take_value()
        while index < len(args):
            if not args[index].startswith("-"):
                return index
            index += 2 if args[index] in takes_value else 1
        return None

    def _take_value(self) -> set[str]:
        return {
            flag
            for command in self.commands.values()
            for option in command.params
            if isinstance(option, click.Option) and not option.is_flag
            for flag in option.opts
        }


def client_of(config: Config, *, timeout_s: float = _PATIENCE_S) -> Client:
    """The client of the daemon that was found, which is nobody else's."""
    check_owner(config.paths, config.runtime)
    return Client(socket_path=config.runtime.hub_socket_path, timeout_s=timeout_s)


def running_client(config: Config, *, timeout_s: float = _PATIENCE_S) -> Client:
    """As :func:`client_of`, of a daemon that runs.

    Raises:
        CliError: it does not.
    """
    client = client_of(config, timeout_s=timeout_s)
    if not runs(config):
        where = config.paths.state_dir
        raise CliError(f"No daemon runs on {where}: start it with `codexd start`.")
    return client


def runs(config: Config) -> bool:
    """Whether the daemon runs."""
    return lock.living_holder(config.runtime.lock_path) is not None


def print_json(value: Any) -> None:
    """A document for programs."""
    click.echo(msgspec.json.format(encode_json(value)))


def print_rows(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    whole: Iterable[Sequence[str]],
    *,
    nothing: str,
    styles: Callable[[Sequence[str]], Sequence[Style]] | None = None,
) -> None:
    """A table on a terminal, or ``nothing``; elsewhere ``whole`` rows, parted by tabs."""
    if not is_terminal(sys.stdout):
        for row in whole:
            click.echo("\t".join(one_line(cell) for cell in row))
        return
    shown = list(rows)
    if not shown:
        click.echo(nothing)
        return
    for line in table(head, shown, columns(), paint=painter(sys.stdout), styles=styles):
        click.echo(line)


def print_fields(fields: Iterable[tuple[str, str | None]]) -> None:
    """One thing: a line for each that is known of it."""
    paint = painter(sys.stdout)
    known = [(name, value) for name, value in fields if value]
    size = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        click.echo(f"{paint(name.ljust(size), 'dim')}  {one_line(value)}")


def shown_time(iso: str) -> str:
    """One of our times: by the local clock on a terminal, else as it is."""
    return local_time(iso) if iso and is_terminal(sys.stdout) else iso


def age(since: str | float | None) -> str:
    """How long ago that was, in its largest unit; "?" where it is no time."""
    moment = to_epoch(since) if isinstance(since, str) else since
    if moment is None:
        return "?"
    seconds = max(0, int(datetime.now(UTC).timestamp() - moment))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
