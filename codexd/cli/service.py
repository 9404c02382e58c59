"""`codexd service`: codexd under launchd or systemd."""

from __future__ import annotations

import os
import sys
from typing import Any, Final, Literal, get_args

import click
import msgspec

from codexd import rendering
from codexd.cli.options import BadValue, CliError, json_option, resolve_told, told_options
from codexd.cli.render import (
    Program,
    home_of,
    kept_by_service,
    plist_text,
    service_options,
    systemd_text,
    tell_secrets,
)
from codexd.cli.terminal import one_line
from codexd.config import Config
from codexd.encoding import encode_json
from codexd.service.choose import default_kind, installed_program, make_manager
from codexd.service.file import Kind
from codexd.service.hands import Hands, ServiceError
from codexd.service.install import install, uninstall
from codexd.service.manager import Manager
from codexd.service.status import ServiceStatus, service_status
from codexd.settings import BY_NAME

Action = Literal["install", "uninstall", "status"]

_NOT_READY: Final = 3


@click.command("service")
@click.argument("action", type=click.Choice(get_args(Action)))
@click.option("--dry-run", is_flag=True, help="Print each file and step; change nothing.")
@click.option("--force", is_flag=True, help="Replace an edited file; a copy is kept.")
@click.option(
    "--manager",
    "kind",
    type=click.Choice(get_args(Kind)),
    help="Which; default: that of this system.",
)
@click.option("--label", help="launchd: label of the agent.")
@click.option(
    "--process-type",
    type=click.Choice(get_args(rendering.ProcessType)),
    metavar="TYPE",
    help="launchd: Background, Standard, Adaptive, Interactive.",
)
@service_options
@json_option
@told_options
def service(
    action: Action,
    flags: dict[str, Any],
    file: str | None,
    kind: Kind | None,
    home: str | None,
    label: str | None,
    as_json: bool,
    **more: Any,
) -> None:
    """Let launchd or systemd run codexd for this user.

    `install` takes the settings, CODEX_HOME, proxies and certificates of this shell, and waits
    until it is up; again after a change or an upgrade, it restarts what changed. `uninstall` leaves
    logs and state. `status` exits with 0 up and ready, 3 not.
    """
    kind = kind or default_kind()
    _refuse_what_does_not_belong(action, kind, flags, label, as_json=as_json, **more)
    place = home_of(home)
    manager = make_manager(kind, place, os.environ, label or rendering.DEFAULT_LABEL)
    if action == "status":
        _tell_status(service_status(manager, place), as_json=as_json)
        return
    _refuse_sudo()
    hands = Hands(click.echo, is_dry=more["dry_run"])
    try:
        if action == "uninstall":
            uninstall(manager, hands)
        else:
            config = resolve_told(flags, file)
            _install(config, manager, place, hands, **more)
    except ServiceError as error:
        raise CliError(str(error)) from error


def _install(
    config: Config,
    manager: Manager,
    home: str,
    hands: Hands,
    *,
    program: str | None,
    process_type: rendering.ProcessType | None,
    force: bool,
    **_more: Any,
) -> None:
    words: Program = [os.path.abspath(program)] if program else installed_program()
    if manager.kind == "launchd":
        text = plist_text(config, home, words, manager.label, process_type or "Background")
    else:
        text = systemd_text(config, home, words)
    tell_secrets(manager.kind)
    _tell_kept(config)
    install(manager, text, home=home, hands=hands, warn=_warn, force=force)


def _warn(line: str) -> None:
    click.echo(f"codexd: {line}", err=True)


def _tell_kept(config: Config) -> None:
    """What of this shell and of codexd.toml it gets: a value may be one that nobody thought of."""
    kept = kept_by_service(config)
    settings = {setting.env[-1] for setting in BY_NAME.values()}
    told = [name if name in settings else f"{name}={value}" for name, value in kept.items()]
    if told:
        click.echo(f"the service is told: {one_line(', '.join(told))}")


def _refuse_what_does_not_belong(
    action: Action,
    kind: Kind,
    flags: dict[str, Any],
    label: str | None,
    *,
    as_json: bool,
    dry_run: bool,
    force: bool,
    program: str | None,
    process_type: str | None,
) -> None:
    only_install = {
        "--force": force,
        "--program": program,
        "--process-type": process_type,
        **{BY_NAME[name].flag: value for name, value in flags.items()},
    }
    wrong = [] if action == "install" else [flag for flag, given in only_install.items() if given]
    if wrong:
        raise BadValue(f"{wrong[0]} is for `codexd service install`.")
    if as_json and action != "status":
        raise BadValue("--json is for `codexd service status`.")
    if dry_run and action == "status":
        raise BadValue("--dry-run is for install and uninstall: status changes nothing.")
    for flag, value in (("--label", label), ("--process-type", process_type)):
        if value is not None and kind != "launchd":
            raise CliError(f"{flag} is for launchd only.")


def _refuse_sudo() -> None:
    user = os.environ.get("SUDO_USER")
    if os.geteuid() == 0 and user:
        raise CliError(
            f"Run this as {user}, without sudo: it is about a service of the user who runs it."
        )


def _tell_status(status: ServiceStatus, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(encode_json(status)))
    else:
        click.echo(status_text(status))
    if not status.ready:
        sys.exit(_NOT_READY)


def status_text(status: ServiceStatus) -> str:
    """One line of pairs, and what is wrong in sentences."""
    pairs = {
        "service": status.name,
        "manager": status.manager,
        "installed": _yes(status.installed),
        "loaded": _yes(status.loaded),
        "running": _yes(status.pid is not None),
        "ready": _yes(status.ready),
        "pid": status.pid or "none",
        "version": status.version or "none",
        "file": status.path,
    }
    line = " ".join(f"{key}={value}" for key, value in pairs.items())
    return "\n".join([line, *(f"codexd: {note}" for note in _notes(status))])


def _notes(status: ServiceStatus) -> list[str]:
    notes = [one_line(status.reason)] if status.reason else []
    if not status.installed:
        notes.append("it is not installed: codexd service install")
    elif status.edited:
        notes.append("its file was edited: codexd service install --force replaces it")
    elif not status.current:
        notes.append("another codexd has installed it: codexd service install takes this one")
    return notes


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
