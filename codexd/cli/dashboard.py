"""`codexd dashboard`."""

from __future__ import annotations

import getpass
import html
import os
import socket
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click

from codexd.address import is_loopback, parse_ip
from codexd.cli.options import CliError, daemon_options
from codexd.client.owner import check_owner
from codexd.client.page_code import make_page_code
from codexd.config import Config
from codexd.platform import lock
from codexd.platform.files import write_aside

_FILE = "dashboard.html"


@click.command("dashboard")
@daemon_options
def dashboard(config: Config) -> None:
    """Open the daemon's page in a browser, or print where it is.

    The address holds a code that lets one browser in, once, within a minute. Over SSH, or where
    there is no display, it is printed, with how to reach it.
    """
    check_owner(config.paths, config.runtime)
    if lock.living_holder(config.runtime.lock_path) is None:
        where = config.paths.state_dir
        raise CliError(f"No daemon runs on {where}: start it with `codexd start`.")
    made = make_page_code(config.runtime.hub_socket_path)
    url = f"{made.url}#code={made.code}"
    click.echo(url)
    if may_open(os.environ, sys.platform) and _opened(config.runtime.runtime_dir, url):
        return
    for line in directions(made.url, os.environ):
        click.echo(f"codexd: {line}", err=True)


def may_open(environ: Mapping[str, str], platform: str) -> bool:
    """Whether a browser that is opened here is seen by whoever types."""
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return False
    has_display = platform == "darwin" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    return bool(has_display)


def directions(url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """What to do with the address by hand."""
    where = urlsplit(url)
    name, port = where.hostname or "", where.port
    is_local = name == "localhost" or is_loopback(parse_ip(name))
    if environ.get("SSH_CONNECTION") and is_local:
        # What the client of SSH has connected to.
        told = environ["SSH_CONNECTION"].split()
        host = told[2] if len(told) == 4 else socket.gethostname()
        target = f"[{name}]" if ":" in name else name
        yield f"on your own machine: ssh -L {port}:{target}:{port} {_user()}@{host}"
        yield "then open the address there; it is good for one minute, and for one browser"
    else:
        yield "open the address in a browser; it is good for one minute, and for one browser"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "USER"


def _opened(runtime_dir: str, url: str) -> bool:
    """Open a browser. Arguments of a process are for all to see: it is given a file with the code.

    Of mode 0600, and of no use once the code is.
    """
    path = os.path.join(runtime_dir, _FILE)
    shown = html.escape(url, quote=True)
    page = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={shown}"><title>codexd</title>'
        f'<a href="{shown}">Open codexd</a>\n'
    )
    try:
        write_aside(path, page.encode(), flush=False)
        return webbrowser.open(Path(path).as_uri())
    except (OSError, webbrowser.Error):
        return False
