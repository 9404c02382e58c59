"""How `codexd stop` and `codexd restart` treat running turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from codexd.cli.options import CliError, Seconds
from codexd.client.circus import running_turns
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.process import ProcessId

_POLL_S = 0.05
_TELL_AFTER_S = 2.0


def drain_options(command: Callable[..., None]) -> Callable[..., None]:
    """The ways to treat running turns."""
    for option in (
        click.option("--now", is_flag=True, help="Do not wait for running turns."),
        click.option("--when-idle", is_flag=True, help="First wait until no turn runs."),
        click.option(
            "--timeout",
            "timeout_s",
            type=Seconds(),
            metavar="SECONDS",
            help="How long running turns may take to end.  [default: the stop timeout]",
        ),
    ):
        command = option(command)
    return command


def running_daemon(config: Config) -> ProcessId:
    """The daemon of this state directory.

    Raises:
        CliError: there is none.
        DaemonError: it is another user's.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    daemon = lock.living_holder(config.runtime.lock_path)
    if daemon is None:
        raise CliError(f"No codexd runs on {config.paths.state_dir}: start it with `codexd start`.")
    return daemon


def wait_until_idle(config: Config, timeout_s: float | None) -> None:
    """Wait until no turn runs. While nobody can tell, it is waited as well."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    turns: int | None = None

    def is_idle() -> bool:
        nonlocal turns
        turns = running_turns(config.runtime)
        return turns == 0

    def late() -> str:
        return "they still run" if turns else "the plugin does not tell whether any runs"

    wait_for(is_idle, deadline, "running turns to end", late)


def grace_of(timeout_s: float | None, *, when_idle: bool, now: bool) -> float | None:
    """Seconds that running turns may take to end; None for the daemon's own stop timeout."""
    if now:
        return 0.0
    return None if when_idle else timeout_s


def wait_for(
    done: Callable[[], bool], deadline: float | None, for_what: str, late: Callable[[], str]
) -> None:
    """Wait, and say so when it takes long.

    Raises:
        CliError: ``deadline`` (monotonic) has passed.
    """
    told = False
    begun = time.monotonic()
    while not done():
        now = time.monotonic()
        if deadline is not None and now > deadline:
            raise CliError(f"Gave up waiting for {for_what}: {late()}. --now does not wait.")
        if not told and now - begun > _TELL_AFTER_S:
            click.echo(f"codexd: waiting for {for_what} …", err=True)
            told = True
        time.sleep(_POLL_S)
