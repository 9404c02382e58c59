"""The two small requests that commands make without loading all of HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codexd.client import http
from codexd.client.address import address_of_url
from codexd.client.errors import DaemonAway, DaemonError
from codexd.client.http import ask_hub, fetch_metrics, get

Serve = Callable[[bytes], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A socket on which whoever comes is told these bytes; left open where they end in b"…"."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> str:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def run() -> None:
            with contextlib.suppress(OSError), listener, listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(answer.removesuffix(HELD))
                if answer.endswith(HELD):
                    done.wait(10)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return str(tmp_path / "s")

    yield start
    done.set()
    for thread in threads:
        thread.join(10)


HELD = "…".encode()
WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{"hub":{"ready": true}}\n'[:-1]


@pytest.mark.parametrize(
    ("token", "sent"), [(None, None), ("abc\n", "abc"), ("", ""), ("a b", ""), ("töken", "")]
)
def test_a_token_that_cannot_be_sent_is_told_so(token: str | None, sent: str | None) -> None:
    if sent == "":
        with pytest.raises(DaemonError, match="no token") as told:
            address_of_url("http://localhost:1", token, None)
        assert not token or token not in str(told.value)
    else:
        assert address_of_url("http://localhost:1", token, None).token == sent


def test_an_answer_is_read_to_its_end(serve: Serve) -> None:
    assert ask_hub(serve(WHOLE)) == {"ready": True}


def test_a_daemon_of_an_older_version_tells_it_at_the_top(serve: Serve) -> None:
    assert ask_hub(serve(b'HTTP/1.0 200\r\n\r\n{"ready": false}')) == {"ready": False}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        WHOLE[:-1],
        WHOLE + b"}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 x\r\n\r\n{}",
        b"SSH-2.0-x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n[1]",
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b'HTTP/1.1 200 OK\r\n\r\n{"hub": 7}',
    ],
)
def test_anything_else_is_no_answer(serve: Serve, answer: bytes) -> None:
    assert ask_hub(serve(answer)) is None


def test_nobody_is_no_answer(tmp_path: Path) -> None:
    assert ask_hub(str(tmp_path / "none")) is None
    with pytest.raises(DaemonAway, match=r"No daemon answers at .*none: No such file"):
        fetch_metrics(str(tmp_path / "none"))


def test_who_never_ends_is_given_up(serve: Serve) -> None:
    with pytest.raises(DaemonAway, match="timed out"):
        get(serve(WHOLE + HELD), "/v1/status", 0.2)


def test_what_is_no_http_is_told(serve: Serve) -> None:
    with pytest.raises(DaemonError, match="speaks no HTTP"):
        get(serve(b"hello\r\n"), "/", 5)


def test_who_has_no_page_of_metrics_is_told(serve: Serve) -> None:
    with pytest.raises(DaemonError, match="answers 404 to GET /metrics: is that daemon of an old"):
        fetch_metrics(serve(b"HTTP/1.1 404 No\r\n\r\n"))


def test_another_users_socket_is_not_talked_to(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: socket.socket) -> None:
        raise PermissionError(1, "it is served by another user (uid 7)")

    path = serve(b"")
    with monkeypatch.context() as patched:
        patched.setattr(http, "require_own_peer", refuse)
        with pytest.raises(DaemonAway, match="another user"):
            get(path, "/", 5)
