"""`codexd start`."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import BinaryIO

import click

from codexd.child.command import speaks_protocol
from codexd.child.outcome import Outcome
from codexd.cli.options import IS_BARE, BadValue, CliError, config_options, json_option
from codexd.cli.starter import Starter, Word
from codexd.cli.status import print_status, tcp_note
from codexd.cli.streams import discard_stdout, tell
from codexd.client.owner import check_owner
from codexd.config import Config, setting_texts, spare_refusal
from codexd.platform.users import owner_of_place, user_name
from codexd.settings import SETTINGS
from codexd.settings_ini import plugin_argv
from codexd.store.snapshot import read_daemon


@click.command("start")
@click.option("--run-once", is_flag=True, help="Stop after the smoke lifetime.")
@click.option("--detach", is_flag=True, help="Return when the server is ready; run on behind.")
@json_option
@config_options
def start(config: Config, run_once: bool, detach: bool, as_json: bool) -> None:
    """Run the daemon: start the server, keep it up, record what happens.

    Runs in the foreground until SIGINT or SIGTERM, or `codexd stop`.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    tell_whose_place_it_is(config)
    if sys.stdout.isatty() and not run_once and tell_who_runs(config, as_json=as_json):
        return
    if click.get_current_context().meta.get(IS_BARE) and sys.stdin.isatty():
        from codexd.cli.start_words import tell_what_comes

        tell_what_comes(config)
    if detach:
        from codexd.cli.start_words import tell_where_to_attach

        start_detached(config)
        print_status(config, as_json=as_json, is_starting=True)
        tell_where_to_attach(config)
    else:
        run_in_foreground(config, run_once=run_once, as_json=as_json)


def tell_who_runs(config: Config, *, as_json: bool) -> bool:
    """Say who runs here already with the same settings, where somebody does."""
    from codexd.cli.start_words import running_pid, tell_where_to_attach

    pid = running_pid(config)
    if pid is None:
        return False
    if as_json:
        print_status(config, as_json=True)
    else:
        click.echo(f"codexd already runs on {config.paths.state_dir}, as pid {pid}.")
        tell_where_to_attach(config)
    return True


def run_in_foreground(config: Config, *, run_once: bool, as_json: bool) -> None:
    """Be the daemon until it is told to end."""
    from codexd.supervisor.ini import begin_circus_ini

    starter = Starter()
    # This process is the only one that works so far: what renders it has a core of its own.
    ini = begin_circus_ini(config)
    from codexd.circus_ext import early

    # What is loaded from here on is no garbage, and to look for some takes a while; circus looks
    # again.
    gc.disable()
    early.begin(plugin_argv(config))
    try:
        _run_in_foreground(config, ini.result, starter.leave, run_once=run_once, as_json=as_json)
    except click.ClickException as error:
        starter.tell(error.format_message())
        raise
    finally:
        ini.give_up()
        early.give_up()


def _run_in_foreground(
    config: Config,
    ini: Callable[[], bytes],
    on_prepared: Callable[[], None],
    *,
    run_once: bool,
    as_json: bool,
) -> None:
    # Nothing else goes before the plugin's process: what is loaded from here on, both load at once.
    from codexd.supervisor.daemon import Daemon
    from codexd.supervisor.errors import CannotStart

    is_line_printed = run_once

    def announce(outcome: Outcome) -> None:
        nonlocal is_line_printed
        try:
            if outcome.kind == "failed" or not run_once:
                _say(outcome, config)
            if outcome.kind in ("up", "failed") and config.policy.hub_listen:
                _tell_of_tcp(config)
            # Who reads JSON has no ear for the word that follows: it comes once all is known.
            is_early = as_json and outcome.kind in ("running", "waiting")
            if not is_line_printed and not (is_early and speaks_protocol(config.server)):
                is_line_printed = True
                print_status(config, as_json=as_json, is_starting=True)
            if outcome.kind == "up" and not run_once:
                from codexd.cli.start_words import tell_where_to_attach

                tell_where_to_attach(config)
        except OSError as error:
            # The server is wanted more than the line about it.
            discard_stdout()
            tell(f"the status cannot be written: {error.strerror}")

    _tell_of_no_spare(config)
    daemon = Daemon(config, announce, ini)
    _tell_of_the_vendors_daemon(config)
    try:
        daemon.prepare()
    except CannotStart as error:
        raise (BadValue if error.is_configuration else CliError)(str(error)) from error
    on_prepared()
    try:
        daemon.run(lifetime_s=config.smoke_lifetime_ms / 1000 if run_once else None)
    finally:
        daemon.finish()
    if not as_json and not run_once:
        from codexd.circus_ext.hooks import stopped_by

        after = f" after {stopped_by.name}" if stopped_by else ""
        click.echo(f"codexd stopped{after}")
    if not as_json or run_once:
        print_status(config, as_json=as_json)


def _tell_of_no_spare(config: Config) -> None:
    refusal = spare_refusal(config)
    if refusal is not None:
        tell(f"there is no spare: {refusal}.")


