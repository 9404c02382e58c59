"""`codexd attach` and `codexd app-server`: the daemon's server on stdin and stdout."""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from codexd.cli.codex_options import APP_SERVER_COMMANDS
from codexd.cli.options import BadValue, CliError, daemon_options
from codexd.cli.overrides import CannotGive, Overrides, read_overrides
from codexd.client.owner import check_owner
from codexd.config import Config

# Everything that a daemon starts has it.
_DAEMON_ID_VARIABLE = "BAA_CODEXD_DAEMON_ID"
_STDIN_FD = 0
_STDOUT_FD = 1
# A daemon whose plugin is being restarted has its socket back within about a second, or, where it
# hangs, within the time of the health checks.
_RETRY_S = 60.0


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
@click.option("--listen", metavar="URL", help="stdio:// only: the daemon has its own sockets.")
@click.option("--stdio", is_flag=True, help="Speak on stdin and stdout, which it does anyway.")
@functools.partial(daemon_options, takes_file=False)  # codex has a --config of its own
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def app_server(config: Config, listen: str | None, stdio: bool, arguments: tuple[str, ...]) -> None:
    """Do what `codexd attach` does, called as tools call `codex app-server`.

    -c, --enable, --disable, -m, -s, -a, -C and --add-dir hold for the threads that are opened
    through it. What cannot be given to a server that runs already is refused.
    """
    del stdio
    if listen is not None and listen != "stdio://":
        raise BadValue(
            f'Unsupported --listen "{listen}": `codexd app-server` speaks on stdin and stdout; '
            f"the daemon's socket is {config.runtime.hub_socket_path}."
        )
    try:
        overrides = read_overrides(list(arguments))
    except CannotGive as error:
        raise BadValue(str(error)) from error
    if overrides.rest:
        word = overrides.rest[0]
        if word in APP_SERVER_COMMANDS:
            raise BadValue(f'"{word}" is for codex itself: run `codex app-server {word}`.')
        raise BadValue(f'Unknown argument "{word}" of app-server.')
    _attach(config, overrides)


def _attach(config: Config, overrides: Overrides) -> None:
    from codexd.hub.profile import ClientProfile

    check_owner(config.paths, config.runtime)
    if _DAEMON_ID_VARIABLE in os.environ:
        _refuse_to_be_the_server(config)
    if os.environ.get("CODEX_HOME", "").strip():
        _tell_of_another_home(config)

    def daemon_runs() -> bool:
        from codexd.platform import lock

        return lock.living_holder(config.runtime.lock_path) is not None

    cwd = os.path.join(os.getcwd(), overrides.cwd)
    profile = ClientProfile(cwd=os.path.normpath(cwd), config=overrides.config, private=True)
    attach_to(config.runtime.hub_socket_path, _STDIN_FD, _STDOUT_FD, daemon_runs, profile)


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
    profile: Any = None,
) -> None:
    """Join two file descriptors to the server at ``socket_path``, over the loss of connections.

    Returns when ``stdin_fd`` has ended, or nobody reads ``stdout_fd``.

    Raises:
        CliError: nobody serves the socket, or the connection was lost for good.
    """
    from codexd.client.stdio_bridge import BridgeError, StdioBridge
    from codexd.hub.profile import NOTHING

    bridge = StdioBridge(
        _Connector(socket_path, daemon_runs), stdin_fd, stdout_fd, profile or NOTHING
    )
    try:
        bridge.run()
    except BridgeError as error:
        raise CliError(str(error)) from error
    finally:
        if bridge.ignored:
            print(f"codexd: {bridge.ignored} lines were no JSON objects", file=sys.stderr)


class _Connector:
    """Connects to the daemon's socket, as long as there is a daemon that may serve it."""

    def __init__(self, socket_path: str, daemon_runs: Callable[[], bool]) -> None:
        self._path = socket_path
        self._daemon_runs = daemon_runs
        self._failing_since: float | None = None

    def __call__(self) -> socket.socket | None:
        from codexd.client.stdio_bridge import BridgeError, connect
        from codexd.platform.peer import ForeignPeer

        try:
            connected = connect(self._path)
        except ForeignPeer as error:
            raise BridgeError(f"{self._path} is not used: {error.strerror}.") from error
        except OSError as error:
            if not self._daemon_runs():
                text = f"No daemon serves {self._path}: start it with `codexd start`."
                raise BridgeError(text) from error
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > _RETRY_S:
                reason = error.strerror or error
                raise BridgeError(f"The daemon does not serve {self._path}: {reason}.") from error
            return None
        self._failing_since = None
        return connected
