"""How `codexd stop` and `codexd restart` treat running turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from codexd.cli.options import CliError
from codexd.client.circus import set_grace
from codexd.client.http import ask_hub
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.process import ProcessId

# What circus needs beyond the child's own time to end.
MARGIN_S = 15.0
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
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long running turns may take to end.  [default: the stop timeout]",
        ),
    ):
        command = option(command)
    return command


def running_daemon(config: Config) -> ProcessId:
    check_owner(config, root_may=True)
    daemon = lock.living_holder(config.runtime.lock_path)
    if daemon is None:
        raise CliError(f"No codexd runs on {config.paths.state_dir}: start it with `codexd start`.")
    return daemon


def prepare_drain(config: Config, timeout_s: float | None, when_idle: bool, now: bool) -> float:
    """Wait until idle if asked to, and tell circus how long turns may take; returns that."""
    if when_idle:
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        wait_for(lambda: is_idle(config), deadline, "running turns to end", "they still run")
    grace_s = config.policy.stop_timeout_ms / 1000
    if now:
        grace_s = 0.0
    elif timeout_s is not None and not when_idle:
        grace_s = timeout_s
    if grace_s != config.policy.stop_timeout_ms / 1000:
        set_grace(config, grace_s)
    return grace_s


def is_idle(config: Config) -> bool:
    hub = ask_hub(config)
    return hub is None or not hub.get("runningTurns")


def wait_for(done: Callable[[], bool], deadline: float | None, for_what: str, late: str) -> None:
    told = False
    begun = time.monotonic()
    while not done():
        now = time.monotonic()
        if deadline is not None and now > deadline:
            raise CliError(f"Gave up waiting for {for_what}: {late}. --now does not wait.")
        if not told and now - begun > _TELL_AFTER_S:
            click.echo(f"codexd: waiting for {for_what} …", err=True)
            told = True
        time.sleep(_POLL_S)
