"""Under which names the TCP listener may be asked for, and by whose pages.

A page of a stranger's, in a browser of the user's, can send requests to any address, and have a
name of its own stand for one of this machine's (DNS rebinding). It cannot choose what the browser
says in `Host` and `Origin`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from codexd.address import Address, is_loopback, parse_ip
from codexd.api.http import Head, Problem

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SHOWN: Final = 100


class Hosts:
    """``listened`` is what the listener was told, ``bound`` the IP address that it has.

    ``certified`` gives the names in its certificate: none without TLS.
    """

    def __init__(
        self, listened: Address, bound: str, *, is_tls: bool, certified: Callable[[], Iterable[str]]
    ) -> None:
        self._listened = listened
        self._is_tls = is_tls
        self._certified = certified
        self._is_open = listened.is_any
        self._ips = {parse_ip(bound)}
        self._takes_loopback = listened.is_loopback or listened.is_any
        self._names = {_plain(listened.host)}
        if self._takes_loopback:
            self._names.add("localhost")
        if not listened.is_loopback:
            self._names |= _machine_names()

    def check(self, head: Head) -> None:
        """See that the request is for this listener, and from no page but its own.

        Raises:
            Problem: 403.
        """
        host = head.headers.get("host")
        if host is not None and not self._is_ours(host):
            text = (
                f"The listener is not known as {host[:_SHOWN]!a}: use its address "
                f"({self._listened.host}), the machine's name, or a name that its certificate has."
            )
            raise Problem(HTTPStatus.FORBIDDEN, "foreign-host", text)
        origin = head.headers.get("origin")
        if origin is not None and not self._is_own_page(origin, host or ""):
            text = f"Pages of {origin[:_SHOWN]!a} have no business here: only its own do."
            raise Problem(HTTPStatus.FORBIDDEN, "foreign-origin", text)

    def _is_ours(self, host: str) -> bool:
        name = _split(host)[0]
        ip = parse_ip(name)
        if ip is not None:
            # No name is made to stand for something else here, whatever address it is.
            is_ours = self._is_open or ip in self._ips
            return is_ours or (self._takes_loopback and is_loopback(ip)) or self._is_certified(name)
        return bool(name) and (name in self._names or self._is_certified(name))

    def _is_certified(self, name: str) -> bool:
        parent = name.partition(".")[2]
        return any(
            certified in (name, f"*.{parent}") and "*" not in name
            for certified in map(_plain, self._certified())
        )

    def _is_own_page(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if parts.scheme not in (("https",) if self._is_tls else ("http", "https")) or not name:
            return False
        default = _DEFAULT_PORTS[parts.scheme]
        asked_name, asked_port = _split(host)
        return (_plain(name), port or default) == (asked_name, asked_port or default)


def _split(host: str) -> tuple[str, int | None]:
    """Name and port of a Host header; an empty name where it is not understood."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return "", None
    is_whole = parts.netloc == host and "@" not in host
    return (_plain(name or "") if is_whole else ""), port


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _machine_names() -> set[str]:
    name = _plain(socket.gethostname())
    short = name.partition(".")[0]
    return {name, short, f"{short}.local"} - {""}