def _say(outcome: Outcome, config: Config) -> None:
    word = _word_of(outcome, config)
    if word is not None:
        tell(word)


def _tell_of_tcp(config: Config) -> None:
    """Where the hub listens, or why it does not yet."""
    from codexd.client.http import ask_hub

    hub = ask_hub(config.runtime.hub_socket_path)
    unserved = {} if hub is None else {e["path"]: e["reason"] for e in hub["unservedSockets"]}
    why = unserved.get(config.policy.hub_listen)
    note = tcp_note(hub) if why is None else f"the hub does not listen on TCP so far: {why}"
    if note is not None:
        tell(note)


def _word_of(outcome: Outcome, config: Config) -> str | None:
    """What to say beside the status line; None where that says it all."""
    endpoint = config.server.endpoint
    if outcome.kind == "failed":
        return f"the server is not ready yet: {outcome.reason}"
    if outcome.kind == "waiting" and speaks_protocol(config.server):
        return f"waiting for the server to answer on {endpoint}"
    if outcome.kind == "up" and config.server.mode == "app-server":
        child = read_daemon(config.paths)
        is_ready = child is not None and child.child.ready
        return "the server is ready" if is_ready else f"nothing answers on {endpoint} so far"
    return None


def _tell_of_the_vendors_daemon(config: Config) -> None:
    """Where another server is on the vendor's socket: the hub's, or of the same CODEX_HOME."""
    from codexd.daemons.homes import served_home
    from codexd.link.endpoint import default_control_socket

    # That the child cannot listen there, it says itself.
    is_the_childs = config.server.endpoint == "unix://"
    if is_the_childs or served_home(config.server, os.environ) is None:
        return
    path = default_control_socket(os.environ)
    if not os.path.lexists(path):
        return
    from codexd.api.stale import find_server

    server = find_server(path)
    if server is None:
        return
    stop = f" Stop it with {server.stop}." if server.stop else ""
    what = (
        f'serves "{path}", where the hub is to be; it takes its place once that is free'
        if config.policy.hub_default_socket
        else "serves the same CODEX_HOME: a thread that it has open cannot be resumed here"
    )
    tell(f"{server.name} {what}.{stop}")


def tell_whose_place_it_is(config: Config) -> None:
    """Root makes files here that the user of the place cannot use later."""
    owner = owner_of_place(config.paths.state_dir)
    # Under sudo it is refused.
    if owner is not None and "SUDO_UID" not in os.environ:
        tell(
            f"{config.paths.state_dir} is in a place of {user_name(owner)}, and what is "
            "made there belongs to root: name another with --state-dir and --logs-dir, or run "
            "codexd as that user."
        )


def start_detached(config: Config) -> int:
    """Start the daemon in a session of its own and wait until it is up; its pid."""
    from codexd.supervisor.readiness import wait_for_process

    out = os.path.join(config.paths.logs_dir, "daemon.log")
    word = Word()
    with _open_log(config, out) as log, word:
        begun = log.seek(0, os.SEEK_END)
        # -P: the working directory is a repository, whose files must not pass for Python's.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "codexd", "start"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **_environment(config), **word.environment},
            pass_fds=[word.writer],
            cwd=config.paths.repo_root if os.path.isdir(config.paths.repo_root) else None,
            start_new_session=True,
        )
        try:
            outcome = wait_for_process(
                config,
                process.pid,
                ended=lambda: process.poll() is not None,
                tell=lambda step: _say(step, config),
            )
        except KeyboardInterrupt:
            # Ctrl-C does not reach it.
            tell(f"codexd (pid {process.pid}) goes on starting; `codexd stop` ends it")
            raise
        told = word.read() if outcome is None else ""
    if outcome is not None and config.policy.hub_listen:
        _tell_of_tcp(config)
    if outcome is None:
        reason = told or _last_line(out, begun) or f"it ended with code {process.returncode}"
        kind = BadValue if process.returncode == BadValue.exit_code else CliError
        raise kind(reason.removeprefix("codexd: "))
    if outcome.kind == "failed":
        reason = (outcome.reason or "").removesuffix(".")
        raise CliError(
            f"The server is not ready: {reason}. codexd (pid {process.pid}) keeps trying; "
            "`codexd stop` ends it."
        )
    return process.pid


def _environment(config: Config) -> dict[str, str]:
    texts = setting_texts(config)
    return {setting.env[0]: texts[setting.name] for setting in SETTINGS}


def _open_log(config: Config, path: str) -> BinaryIO:
    from codexd.platform.files import explain, open_clearing
    from codexd.runtime import UnusableDirectory, make_directories

    try:
        make_directories(config.paths, config.runtime)
        descriptor = open_clearing(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except UnusableDirectory as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"The log cannot be written: {explain(error)}.") from error
    return os.fdopen(descriptor, "wb")


def _last_line(path: str, offset: int) -> str:
    from codexd.platform.files import open_to_read

    with os.fdopen(open_to_read(path), "rb") as file:
        # Shorter than it was: its end was moved, as too long.
        file.seek(offset if offset <= file.seek(0, os.SEEK_END) else 0)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
