"""`codexd app-server proxy`: a WebSocket client on stdin and stdout, as it comes over SSH."""

from __future__ import annotations

import functools
import os

from codexd.cli.attach import daemon_runs
from codexd.cli.options import BadValue, CliError
from codexd.client.owner import check_owner
from codexd.config import Config

_STDIN_FD = 0
_STDOUT_FD = 1
_TAKES_VALUE = ("-c", "--config", "--enable", "--disable")


def proxy(config: Config, words: list[str], arguments: list[str]) -> None:
    """Join the client to the hub, or, for a socket that is not the daemon's, run the real codex.

    Raises:
        BadValue: an argument that codex has not.
        CliError: there is no daemon, or it went away.
    """
    path = _socket(words)
    if path is not None and not is_ours(config, path):
        from codexd.cli.codex import run_codex

        run_codex(["app-server", *arguments])
    from codexd.client.bridge import Bridge
    from codexd.client.doorway import Doorway
    from codexd.client.hub_wire import BridgeError, HubConnector

    check_owner(config.paths, config.runtime)
    connect = HubConnector(config.runtime.hub_socket_path, functools.partial(daemon_runs, config))
    try:
        connect.check()
        end = Doorway(lambda: True, refuses_pages=False).enter(_STDIN_FD, _STDOUT_FD)
        if end is not None:
            try:
                Bridge(connect, end).run()
            finally:
                end.leave("codexd app-server proxy is ending")
    except BridgeError as error:
        raise CliError(str(error)) from error


def _socket(words: list[str]) -> str | None:
    path: str | None = None
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in ("--sock", *_TAKES_VALUE):
            raise BadValue(f'Unknown argument "{word}" of app-server proxy.')
        given = value if equals else next(rest, None)
        if given is None:
            raise BadValue(f"{name} lacks its value.")
        if name == "--sock":
            path = given
    return path


def is_ours(config: Config, path: str) -> bool:
    """Whether it is codexd.sock, or where tools look for the vendor's daemon."""
    from codexd.link.endpoint import default_control_socket

    ours = (config.runtime.hub_socket_path, default_control_socket(os.environ))
    return os.path.realpath(path) in {os.path.realpath(known) for known in ours}
