"""`codexd status`: what is recorded, checked against what runs. Only reads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from codexd.cli.called import as_called
from codexd.cli.options import BadValue, daemon_options, json_option, run_once_ignored
from codexd.config import Config

if TYPE_CHECKING:
    from codexd.client.live import Live
    from codexd.store.snapshot import Snapshot

# How long `--check` waits for a server that has just become ready.
_CHECK_S = 1.0


@click.command("status")
@click.option("--check", is_flag=True, help="Say it by the exit code: 0 up and ready, 3 not.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@run_once_ignored
@json_option
@daemon_options
def status(config: Config, check: bool, watch: bool, as_json: bool) -> None:
    """Tell how the daemon and its server are.

    On a terminal it also says what is wrong and what mends that; elsewhere it is one line.
    """
    if watch:
        if check or as_json:
            raise BadValue("--watch goes on, and so takes neither --check nor --json.")
        from codexd.cli.status_watch import watch_status

        watch_status(config)
        return
    if sys.stdout.isatty() and not check and not as_json:
        from codexd.cli.status_watch import show_status

        show_status(config)
        return
    live = print_status(config, as_json=as_json, patience_s=_CHECK_S if check else 0.0)
    if check and not live.up:
        sys.exit(3)


def print_status(
    config: Config, *, as_json: bool, patience_s: float = 0.0, is_starting: bool = False
) -> Live:
    """Print the status; returns what was found. The options are those of :func:`look`."""
    # Its help does without them.
    from codexd.client.live import look
    from codexd.client.owner import check_owner
    from codexd.store.snapshot import read_snapshot

    check_owner(config.paths, config.runtime, root_may=True)
    snapshot = read_snapshot(config)
    live = look(config, snapshot.daemon, patience_s=patience_s, is_starting=is_starting)
    if as_json:
        import msgspec

        from codexd.encoding import encode_json

        text = msgspec.json.format(encode_json(status_document(snapshot, live)))
        click.echo(text)
        return live
    click.echo(status_line(snapshot, live))
    if sys.stdout.isatty():
        for note in notes(live, is_starting=is_starting):
            click.echo(f"codexd: {as_called(note)}")
    return live


def notes(live: Live, *, is_starting: bool = False) -> list[str]:
    """What people want to know beside the line, a sentence each.

    Of a server that ``is_starting``, it is not told that it has not been asked for its login yet.
    """
    child, found = live.daemon.child, []
    if child.last_error and not child.ready:
        found.append(child.last_error)
    if child.status == "running" and child.mode == "app-server" and not child.ready:
        found.append(f"the server has not answered yet on {live.config.server.endpoint}")
    health = live.details["health"]
    if health is not None and health["misses"]:
        found.append(
            f"the server has missed {health['misses']} health checks; "
            f"it last answered at {health['lastAnswerAt']}"
        )
    is_unasked = is_starting and live.details["account"] is None
    if child.mode == "app-server" and child.ready and not is_unasked:
        found += login_notes(live.details["account"])
    tcp = tcp_note(live.details["hub"])
    return found if tcp is None else [*found, tcp]


def tcp_note(hub: dict[str, Any] | None) -> str | None:
    """Where the hub is on TCP; None where it is not."""
    tcp = (hub or {}).get("tcp")
    if not isinstance(tcp, dict) or not tcp.get("url"):
        return None
    return f"the hub listens on {tcp['url']}; `codexd token` prints the token"


def login_notes(account: dict[str, Any] | None) -> list[str]:
    """Whether the server is logged in, as it said; nothing where it need not be."""
    if account is None:
        return ["the server has not said whether it is logged in"]
    if not account["required"]:
        return []
    if account["loggedIn"]:
        return [f"the server is logged in ({account['type']})"]
    return ["the server is not logged in: run `codex login`, then `codexd restart --when-idle`"]


def status_document(snapshot: Snapshot, live: Live) -> dict[str, Any]:
    """`status --json`."""
    return {
        "config": live.config,
        "identity": snapshot.identity,
        "daemon": live.daemon,
        "sessionRegistry": snapshot.sessions,
        "recentEvents": snapshot.recent,
        "live": live.details,
    }


def status_line(snapshot: Snapshot, live: Live) -> str:
    """`status`."""
    config, identity = live.config, snapshot.identity
    pairs = {
        "identity": identity.daemon_id if identity else "none",
        "node": identity.node_id if identity else config.node_id,
        "daemon": "running" if live.daemon.started else "stopped",
        "child": live.daemon.child.status,
        "strategy": config.server.child_strategy,
        "mode": config.server.mode,
        "endpoint": config.server.endpoint,
        "sessions": sum(entry.status == "active" for entry in snapshot.sessions.sessions),
        "recent_events": len(snapshot.recent.events),
        "logs_dir": config.paths.logs_dir,
        "state_dir": config.paths.state_dir,
    }
    spare = live.details.get("spare")
    if spare is not None:
        # Only where there is to be one: others read the line as it is.
        pairs["spare"] = "ready" if spare.get("ready") else "none"
    line = " ".join(f"{key}={value}" for key, value in pairs.items())
    return "\n".join([line, *live.remarks])
