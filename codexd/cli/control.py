"""`codexd stop`, `codexd restart` and `codexd ctl`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import click

from codexd.cli.options import CliError, config_options, json_option
from codexd.cli.status import print_status
from codexd.client.live import ask_hub
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.process import ProcessId, is_alive

_WATCHER = "codex-app-server"
_PLUGIN = "plugin:codexd"
_POLL_S = 0.05
_TELL_AFTER_S = 2.0
# What circus needs beyond the child's own time to end.
_MARGIN_S = 15.0


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


@click.command("stop")
@drain_options
@config_options
def stop(config: Config, timeout_s: float | None, when_idle: bool, now: bool) -> None:
    """Stop the daemon and its server.

    Running turns may end first: the server gets SIGTERM and finishes them.
    """
    daemon = lock.living_holder(config.runtime.lock_path)
    if daemon is None:
        click.echo("codexd is not running")
        return
    grace_s = _prepare_drain(config, timeout_s, when_idle, now)
    os.kill(daemon.pid, signal.SIGTERM)
    # Stopped (SIGSTOP), it would not hear that it shall end.
    os.kill(daemon.pid, signal.SIGCONT)
    deadline = time.monotonic() + grace_s + _MARGIN_S
    _wait(lambda: not is_alive(daemon), deadline, "the daemon to end", f"pid {daemon.pid}")
    click.echo("codexd stopped")


@click.command("restart")
@drain_options
@json_option
@config_options
def restart(
    config: Config, timeout_s: float | None, when_idle: bool, now: bool, as_json: bool
) -> None:
    """Start the server anew; the daemon and its clients stay."""
    from codexd.supervisor.readiness import wait_for_process

    daemon = _running_daemon(config)
    if config.server.child_strategy == "external":
        raise CliError("The server is external: restart it where it was started.")
    grace_s = _prepare_drain(config, timeout_s, when_idle, now)
    try:
        _circus(config, "restart", name=_WATCHER, timeout_s=grace_s + _MARGIN_S, waiting=True)
    finally:
        _set_grace(config, config.policy.stop_timeout_ms / 1000)
    outcome = wait_for_process(config, daemon.pid, lambda: not is_alive(daemon))
    if outcome is None or outcome.kind == "failed":
        raise CliError(f"The server is not ready: {outcome.reason if outcome else 'it ended'}")
    print_status(config, as_json=as_json)


@click.command(
    "ctl",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@config_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ctl(config: Config, arguments: tuple[str, ...]) -> None:
    """Run circusctl on this daemon's endpoint: `codexd ctl status`, `codexd ctl --help`."""
    runtime = config.runtime
    endpoint = runtime.circus_pubsub_endpoint if "listen" in arguments else runtime.circus_endpoint
    if arguments and "--help" not in arguments:
        _running_daemon(config)
    code = "from circus.circusctl import main; main()"
    os.execv(sys.executable, [sys.executable, "-P", "-c", code, "--endpoint", endpoint, *arguments])


def _running_daemon(config: Config) -> ProcessId:
    daemon = lock.living_holder(config.runtime.lock_path)
    if daemon is None:
        raise CliError(f"No codexd runs on {config.paths.state_dir}: start it with `codexd start`.")
    return daemon


def _prepare_drain(config: Config, timeout_s: float | None, when_idle: bool, now: bool) -> float:
    """Wait until idle if asked to, and tell circus how long turns may take; returns that."""
    if when_idle:
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        _wait(lambda: _is_idle(config), deadline, "running turns to end", "they still run")
    grace_s = config.policy.stop_timeout_ms / 1000
    if now:
        grace_s = 0.0
    elif timeout_s is not None and not when_idle:
        grace_s = timeout_s
    if grace_s != config.policy.stop_timeout_ms / 1000:
        _set_grace(config, grace_s)
    return grace_s


def _is_idle(config: Config) -> bool:
    hub = ask_hub(config)
    return hub is None or not hub.get("runningTurns")


def _set_grace(config: Config, seconds: float) -> None:
    if config.server.child_strategy == "external":
        return
    from codexd.rendering.circus_ini import PLUGIN_GRACE_S

    for name, grace_s in ((_WATCHER, seconds), (_PLUGIN, seconds + PLUGIN_GRACE_S)):
        options = {"graceful_timeout": grace_s}
        _circus(config, "set", name=name, timeout_s=_MARGIN_S, options=options)


def _circus(config: Config, command: str, *, timeout_s: float, **properties: object) -> None:
    from circus.client import CircusClient
    from circus.exc import CallError

    client = CircusClient(endpoint=config.runtime.circus_endpoint, timeout=timeout_s)
    try:
        # Another circus command may be running; it is soon over.
        deadline = time.monotonic() + timeout_s
        while True:
            answer = client.send_message(command, **properties)
            if "already running" not in str(answer.get("reason")) or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
    except CallError as error:
        raise CliError(f"circusd did not answer: {error}") from error
    finally:
        client.stop()
    if answer.get("status") == "error":
        raise CliError(f"circusd refused {command}: {answer.get('reason')}")


def _wait(done: Callable[[], bool], deadline: float | None, for_what: str, late: str) -> None:
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
