"""Under which names the listener may be asked for, and by whose pages."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from codexd.address import parse_address
from codexd.api.hosts import Hosts
from codexd.api.http import Head, Problem

CERTIFIED = ("hub.example", "*.wild.example", "10.0.0.9")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's name."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.lan")


def refused(
    listened: str, bound: str, *, tls: bool = False, names: Sequence[str] = (), **headers: str
) -> str:
    """What kind of refusal there is; empty for none."""
    hosts = Hosts(parse_address(listened), bound, is_tls=tls, certified=lambda: names)
    try:
        hosts.check(Head("GET", "/", headers))
    except Problem as problem:
        return problem.kind
    return ""


LOCAL = ("127.0.0.1:0", "127.0.0.1")
LOCAL6 = ("[::1]:0", "::1")
LAN = ("192.168.1.5:80", "192.168.1.5")
EVERYWHERE = ("0.0.0.0:80", "0.0.0.0")
EVERYWHERE6 = ("[::]:80", "::")
NAMED = ("hub.tail.example:80", "100.64.0.1")


@pytest.mark.parametrize(
    ("where", "host"),
    [
        (LOCAL, "127.0.0.1:8000"),
        (LOCAL, "127.0.0.1"),
        (LOCAL, "localhost:9"),
        # Through `ssh -L`, the port is another.
        (LOCAL, "LOCALHOST.:9000"),
        (LOCAL, "[::1]:9"),
        (LOCAL6, "[::1]:80"),
        (LOCAL6, "127.0.0.1"),
        (LAN, "192.168.1.5:80"),
        (LAN, "box.lan:80"),
        (LAN, "box.local"),
        (EVERYWHERE, "10.1.2.3:80"),
        (EVERYWHERE, "localhost"),
        (EVERYWHERE, "[::ffff:10.1.2.3]"),
        (EVERYWHERE6, "[2001:db8::1]:80"),
        (NAMED, "hub.tail.example"),
        (NAMED, "100.64.0.1:80"),
        (LAN, "hub.example:443"),
        (LAN, "HUB.example."),
        (LAN, "one.wild.example"),
        (LAN, "10.0.0.9"),
    ],
)
def test_a_name_of_its_own(where: tuple[str, str], host: str) -> None:
    assert refused(*where, tls=True, names=CERTIFIED, host=host) == ""


@pytest.mark.parametrize(
    ("where", "host"),
    [
        (LOCAL, "evil.example"),
        (LOCAL, "evil.example:8000"),
        (LOCAL, "box.lan"),
        (LOCAL, "localhost.evil.example"),
        (LOCAL, "127.0.0.1.evil.example"),
        (LAN, "box.lan.evil.example"),
        (LOCAL, "10.1.2.3"),
        (LOCAL, "0.0.0.0"),
        (LOCAL, ""),
        (LOCAL, "[::1"),
        (LOCAL, "localhost:x"),
        (LOCAL, "user@localhost"),
        (LOCAL, "localhost/x"),
        (LOCAL, "localhost, evil.example"),
        (LAN, "127.0.0.1"),
        (LAN, "localhost"),
        (LAN, "192.168.1.6"),
        (EVERYWHERE, "evil.example"),
        (NAMED, "tail.example"),
        (LAN, "wild.example"),
        (LAN, "a.b.wild.example"),
        (LAN, "*.wild.example"),
    ],
)
def test_a_name_of_a_strangers(where: tuple[str, str], host: str) -> None:
    assert refused(*where, tls=True, names=CERTIFIED, host=host) == "foreign-host"


def test_who_names_nobody_is_no_browser() -> None:
    assert refused(*LAN) == ""


@pytest.mark.parametrize(
    ("origin", "host", "tls", "is_ours"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", False, True),
        ("http://127.0.0.1", "127.0.0.1:80", False, True),
        ("http://LOCALHOST:8000", "localhost:8000", False, True),
        # TLS ends at a proxy before it.
        ("https://localhost", "localhost", False, True),
        ("https://localhost:8000", "localhost:8000", True, True),
        ("https://[::1]:8000", "[::1]:8000", True, True),
        ("http://localhost:8000", "localhost:8000", True, False),
        ("http://localhost:8001", "localhost:8000", False, False),
        ("http://localhost", "localhost:8000", False, False),
        ("http://evil.example", "localhost:8000", False, False),
        ("http://evil.example:8000", "localhost:8000", False, False),
        ("null", "localhost:8000", False, False),
        ("", "localhost:8000", False, False),
        ("file://localhost:8000", "localhost:8000", False, False),
        ("chrome-extension://abcdef", "localhost:8000", False, False),
        ("http://localhost:x", "localhost:8000", False, False),
        ("http://[::1", "localhost:8000", False, False),
    ],
)
def test_pages_of_its_own_only(origin: str, host: str, tls: bool, is_ours: bool) -> None:
    kind = refused(*LOCAL, tls=tls, host=host, origin=origin)
    assert kind == ("" if is_ours else "foreign-origin")


def test_a_page_that_names_nobody_is_refused() -> None:
    assert refused(*LOCAL, origin="http://localhost") == "foreign-origin"
