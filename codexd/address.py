"""HOST:PORT, as a listener is told it."""

from __future__ import annotations

import ipaddress
import re

import msgspec

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\.?")
_PORT = re.compile(r"[0-9]{1,5}")
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadAddress(ValueError):
    """A text that is no HOST:PORT."""


class Address(msgspec.Struct, frozen=True):
    """``host`` is an IP address, without brackets, or a name; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> IpAddress | None:
        """The host, where it is no name."""
        return parse_ip(self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine gets there. Of a name other than localhost, nobody knows."""
        return is_loopback(self.ip) or self.host.lower() == "localhost"

    @property
    def is_any(self) -> bool:
        """Whether it stands for every address of the machine."""
        return self.ip is not None and self.ip.is_unspecified


def parse_address(text: str) -> Address:
    """Take ``text`` apart; an IPv6 address stands in brackets.

    Raises:
        BadAddress: it is none.
    """
    host, separator, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    ip = parse_ip(host)
    if is_bracketed:
        is_host = ip is not None and ip.version == 6
    else:
        is_host = _NAME.fullmatch(host) is not None
    if not (separator and is_host and _PORT.fullmatch(port) and int(port) <= 0xFFFF):
        raise BadAddress(text)
    return Address(host, int(port))


def parse_ip(text: str) -> IpAddress | None:
    """The IP address that ``text`` is; one of IPv4 that is written as IPv6 counts as itself."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def is_loopback(ip: IpAddress | None) -> bool:
    """Whether only this machine can be at the address."""
    return ip is not None and ip.is_loopback
