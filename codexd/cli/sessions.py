"""`codexd sessions`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, get_args

import click

from codexd.cli.called import as_called
from codexd.cli.ids import find_id, shortened
from codexd.cli.nouns import (
    NounGroup,
    age,
    client_of,
    print_fields,
    print_json,
    print_rows,
    running_client,
    runs,
    shown_time,
)
from codexd.cli.options import BadValue, Count, daemon_options, json_option
from codexd.cli.streams import tell
from codexd.cli.terminal import Style, is_terminal, painter
from codexd.cli.threads import thread_id_of
from codexd.client.errors import DaemonAway
from codexd.config import Config
from codexd.contracts import SessionPurpose, SessionStatus
from codexd.shapes import Session
from codexd.store.snapshot import read_sessions

# So many on a terminal: more would push the newest off it.
_SHOWN = 20
_HEAD = ("ID", "AGE", "STATUS", "PURPOSE", "THREAD", "TITLE")


@click.group("sessions", cls=NounGroup)
def sessions() -> None:
    """List the sessions of the daemon, show one, open and close them.

    An ID is one as the list shows it: its end, or its beginning, is enough.
    """


@sessions.command("list")
@json_option
@click.option("--status", type=click.Choice(get_args(SessionStatus)), help="Only these.")
@click.option("--purpose", type=click.Choice(get_args(SessionPurpose)), help="Only these.")
@click.option("-n", "--last", metavar="N", type=Count(), help="Only the newest N.")
@daemon_options
def list_sessions(
    config: Config,
    as_json: bool,
    status: SessionStatus | None,
    purpose: SessionPurpose | None,
    last: int | None,
) -> None:
    """List the sessions, the newest first; on a terminal 20 of them.

    Not on a terminal it is a line each, parted by tabs: id, when it was made, status, purpose,
    thread, the turn that runs, title. With no daemon running it is what was written down.
    """
    known = _sessions(config)
    found = [
        session
        for session in known
        if status in (None, session.status) and purpose in (None, session.purpose)
    ][:last]
    if as_json:
        print_json({"sessions": found})
        return
    more = 0
    if last is None and is_terminal(sys.stdout):
        found, more = found[:_SHOWN], len(found[_SHOWN:])
    # Told apart from those that are not shown, too: what is shown is to be typed.
    short = shortened([session.session_id for session in known])
    thread = shortened([session.thread_id for session in known if session.thread_id])
    print_rows(
        _HEAD,
        (
            (
                short(entry.session_id),
                age(entry.created_at),
                "working" if entry.turn else entry.status,
                entry.purpose,
                thread(entry.thread_id or "-"),
                entry.title or "",
            )
            for entry in found
        ),
        (
            (
                entry.session_id,
                entry.created_at,
                entry.status,
                entry.purpose,
                entry.thread_id or "-",
                entry.turn or "-",
                entry.title or "",
            )
            for entry in found
        ),
        nothing="There are no such sessions.",
        styles=_styles,
    )
    if more:
        told = as_called(f"and {more} more: `codexd sessions --last {len(found) + more}`")
        click.echo(painter(sys.stdout)(told, "dim"))


def _styles(row: Sequence[str]) -> Sequence[Style]:
    return {"closed": ("dim",), "working": ("green",)}.get(row[2], ())  # type: ignore[return-value]


@sessions.command("show")
@click.argument("session_id", metavar="ID")
@json_option
@daemon_options
def show_session(config: Config, session_id: str, as_json: bool) -> None:
    """Show one session: its thread, who listens to it, what was noted of it."""
    known = {session.session_id: session for session in _sessions(config)}
    _print(known[find_id(session_id, known, "session")], as_json=as_json)


@sessions.command("open")
@click.option(
    "--purpose",
    type=click.Choice(get_args(SessionPurpose)),
    default="worker",
    show_default=True,
    help="What it is for.",
)
@click.option("--thread", metavar="ID", help="Take up this thread.")
@click.option("--metadata", "notes", metavar="KEY=VALUE", multiple=True, help="Note; repeatable.")
@json_option
@daemon_options
def open_session(
    config: Config,
    purpose: SessionPurpose,
    thread: str | None,
    notes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Open a session, and print its id."""
    metadata = {}
    for note in notes:
        key, equals, value = note.partition("=")
        if not key or not equals:
            raise BadValue(f'Invalid --metadata "{note}": give KEY=VALUE.')
        metadata[key] = value
    client = running_client(config)
    thread_id = None if thread is None else thread_id_of(config, client, thread)
    made = client.open_session(purpose, metadata=metadata or None, thread=thread_id)
    print_json(made) if as_json else click.echo(made.session_id)


@sessions.command("close")
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@daemon_options
def close_sessions(config: Config, session_ids: tuple[str, ...], as_json: bool) -> None:
    """Close sessions, and print their ids. Their threads stay."""
    client = running_client(config)
    known = [session.session_id for session in client.sessions()]
    meant = [find_id(session_id, known, "session") for session_id in session_ids]
    closed = [client.close_session(session_id) for session_id in meant]
    if as_json:
        print_json({"sessions": closed})
        return
    for session in closed:
        click.echo(session.session_id)


def _sessions(config: Config) -> list[Session]:
    """All of them, the newest first; from the file where there is no daemon to ask."""
    client = client_of(config)
    try:
        return client.sessions()
    except DaemonAway as error:
        why = str(error) if runs(config) else f"No daemon runs on {config.paths.state_dir}."
        tell(f"{why} This is what session-registry.json holds.")
    records = read_sessions(config.paths).sessions
    records.sort(key=lambda record: (record.created_at, record.session_id), reverse=True)
    return [
        Session(**{name: getattr(record, name) for name in record.__struct_fields__})
        for record in records
    ]


def _print(session: Session, *, as_json: bool) -> None:
    if as_json:
        print_json(session)
        return
    fields: list[tuple[str, Any]] = [
        ("id", session.session_id),
        ("title", session.title),
        ("status", session.status),
        ("purpose", session.purpose),
        ("thread", session.thread_id),
        ("turn", session.turn),
        ("clients", ", ".join(session.clients)),
        ("cwd", session.cwd),
        ("created", shown_time(session.created_at)),
        ("updated", shown_time(session.updated_at)),
        ("endpoint", session.endpoint),
    ]
    fields += sorted(session.metadata.items())
    print_fields(fields)
