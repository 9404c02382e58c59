"""`codexd approvals`."""

from __future__ import annotations

import sys

import click

from codexd.cli.approval_text import details, gist
from codexd.cli.ids import find_id, shortened
from codexd.cli.nouns import NounGroup, age, print_json, print_rows, running_client
from codexd.cli.options import daemon_options, json_option
from codexd.cli.terminal import painter
from codexd.client.sync import Client
from codexd.config import Config
from codexd.shapes import Approval


@click.group("approvals", cls=NounGroup)
def approvals() -> None:
    """List what waits for somebody's leave, show it, accept or decline it.

    An ID is one as the list shows it: its end, or its beginning, is enough.
    """


@approvals.command("list")
@json_option
@daemon_options
def list_approvals(config: Config, as_json: bool) -> None:
    """List the approvals that wait, the newest first.

    Not on a terminal it is a line each, parted by tabs: id, since when, kind, thread, what it is.
    """
    found = running_client(config).approvals()[::-1]
    if as_json:
        print_json({"approvals": found})
        return
    short = shortened([approval.approval_id for approval in found])
    thread = shortened([approval.thread_id for approval in found if approval.thread_id])
    print_rows(
        ("ID", "AGE", "KIND", "THREAD", "WHAT"),
        (
            (
                short(entry.approval_id),
                age(entry.since),
                entry.kind,
                thread(entry.thread_id or "-"),
                gist(entry),
            )
            for entry in found
        ),
        (
            (entry.approval_id, entry.since, entry.kind, entry.thread_id or "-", gist(entry))
            for entry in found
        ),
        nothing="Nothing waits for leave.",
    )


@approvals.command("show")
@click.argument("approval_id", metavar="ID")
@json_option
@daemon_options
def show_approval(config: Config, approval_id: str, as_json: bool) -> None:
    """Show all that one must see to decide."""
    found = _find(running_client(config), approval_id)
    if as_json:
        print_json(found)
        return
    for line in details(found, painter(sys.stdout)):
        click.echo(line)


@approvals.command("accept")
@click.argument("approval_id", metavar="ID")
@json_option
@daemon_options
def accept(config: Config, approval_id: str, as_json: bool) -> None:
    """Give leave, this once."""
    _decide(config, approval_id, "accept", as_json=as_json)


@approvals.command("decline")
@click.argument("approval_id", metavar="ID")
@json_option
@daemon_options
def decline(config: Config, approval_id: str, as_json: bool) -> None:
    """Give none; the turn goes on without."""
    _decide(config, approval_id, "decline", as_json=as_json)


def _decide(config: Config, approval_id: str, decision: str, *, as_json: bool) -> None:
    client = running_client(config)
    found = _find(client, approval_id)
    client.decide(found.approval_id, decision)
    if as_json:
        print_json({"approvalId": found.approval_id, "decision": decision})
    else:
        word = {"accept": "Accepted", "decline": "Declined"}[decision]
        click.echo(f"{word} {found.approval_id}: {gist(found)}")


def _find(client: Client, typed: str) -> Approval:
    known = {approval.approval_id: approval for approval in client.approvals()}
    return known[find_id(typed, known, "approval")]
