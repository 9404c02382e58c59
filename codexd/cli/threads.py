"""`codexd threads`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from codexd.cli.ids import find_id, shortened
from codexd.cli.nouns import (
    NounGroup,
    age,
    print_fields,
    print_json,
    print_rows,
    running_client,
    shown_time,
)
from codexd.cli.options import Count, daemon_options, json_option
from codexd.cli.server_ready import require_server
from codexd.cli.terminal import Style, harmless, painter
from codexd.cli.transcript import item_line
from codexd.client.sync import Client
from codexd.clock import from_epoch
from codexd.config import Config

_SHOWN = 20
# Among so many of the newest is looked for one that was not typed in full.
_LOOKED_AT = 1000
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@click.group("threads", cls=NounGroup)
def threads() -> None:
    """List the server's threads, and show one with its turns.

    An ID is one as the list shows it: its end, or its beginning, is enough.
    """


@threads.command("list")
@json_option
@click.option(
    "-n", "--last", metavar="N", type=Count(), default=str(_SHOWN), help="So many.  [default: 20]"
)
@click.option("--cwd", metavar="DIR", help="Only those of this directory.")
@click.option("--archived", is_flag=True, help="Those that were archived.")
@daemon_options
def list_threads(config: Config, as_json: bool, last: int, cwd: str | None, archived: bool) -> None:
    """List the threads, the newest first.

    Not on a terminal it is a line each, parted by tabs: id, when it was last used, status, working
    directory, title.
    """
    where = None if cwd is None else os.path.abspath(cwd)
    client = running_client(config)
    require_server(client, config)
    found = client.threads.list(limit=last, cwd=where, archived=archived)
    if as_json:
        print_json({"threads": found})
        return
    short = shortened([_text(thread, "id") for thread in found])
    print_rows(
        ("ID", "AGE", "STATUS", "TITLE", "DIRECTORY"),
        (
            (
                short(_text(thread, "id")),
                age(_updated(thread)),
                _status(thread),
                _title(thread),
                _home_short(_text(thread, "cwd")),
            )
            for thread in found
        ),
        (
            (
                _text(thread, "id"),
                _time(_updated(thread)),
                _status(thread),
                _text(thread, "cwd"),
                _title(thread),
            )
            for thread in found
        ),
        nothing="There are no such threads.",
        styles=_styles,
    )


@threads.command("show")
@click.argument("thread_id", metavar="ID")
@json_option
@daemon_options
def show_thread(config: Config, thread_id: str, as_json: bool) -> None:
    """Show a thread: what was said and done in it."""
    client = running_client(config)
    require_server(client, config)
    thread = client.threads.get(thread_id_of(config, client, thread_id))
    if as_json:
        print_json(thread)
        return
    print_fields(
        [
            ("id", _text(thread, "id")),
            ("title", _title(thread)),
            ("status", _status(thread)),
            ("cwd", _text(thread, "cwd")),
            ("created", shown_time(_time(thread.get("createdAt")))),
            ("updated", shown_time(_time(_updated(thread)))),
        ]
    )
    paint = painter(sys.stdout)
    for turn in thread.get("turns") or []:
        click.echo()
        how = _text(turn, "status")
        click.echo(paint(f"turn {_text(turn, 'id')} ({how})", "dim"))
        for item in turn.get("items") or []:
            _print_item(item)


def _print_item(item: dict[str, Any]) -> None:
    paint = painter(sys.stdout)
    if item.get("type") == "userMessage":
        texts = [part.get("text") or f"[{part.get('type')}]" for part in item.get("content") or []]
        click.echo(paint("> ", "bold") + harmless("\n".join(map(str, texts))))
    elif item.get("type") == "agentMessage":
        click.echo(harmless(_text(item, "text")))
    else:
        line = item_line(item)
        if line is not None:
            click.echo(paint(line, "dim"))


def thread_id_of(config: Config, client: Client, typed: str) -> str:
    """The id of the thread that ``typed`` means.

    Raises:
        CliError: none, or more than one.
    """
    if _WHOLE_ID.fullmatch(typed):
        return typed
    require_server(client, config)
    # Threads without a turn are sessions, and not yet on the server's list.
    known = [session.thread_id for session in client.sessions() if session.thread_id]
    listed = [_text(thread, "id") for thread in client.threads.list(limit=_LOOKED_AT)]
    return find_id(typed, [*listed, *known], "thread")


def _text(thread: dict[str, Any], key: str) -> str:
    value = thread.get(key)
    return value if isinstance(value, str) else ""


def _title(thread: dict[str, Any]) -> str:
    text = _text(thread, "name") or _text(thread, "preview")
    return " ".join(text.split())


def _status(thread: dict[str, Any]) -> str:
    status = thread.get("status")
    word = status.get("type") if isinstance(status, dict) else status
    return {"active": "working", "notLoaded": "-"}.get(str(word), str(word or "-"))


def _updated(thread: dict[str, Any]) -> float | None:
    moment = thread.get("updatedAt") or thread.get("createdAt")
    return float(moment) if isinstance(moment, int | float) else None


def _time(moment: Any) -> str:
    try:
        return from_epoch(float(moment))
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def _home_short(path: str) -> str:
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if len(home) > 1 and f"{path}/".startswith(f"{home}/") else path


def _styles(row: Sequence[str]) -> Sequence[Style]:
    return ("green",) if row[2] == "working" else ()
