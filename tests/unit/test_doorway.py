"""Who comes in where codexd stands in for `codex app-server --listen`."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator

import pytest

from codexd.client import doorway as doorway_module
from codexd.client.bearer import CapabilityToken
from codexd.client.doorway import Doorway
from codexd.client.websocket_end import WebSocketEnd

TOKEN = CapabilityToken(hashlib.sha256(b"token").digest())
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Caller:
    """One connection, and what is at its other end."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.there.setblocking(False)

    def enter(self, doorway: Doorway, text: str | bytes) -> WebSocketEnd | None:
        self.here.sendall(text.encode("latin-1") if isinstance(text, str) else text)
        self.here.shutdown(socket.SHUT_WR)
        return doorway.enter(self.there.fileno(), self.there.fileno())

    @property
    def answer(self) -> tuple[int, str]:
        """The status and the body."""
        self.there.close()
        data = b""
        while piece := self.here.recv(65536):
            data += piece
        head, _, body = data.decode().partition("\r\n\r\n")
        assert f"content-length: {len(body)}" in head or not body
        assert ("content-type: text/plain" in head) == ("content-length: 0" not in head)
        return int(head.split(" ")[1]), body


@pytest.fixture
def caller() -> Iterator[Caller]:
    made = Caller()
    yield made
    made.here.close()
    made.there.close()


NOT_ASKED = "Connection header did not include 'upgrade'"


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        ("GET /readyz HTTP/1.1\r\n", (200, "")),
        ("GET /healthz?x HTTP/1.1\r\n", (200, "")),
        ("HEAD /readyz HTTP/1.1\r\n", (200, "")),
        ("HEAD / HTTP/1.1\r\n", (400, "")),
        ("POST /readyz HTTP/1.1\r\n", (405, "")),
        ("GET / HTTP/1.1\r\n", (400, NOT_ASKED)),
        ("GET /x HTTP/1.1\r\nHost: evil.example\r\n", (400, NOT_ASKED)),
        ("GET /readyz HTTP/1.1\r\nOrigin: http://localhost\r\n", (403, "")),
        (f"GET / HTTP/1.1\r\norigin: null\r\n{UPGRADE}", (403, "")),
        (f"GET / HTTP/1.1\r\n{UPGRADE}", (401, "missing websocket bearer token")),
        (
            f"GET / HTTP/1.1\r\nAuthorization: Bearer x\r\n{UPGRADE}",
            (401, "invalid websocket bearer token"),
        ),
        ("hello\r\n", (400, "")),
        ("GET / HTTP/2\r\n", (400, "")),
        ("GET / HTTP/1.1\r\nno header\r\n", (400, "")),
        ("GET / HTTP/1.1\r\nAuthorization : Bearer token\r\n", (400, "")),
        (f"GET / HTTP/1.1\r\nx: {'y' * 20_000}\r\n", (431, "")),
    ],
)
def test_whoever_is_no_client_gets_an_answer(
    caller: Caller, head: str, answer: tuple[int, str]
) -> None:
    assert caller.enter(Doorway(lambda: True, TOKEN), f"{head}\r\n") is None
    assert caller.answer == answer


def test_it_is_ready_when_the_server_behind_it_is(caller: Caller) -> None:
    assert caller.enter(Doorway(lambda: False), "GET /readyz HTTP/1.1\r\n\r\n") is None
    assert caller.answer == (503, "")


@pytest.mark.parametrize("head", ["GET / HTTP/1.1\r\n", "GET / HT", ""])
def test_one_who_leaves_in_the_middle_gets_nothing(caller: Caller, head: str) -> None:
    assert caller.enter(Doorway(lambda: True), head) is None
    caller.there.close()
    assert caller.here.recv(10) == b""


@pytest.mark.parametrize("path", ["/", "/any/path?x=1"])
def test_a_client_comes_in_on_any_path(caller: Caller, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nAuthorization: Bearer token\r\n{UPGRADE}\r\n"
    # A masked frame that comes with the head is not lost: "{}", with a mask of zeros.
    end = caller.enter(Doorway(lambda: True, TOKEN), head.encode() + b"\x81\x82\0\0\0\0{}")
    assert end is not None
    assert end.early() == [b"{}"]
    assert caller.here.recv(65536).startswith(b"HTTP/1.1 101 ")


def test_on_a_socket_of_ones_own_an_origin_means_nothing(caller: Caller) -> None:
    doorway = Doorway(lambda: True, refuses_pages=False)
    end = caller.enter(doorway, f"GET / HTTP/1.1\r\nOrigin: http://x\r\n{UPGRADE}\r\n")
    assert end is not None


def test_an_upgrade_that_is_none_is_refused(caller: Caller) -> None:
    head = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert caller.enter(Doorway(lambda: True), head) is None
    assert caller.answer[0] == 400


def test_one_who_takes_too_long_is_hung_up_on(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorway_module, "_HEAD_S", 0.05)
    caller.here.sendall(b"GET / HTTP/1.1\r\n")
    assert Doorway(lambda: True).enter(caller.there.fileno(), caller.there.fileno()) is None
    caller.there.close()
    assert caller.here.recv(10) == b""


def test_where_there_is_no_room_the_answer_comes_after_the_question(caller: Caller) -> None:
    caller.here.sendall(f"GET / HTTP/1.1\r\n{UPGRADE}\r\n".encode())
    Doorway(lambda: True).turn_away(caller.there.fileno(), caller.there.fileno())
    with pytest.raises(BlockingIOError):
        caller.there.recv(1)
    assert caller.answer == (503, "")
