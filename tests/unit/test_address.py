"""HOST:PORT, taken apart."""

from __future__ import annotations

import pytest

from codexd.address import Address, BadAddress, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback", "everywhere"),
    [
        ("127.0.0.1:8765", "127.0.0.1", 8765, True, False),
        ("127.1.2.3:0", "127.1.2.3", 0, True, False),
        ("[::1]:0", "::1", 0, True, False),
        ("localhost:1", "localhost", 1, True, False),
        ("LocalHost:1", "LocalHost", 1, True, False),
        ("0.0.0.0:80", "0.0.0.0", 80, False, True),
        ("[::]:80", "::", 80, False, True),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, False, False),
        ("192.168.1.5:65535", "192.168.1.5", 65535, False, False),
        ("hub.example:443", "hub.example", 443, False, False),
        # Whoever answers for it may say anything.
        ("localhost.example:443", "localhost.example", 443, False, False),
        ("0:80", "0", 80, False, False),
    ],
)
def test_an_address(text: str, host: str, port: int, loopback: bool, everywhere: bool) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert str(address) == text
    assert (address.is_loopback, address.is_any) == (loopback, everywhere)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "8765",
        ":8765",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:²",
        "127.0.0.1:1e3",
        "::1:80",
        "[::1]80",
        "[127.0.0.1]:80",
        "[hub.example]:80",
        "[::1:80",
        "http://127.0.0.1:80",
        "*:80",
        "a b:80",
        "hub.example:80/",
        "user@hub.example:80",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(text)
