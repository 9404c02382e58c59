"""`codexd events`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import BinaryIO, get_args

import click
import msgspec

from codexd.cli.options import BadValue, Count, daemon_options, json_option
from codexd.cli.streams import reader_is_gone, tell_if_nothing_is, writing_to
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.contracts import Event, EventLevel
from codexd.eventlog.pages import unknown_types
from codexd.eventlog.reader import follow_events, read_events
from codexd.eventlog.types import TYPES, is_protocol
from codexd.settings import quoted

# A message may show what a child wrote; it must not steer the terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


@click.command("events")
@json_option
@click.option("--since", metavar="SEQ", type=Count(), help="Only those after SEQ.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Only this type; repeatable.")
@click.option(
    "--level",
    "levels",
    type=click.Choice(get_args(EventLevel)),
    multiple=True,
    help="Only this level; repeatable.",
)
@click.option("-n", "--last", metavar="N", type=Count(), help="Only the last N.")
@click.option("-f", "--follow", is_flag=True, help="Go on with the events as they come.")
@click.option("--all", "everything", is_flag=True, help="Also that server and clients talked.")
@daemon_options
def events(
    config: Config,
    as_json: bool,
    since: int | None,
    types: tuple[str, ...],
    levels: tuple[str, ...],
    last: int | None,
    follow: bool,
    everything: bool,
) -> None:
    """Print what happened: SEQ TIME LEVEL TYPE MESSAGE, or a JSON object a line.

    Events that only tell that server and clients have talked (child.stdout on a stdio endpoint)
    are left out unless --all, --type or --json asks for them.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    path = config.paths.structured_event_log_path
    _check_types(path, types)
    without = None if everything or as_json or types else is_protocol
    if follow:
        tell_if_nothing_is(path)
    with writing_to(sys.stdout.buffer) as out:
        found = read_events(
            path, since=since or 0, types=types, levels=levels, without=without, last=last
        )
        seen = write_events(found, out, as_json=as_json, seen=since or 0)
        if follow:
            coming = follow_events(
                path,
                since=seen,
                types=types,
                levels=levels,
                without=without,
                stop=reader_is_gone(out),
            )
            write_events(coming, out, as_json=as_json, seen=seen)


def _check_types(path: str, types: tuple[str, ...]) -> None:
    """See that each type is one that there is, or that an earlier program recorded."""
    for name in unknown_types(path, types):
        raise BadValue(f"Unknown event type {quoted(name)}: there are {', '.join(TYPES)}.")


def write_events(events: Iterable[Event], out: BinaryIO, *, as_json: bool, seen: int) -> int:
    """Write each event on a line as it comes; returns the last one's ``seq``, or ``seen``."""
    for event in events:
        out.write(msgspec.json.encode(event) if as_json else format_event(event).encode())
        out.write(b"\n")
        out.flush()
        seen = event.seq
    return seen


def format_event(event: Event) -> str:
    """An event on one line of text."""
    message = event.message.translate(_CONTROLS)
    return f"{event.seq} {event.created_at} {event.level} {event.type} {message}"
