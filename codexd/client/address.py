"""Where a daemon is asked: its socket, or an address with a token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from codexd.client.errors import DaemonError

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Either ``socket_path`` is set, or ``host`` and ``port``.

    ``ca_file`` are the certificates that are trusted, where not the system's own are.
    """

    socket_path: str | None = None
    host: str = "localhost"
    port: int = 0
    is_tls: bool = False
    token: str | None = None
    ca_file: str | None = None

    @property
    def name(self) -> str:
        """How people know it."""
        return self.socket_path or f"{self.authority}"

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if not self.port else f"{host}:{self.port}"


def address_of_url(url: str, token: str | None, ca_file: str | None) -> Address:
    """The address in a URL: `http://`, `https://`, `ws://` or `wss://`.

    Raises:
        DaemonError: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError):
        raise DaemonError(f"{url!r} is no URL of a daemon: give http://HOST:PORT.") from None
    if not parts.hostname:
        raise DaemonError(f"{url!r} names no host: give http://HOST:PORT.")
    is_tls = parts.scheme in ("https", "wss")
    return Address(None, parts.hostname, port, is_tls, _sendable(token), ca_file)


def _sendable(token: str | None) -> str | None:
    """The token as a header takes it; a file's line has its end with it.

    Raises:
        DaemonError: no daemon has such a token.
    """
    token = None if token is None else token.strip()
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        # It is not shown: it may be a token all the same.
        raise DaemonError("The token is no token: give the line that `codexd token` prints.")
    return token
