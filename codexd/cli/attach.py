"""`codexd attach` and `codexd app-server`: the daemon's server on stdin and stdout."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

import click

from codexd.cli.options import BadValue, CliError, config_options
from codexd.client.owner import check_owner
from codexd.config import Config

_STDIN_FD = 0
_STDOUT_FD = 1
# A daemon whose plugin is being restarted has its socket back within about a second.
_RETRY_S = 10.0
_RETRY_DELAY_S = 0.02

# What `codex app-server` calls its subcommands (0.163): there is nothing to join them to.
_SUBCOMMANDS = {"daemon", "proxy", "generate-ts", "generate-json-schema", "help"}


@click.command("attach")
@config_options
def attach(config: Config) -> None:
    """Join stdin and stdout, a JSON message a line, to the running server.

    Give this command to a tool that starts `codex app-server` by itself. It ends when its stdin
    ends.
    """
    _attach(config)


@click.command("app-server", context_settings={"ignore_unknown_options": True})
@click.option("--listen", metavar="URL", help="stdio:// only: the daemon has its own sockets.")
@click.option("--stdio", is_flag=True, help="Speak on stdin and stdout, which it does anyway.")
@functools.partial(config_options, takes_file=False)  # codex has a --config of its own
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def app_server(config: Config, listen: str | None, stdio: bool, arguments: tuple[str, ...]) -> None:
    """Do what `codexd attach` does, called as tools call `codex app-server`.

    Options that configure a server of one's own are ignored: this one is running already.
    """
    del stdio
    if listen is not None and listen != "stdio://":
        raise BadValue(
            f'Unsupported --listen "{listen}": `codexd app-server` speaks on stdin and stdout; '
            f"the daemon's socket is {config.runtime.hub_socket_path}."
        )
    if arguments and arguments[0] in _SUBCOMMANDS:
        raise BadValue(
            f'"{arguments[0]}" is for codex itself: run `codex app-server {arguments[0]}`.'
        )
    if arguments:
        text = " ".join(arguments)
        click.echo(f"codexd: ignored, the server is running already: {text}", err=True)
    _attach(config)


def _attach(config: Config) -> None:
    check_owner(config)

    def daemon_runs() -> bool:
        from codexd.platform import lock

        return lock.living_holder(config.runtime.lock_path) is not None

    attach_to(config.runtime.hub_socket_path, _STDIN_FD, _STDOUT_FD, daemon_runs)


def attach_to(
    socket_path: str, stdin_fd: int, stdout_fd: int, daemon_runs: Callable[[], bool]
) -> None:
    """Join two file descriptors to the server at ``socket_path``.

    Returns when ``stdin_fd`` has ended, or nobody reads ``stdout_fd``.

    Raises:
        CliError: nobody serves the socket, or the connection was lost.
    """
    from codexd.client.stdio_bridge import BridgeError, StdioBridge, connect

    deadline = time.monotonic() + _RETRY_S
    while True:
        try:
            connected = connect(socket_path)
            break
        except OSError as error:
            if not daemon_runs():
                raise CliError(
                    f"No daemon serves {socket_path}: start it with `codexd start`."
                ) from error
            if time.monotonic() > deadline:
                reason = error.strerror or error
                raise CliError(f"The daemon does not serve {socket_path}: {reason}.") from error
            time.sleep(_RETRY_DELAY_S)
    with connected:
        bridge = StdioBridge(connected, stdin_fd, stdout_fd)
        try:
            bridge.run()
        except BridgeError as error:
            raise CliError(str(error)) from error
        finally:
            if bridge.ignored:
                print(f"codexd: {bridge.ignored} lines were no JSON objects", file=sys.stderr)
