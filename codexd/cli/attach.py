"""`codexd attach` and `codexd app-server`: the daemon's server on stdin and stdout."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from codexd.cli.codex_options import APP_SERVER_COMMANDS, command_index
from codexd.cli.options import (
    BadValue,
    CliError,
    Count,
    config_options,
    daemon_options,
    found_config,
)
from codexd.cli.overrides import CannotGive, Overrides, read_overrides
from codexd.client.bearer import AuthOptions
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.hub.profile import NOTHING, ClientProfile

# Everything that a daemon starts has it.
_DAEMON_ID_VARIABLE = "BAA_CODEXD_DAEMON_ID"
_STDIN_FD = 0
_STDOUT_FD = 1


@click.command("attach")
@daemon_options
def attach(config: Config) -> None:
    """Join stdin and stdout, a JSON message a line, to the running server.

    Give this command to a tool that starts `codex app-server` by itself. Threads work in the
    directory that it is started in, and only those that were opened through it are heard of. It
    ends when its stdin ends.
    """
    _attach(config, Overrides())


@click.command(
    "app-server", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.option(
    "--listen",
    metavar="URL",
    help="Serve on ws://IP:PORT or unix://[PATH].",
)
@click.option("--stdio", is_flag=True, help="Speak on stdin and stdout: the default.")
@click.option(
    "--ws-auth",
    type=click.Choice(["capability-token", "signed-bearer-token"]),
    metavar="KIND",
    help="capability-token or signed-bearer-token.",
)
@click.option("--ws-token-file", metavar="FILE", help="Holds the capability token.")
@click.option("--ws-token-sha256", metavar="HEX", help="SHA-256 of the capability token.")
@click.option("--ws-shared-secret-file", metavar="FILE", help="Secret of signed tokens (HS256).")
@click.option("--ws-issuer", metavar="TEXT", help="Who must have issued a signed token.")
@click.option("--ws-audience", metavar="TEXT", help="For whom a signed token must be.")
@click.option(
    "--ws-max-clock-skew-seconds",
    type=Count(),
    metavar="SECONDS",
    help="How far clocks may differ; 30.",
)
@functools.partial(config_options, takes_file=False)  # codex has a --config of its own
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def app_server(
    config: Config,
    listen: str | None,
    stdio: bool,
    arguments: tuple[str, ...],
    **ws: Any,
) -> None:
    """Be to tools what `codex app-server` is, on the server that the daemon runs.

    On stdin and stdout it is `codexd attach`; with --listen it serves there. Codex's own options
    hold for the threads that are opened through it. `daemon VERB` drives the daemon, `proxy` joins
    the hub's socket; what generates schemas is the real codex's.
    """
    # What is codex's own needs no daemon, and what is wrong is so whichever it is.
    del config, stdio
    words = list(arguments)
    index = command_index(words)
    if index is not None and words[index] in APP_SERVER_COMMANDS:
        # What stands before one has no effect on it, as with codex itself.
        _run_subcommand(words[index], words[index + 1 :], words)
        return
    try:
        overrides = read_overrides(words)
    except CannotGive as error:
        raise BadValue(str(error)) from error
    if overrides.rest:
        raise BadValue(f'Unknown argument "{overrides.rest[0]}" of app-server.')
    auth, config = _auth_options(ws), found_config()
    if overrides.features:
        _check_features(config, overrides.features)
    if listen is None or listen == "stdio://":
        _attach(config, overrides)
        return
    from codexd.cli.listen import serve

    serve(config, listen, auth, _prepare(config, overrides))


def _check_features(config: Config, names: list[str]) -> None:
    from codexd.cli.features import unknown_feature

    unknown = unknown_feature(config, names)
    if unknown is not None:
        raise BadValue(
            f'Unknown feature "{unknown}" (--enable, --disable): `codex features list` has those '
            "that there are."
        )


def _run_subcommand(name: str, words: list[str], arguments: list[str]) -> None:
    if name == "daemon" and "help" not in words[:1]:
        from codexd.cli.app_server_daemon import run_verb

        run_verb(found_config(), words)
    elif name == "proxy":
        from codexd.cli.proxy import proxy

        proxy(found_config(), words, arguments)
    else:
        from codexd.cli.codex import run_codex

        run_codex(["app-server", *arguments])


def _auth_options(ws: dict[str, Any]) -> AuthOptions:
    return AuthOptions(
        mode=ws["ws_auth"],
        token_file=ws["ws_token_file"],
        token_sha256=ws["ws_token_sha256"],
        shared_secret_file=ws["ws_shared_secret_file"],
        issuer=ws["ws_issuer"],
        audience=ws["ws_audience"],
        max_clock_skew_s=ws["ws_max_clock_skew_seconds"],
    )


def _attach(config: Config, overrides: Overrides) -> None:
    profile = _prepare(config, overrides)
    runs = functools.partial(daemon_runs, config)
    attach_to(config.runtime.hub_socket_path, _STDIN_FD, _STDOUT_FD, runs, profile)


def _prepare(config: Config, overrides: Overrides) -> ClientProfile:
    """See that this may be a client of the daemon; what its clients bring with them."""
    check_owner(config.paths, config.runtime)
    if _DAEMON_ID_VARIABLE in os.environ:
        _refuse_to_be_the_server(config)
    if os.environ.get("CODEX_HOME", "").strip():
        _tell_of_another_home(config)
    cwd = os.path.normpath(os.path.join(os.getcwd(), overrides.cwd))
    return ClientProfile(cwd=cwd, config=overrides.config, private=True)


def daemon_runs(config: Config) -> bool:
    """Whether there is a daemon that may serve its socket, now or soon."""
    from codexd.platform import lock

    return lock.living_holder(config.runtime.lock_path) is not None


def _refuse_to_be_the_server(config: Config) -> None:
    """Where the daemon has started this very process, by way of a shim not known for one."""
    from codexd.child import steps

    child = steps.load(steps.path_of(config.paths.state_dir)).child
    if child is not None and child.pid == os.getpid():
        raise CliError(
            "The daemon has started codexd as its own server, which would wait for itself: name "
            "the real codex with --server-command."
        )


def _tell_of_another_home(config: Config) -> None:
    """A client may believe that the server has its own login and threads."""
    from codexd.codex_home import codex_home
    from codexd.daemons.listing import running

    wanted = os.path.realpath(codex_home(os.environ, cwd=os.getcwd()))
    for daemon in running(os.environ):
        is_it = daemon.state_dir == config.paths.state_dir
        if is_it and daemon.codex_home is not None and daemon.codex_home != wanted:
            click.echo(
                f"codexd: the server's CODEX_HOME is {daemon.codex_home}, not {wanted}", err=True
            )


def attach_to(
    socket_path: str,
    stdin_fd: int,
    stdout_fd: int,
    daemon_runs: Callable[[], bool],
    profile: ClientProfile = NOTHING,
) -> None:
    """Join two file descriptors to the server at ``socket_path``, over the loss of connections.

    Returns when ``stdin_fd`` has ended, or nobody reads ``stdout_fd``.

    Raises:
        CliError: nobody serves the socket, or the connection was lost for good.
    """
    from codexd.client.bridge import Bridge
    from codexd.client.hub_wire import BridgeError, HubConnector
    from codexd.client.stdio_end import StdioEnd

    client = StdioEnd(stdin_fd, stdout_fd)
    try:
        Bridge(HubConnector(socket_path, daemon_runs, profile), client).run()
    except BridgeError as error:
        raise CliError(str(error)) from error
    finally:
        if client.ignored:
            print(f"codexd: {client.ignored} lines were no JSON objects", file=sys.stderr)
