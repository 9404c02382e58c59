"""`codexd events`."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterable
from typing import BinaryIO, get_args

import click
import msgspec
from click.shell_completion import CompletionItem

from codexd.cli.moments import SeqOrMoment
from codexd.cli.options import BadValue, Count, daemon_options, json_option
from codexd.cli.streams import reader_is_gone, tell_if_nothing_is, writing_to
from codexd.cli.suggest import did_you_mean
from codexd.cli.terminal import Paint, Style, is_terminal, local_time, painter
from codexd.client.owner import check_owner
from codexd.clock import now_iso
from codexd.config import Config
from codexd.contracts import Event, EventLevel
from codexd.eventlog.pages import unknown_types
from codexd.eventlog.reader import events_backward, follow_events, read_events, seq_before
from codexd.eventlog.types import TYPES, is_protocol
from codexd.settings import quoted

# ECMA-48's SGR, with which codex colours its log, also where the message was cut within one.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m|\x1b(?:\[[0-9;:]*)?(?=(?:\.\.\.)?$)")
# A message may show what a child wrote; it must not steer the terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class EventType(click.ParamType[str]):
    """A type of events; which there are, a shell completes."""

    name = "type"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Those that begin so."""
        del ctx, param
        return [CompletionItem(name) for name in TYPES if name.startswith(incomplete)]


@click.command("events")
@json_option
@click.option(
    "--since", metavar="SEQ|TIME", type=SeqOrMoment(), help="Only those after: 1200, 10m, 14:30, …"
)
@click.option("--until", metavar="SEQ|TIME", type=SeqOrMoment(), help="Only those up to then.")
@click.option(
    "--type",
    "types",
    metavar="TYPE",
    type=EventType(),
    multiple=True,
    help="Only this type; repeatable.",
)
@click.option(
    "--level",
    "levels",
    type=click.Choice(get_args(EventLevel)),
    multiple=True,
    help="Only this level; repeatable.",
)
@click.option("--grep", metavar="REGEX", help="Only those whose type, message or detail has it.")
@click.option("-n", "--last", metavar="N", type=Count(), help="Only the last N.")
@click.option("-f", "--follow", is_flag=True, help="Go on with the events as they come.")
@click.option("--all", "everything", is_flag=True, help="Also that server and clients talked.")
@daemon_options
def events(
    config: Config,
    as_json: bool,
    since: int | str | None,
    until: int | str | None,
    types: tuple[str, ...],
    levels: tuple[str, ...],
    grep: str | None,
    last: int | None,
    follow: bool,
    everything: bool,
) -> None:
    """Print what happened: SEQ TIME LEVEL TYPE MESSAGE, or a JSON object a line.

    Events that only tell that server and clients have talked (child.stdout on a stdio endpoint)
    are left out unless --all, --type or --json asks for them. Times are local on a terminal, and
    in UTC elsewhere.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    path = config.paths.structured_event_log_path
    _check_types(path, types)
    hides_talk = not (everything or as_json or types)
    without = _Without(until, _pattern(grep), hides_talk)
    after = seq_before(path, since) if isinstance(since, str) else since or 0
    if follow:
        tell_if_nothing_is(path)
    with writing_to(sys.stdout.buffer) as out:
        write = _writer(out, as_json=as_json)
        found = read_events(
            path, since=after, types=types, levels=levels, without=without, last=last
        )
        seen = write(found, after)
        if follow:
            is_gone = reader_is_gone(out)
            coming = follow_events(
                path,
                since=seen,
                types=types,
                levels=levels,
                without=without,
                stop=lambda: is_gone() or _is_past(path, until),
            )
            write(coming, seen)


class _Without:
    """Tells which events are left out."""

    def __init__(
        self, until: int | str | None, pattern: re.Pattern[str] | None, hides_talk: bool
    ) -> None:
        self._until = until
        self._pattern = pattern
        self._hides_talk = hides_talk

    def __call__(self, event: Event) -> bool:
        return (
            (self._hides_talk and is_protocol(event))
            or self._is_later(event)
            or (self._pattern is not None and not self._pattern.search(_searched(event)))
        )

    def _is_later(self, event: Event) -> bool:
        if isinstance(self._until, str):
            return event.created_at > self._until
        return self._until is not None and event.seq > self._until


def _is_past(path: str, until: int | str | None) -> bool:
    """Whether no event can come any more that is wanted."""
    if isinstance(until, str):
        return now_iso() > until
    if until is None:
        return False
    return any(event.seq >= until for event in itertools.islice(events_backward(path), 1))


def _searched(event: Event) -> str:
    detail = "" if event.detail is None else msgspec.json.encode(event.detail).decode()
    return f"{event.type} {event.message} {detail}"


def _pattern(grep: str | None) -> re.Pattern[str] | None:
    try:
        return None if grep is None else re.compile(grep)
    except (re.error, RecursionError, OverflowError) as error:
        text = f"Invalid value {quoted(grep or '')} (--grep): it is no regular expression: {error}."
        raise BadValue(text) from error


def _check_types(path: str, types: tuple[str, ...]) -> None:
    """See that each type is one that there is, or that an earlier program recorded."""
    for name in unknown_types(path, types):
        meant = did_you_mean(name, TYPES)
        text = f"Unknown event type {quoted(name)}.{meant} There are {', '.join(TYPES)}."
        raise BadValue(text)


def _writer(out: BinaryIO, *, as_json: bool) -> Callable[[Iterable[Event], int], int]:
    """Writes events, and tells the number of the last one."""
    if as_json or not is_terminal(sys.stdout):
        return lambda events, seen: write_events(events, out, as_json=as_json, seen=seen)
    paint = painter(sys.stdout)

    def write(events: Iterable[Event], seen: int) -> int:
        for event in events:
            out.write(f"{event_for_people(event, paint)}\n".encode())
            out.flush()
            seen = event.seq
        return seen

    return write


def event_for_people(event: Event, paint: Paint) -> str:
    """An event as a terminal shows it."""
    styles: dict[str, tuple[Style, ...]] = {"error": ("red",), "warn": ("yellow",)}
    message = _COLOURS.sub("", event.message).translate(_CONTROLS)
    what = f"{event.level:5} {event.type} {message}"
    when = paint(f"{event.seq} {local_time(event.created_at)}", "dim")
    return f"{when} {paint(what, *styles.get(event.level, ()))}"


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
