"""`codexd app-server --listen ws://… | unix://…`: the hub, where a tool wants its server."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from codexd.cli.attach import daemon_runs
from codexd.cli.options import BadValue, CliError
from codexd.client.bearer import AuthOptions, BadAuth
from codexd.client.doorway import Doorway
from codexd.client.http import ask_hub
from codexd.client.hub_wire import BridgeError, HubConnector, profile_header
from codexd.client.listening import ClientListener
from codexd.config import Config
from codexd.hub.profile import ClientProfile
from codexd.link.endpoint import BadEndpoint, parse_endpoint
from codexd.platform.files import PRIVATE_FILE, explain, identity_of, make_private_directory
from codexd.platform.limits import raise_own_limit

_WS = re.compile(r"ws://(?:\[([^\]/]+)\]|([^:/\[\]]+)):(\d{1,5})", re.ASCII)
_SUPPORTED = "`stdio://`, `unix://`, `unix://PATH`, or `ws://IP:PORT`"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to listen: ``path``, or ``host`` and ``port``."""

    url: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_loopback(self) -> bool:
        return not self.path and ipaddress.ip_address(self.host).is_loopback


def serve(config: Config, url: str, auth: AuthOptions, profile: ClientProfile) -> None:
    """Serve clients at ``url`` until SIGTERM, SIGINT or SIGHUP.

    Raises:
        BadValue: the URL or the options of --ws-auth are of no use.
        CliError: there is no daemon, or it cannot listen there.
    """
    place = _parse(url)
    try:
        bearer = auth.bearer()
    except BadAuth as error:
        raise CliError(str(error)) from error
    if place.host and not place.is_loopback and bearer is None:
        raise CliError(
            f"refusing to start non-loopback websocket listener {place.host}:{place.port} without "
            "auth; configure `--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
        )
    raise_own_limit()
    make = functools.partial(
        HubConnector,
        config.runtime.hub_socket_path,
        functools.partial(daemon_runs, config),
        profile,
    )
    _check_daemon(make, profile)
    # A Unix socket is for this user only, and no page can speak to it: as codex has it, there is
    # nothing to ask there.
    doorway = Doorway(
        lambda: _is_ready(config),
        None if place.path else bearer,
        refuses_pages=not place.path,
    )
    with _bound(place) as bound:
        listener = ClientListener(bound, doorway, make, _say)
        with _signals(listener.stop):
            if place.host:
                _announce(place, bound)
            listener.run()


def _parse(url: str) -> _Place:
    if url.startswith("unix://"):
        try:
            cwd = os.getcwd()
            return _Place(url, path=parse_endpoint(url, os.environ, cwd=cwd).path)
        except BadEndpoint as error:
            raise BadValue(f"Unsupported --listen: {error}") from error
    if not url.startswith("ws://"):
        raise BadValue(f'Unsupported --listen "{url}": expected {_SUPPORTED}.')
    match = _WS.fullmatch(url)
    host = (match[1] or match[2]) if match else ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        match = None
    if match is None or int(match[3]) > 65535:
        raise BadValue(f'Invalid websocket --listen URL "{url}": expected `ws://IP:PORT`.')
    return _Place(url, host=host, port=int(match[3]))


def _check_daemon(make: Callable[[], HubConnector], profile: ClientProfile) -> None:
    """Say at once what every client would be told."""
    try:
        profile_header(profile)
        make().check()
    except BridgeError as error:
        raise CliError(str(error)) from error


def _is_ready(config: Config) -> bool:
    hub = ask_hub(config.runtime.hub_socket_path)
    return hub is not None and hub.get("ready") is True


def _say(text: str) -> None:
    # Who started it may have closed the pipe.
    with contextlib.suppress(OSError):
        click.echo(f"codexd: {text}", err=True)


def _announce(place: _Place, bound: socket.socket) -> None:
    """Word for word as codex 0.163 and 0.169 do on stderr: tools read the port from it."""
    port = bound.getsockname()[1]
    host = f"[{place.host}]" if ":" in place.host else place.host
    note = (
        "binds localhost only (use SSH port-forwarding for remote access)"
        if place.is_loopback
        else "websocket auth is required for non-localhost listeners"
    )
    lines = [
        "codex app-server (WebSockets)",
        f"  listening on: ws://{host}:{port}",
        f"  readyz: http://{host}:{port}/readyz",
        f"  healthz: http://{host}:{port}/healthz",
        f"  note: {note}",
    ]
    with contextlib.suppress(OSError):
        click.echo("\n".join(lines), err=True)


@contextlib.contextmanager
def _bound(place: _Place) -> Iterator[socket.socket]:
    """A socket bound to ``place``; one with a path is taken away at the end."""
    try:
        bound, identity = _bind_path(place.path) if place.path else _bind_address(place)
    except OSError as error:
        reason = explain(error).removesuffix(".")
        raise CliError(f"Cannot listen on {place.url}: {reason}.") from error
    try:
        yield bound
    finally:
        bound.close()
        if identity is not None and identity_of(place.path) == identity:
            os.unlink(place.path)


def _bind_address(place: _Place) -> tuple[socket.socket, None]:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((place.host, place.port))
    except BaseException:
        bound.close()
        raise
    return bound, None


def _bind_path(path: str) -> tuple[socket.socket, tuple[int, int] | None]:
    from codexd.api.stale import clear_path, find_server
    from codexd.link.endpoint import default_control_socket

    server = find_server(path)
    if server is not None:
        raise CliError(f'{server.name} serves "{path}" already.')
    if path == default_control_socket(os.environ):
        make_private_directory(os.path.dirname(path))
    clear_path(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        # Nobody gets in before it listens.
        os.chmod(path, PRIVATE_FILE)
    except BaseException:
        bound.close()
        raise
    return bound, identity_of(path)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Have the signals that end codex call ``stop``, but for those that were ignored (nohup)."""
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
