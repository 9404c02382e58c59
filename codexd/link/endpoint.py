"""Endpoints: where an app-server is spoken to, as codex itself spells it in `--listen`."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from codexd.codex_home import codex_home
from codexd.config import Server
from codexd.settings import quoted

Kind = Literal["stdio", "unix", "ws"]

# What the system's sun_path holds, without its closing NUL (unix(7); macOS: sys/un.h).
_SOCKET_PATH_LIMIT = 103


class BadEndpoint(ValueError):
    """An endpoint that codexd cannot speak to. The text is one line that names it."""


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint; ``path`` for unix, ``host`` and ``port`` for ws."""

    kind: Kind
    url: str
    path: str = ""
    host: str = ""
    port: int = 0


def default_control_socket(environ: Mapping[str, str]) -> str:
    """The vendor's control socket: where a plain `codex` looks for a server (codex 0.163)."""
    home = codex_home(environ, cwd=os.curdir)
    return os.path.normpath(os.path.join(home, "app-server-control", "app-server-control.sock"))


def parse_endpoint(url: str, environ: Mapping[str, str], *, cwd: str) -> Endpoint:
    """Take ``url`` apart; a relative socket path is below ``cwd``.

    Raises:
        BadEndpoint: with one line for the user.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "stdio":
        return Endpoint("stdio", url)
    if separator and scheme == "unix":
        path = os.path.join(cwd, rest) if rest else default_control_socket(environ)
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            raise BadEndpoint(
                f"The endpoint {quoted(url)} is too long for a socket: "
                f"at most {_SOCKET_PATH_LIMIT} bytes of path."
            )
        return Endpoint("unix", url, path=path)
    if separator and scheme == "ws":
        return _parse_websocket(url)
    raise BadEndpoint(
        f"Unsupported endpoint {quoted(url)}: "
        "use stdio://NAME, unix://PATH, unix:// or ws://HOST:PORT."
    )


def _parse_websocket(url: str) -> Endpoint:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        # codex listens on an address, not on a name.
        ipaddress.ip_address(host or "")
    except ValueError:
        host, port = None, None
    if host is None or not port or parts.path not in ("", "/") or parts.username:
        raise BadEndpoint(
            f"Unsupported endpoint {quoted(url)}: use ws://IP:PORT, ws://127.0.0.1:4500."
        )
    return Endpoint("ws", url, host=host, port=port)


def check_endpoint(server: Server, environ: Mapping[str, str], *, hub_on_the_default: bool) -> None:
    """See that the configured endpoint is one that codexd can use.

    ``hub_on_the_default``: the hub is to be on the vendor's control socket.

    Raises:
        BadEndpoint: with one line for the user.
    """
    if server.mode != "app-server":
        return
    endpoint = parse_endpoint(server.endpoint, environ, cwd=server.child_cwd)
    if hub_on_the_default and endpoint.path == default_control_socket(environ):
        raise BadEndpoint(
            f'The hub and the server cannot both be on "{endpoint.path}": with '
            "--hub-default-socket true, give the server another --server-endpoint."
        )


def child_arguments(server: Server) -> list[str]:
    """The child's arguments, with `--listen ENDPOINT` where they do not say it already."""
    arguments = list(server.child_args)
    is_stdio = server.endpoint.startswith("stdio:")
    if server.mode != "app-server" or is_stdio or _says_where_to_listen(arguments):
        return arguments
    return [*arguments, "--listen", server.endpoint]


def arguments_at(server: Server, path: str) -> list[str]:
    """The same for one that is to listen on the socket ``path`` instead."""
    arguments = iter(server.child_args)
    kept = []
    for argument in arguments:
        if argument == "--listen":
            next(arguments, None)
        elif not argument.startswith("--listen="):
            kept.append(argument)
    return [*kept, "--listen", f"unix://{path}"]


def token_file(server: Server) -> str | None:
    """The file with the token that the server asks of whoever connects, by its own arguments.

    Read for each connection: who makes a new token writes it there.
    """
    arguments = server.child_args
    auth = _value_of("--ws-auth", arguments)
    path = _value_of("--ws-token-file", arguments)
    if auth != "capability-token" or not path:
        return None
    return os.path.join(server.child_cwd, path)


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == option:
            return arguments[index + 1] if index + 1 < len(arguments) else None
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def _says_where_to_listen(arguments: Sequence[str]) -> bool:
    return any(
        argument in ("--listen", "--stdio") or argument.startswith("--listen=")
        for argument in arguments
    )
