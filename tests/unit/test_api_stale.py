"""When the path of a socket may be taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codexd.api import stale
from codexd.api.stale import SocketInUse, clear_path
from tests.support.codex import short_directory


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(8)
    return server


def dead(path: Path) -> None:
    listening(path).close()


def test_a_dead_socket_is_taken_away(place: Path) -> None:
    dead(place / "s")
    clear_path(str(place / "s"))
    clear_path(str(place / "s"))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("target", ["there", "gone", "a loop"])
def test_a_link_to_a_dead_socket_is_taken_away(place: Path, target: str) -> None:
    if target == "there":
        dead(place / "target")
    (place / "s").symlink_to(place / ("s" if target == "a loop" else "target"))
    clear_path(str(place / "s"))
    assert not os.path.lexists(place / "s")
    assert (place / "target").exists() == (target == "there")


@pytest.mark.parametrize("by_link", [False, True])
def test_who_lives_is_named_and_left_alone(place: Path, by_link: bool) -> None:
    # The link is short where the target's path is too long for most.
    target = place / ("t" * 60 if by_link else "s")
    with listening(target):
        if by_link:
            (place / "s").symlink_to(target)
        with pytest.raises(SocketInUse) as caught:
            clear_path(str(place / "s"))
    text = str(caught.value)
    assert f"pid {os.getpid()}" in text
    assert f"kill {os.getpid()}" in text
    assert "\n" not in text
    assert os.path.lexists(place / "s")


def test_how_to_stop_the_vendors_own_daemon_is_said() -> None:
    assert "codex app-server daemon stop" in (stale.Server(7, "codex app-server").stop or "")
    assert stale.Server(7, "python3 /opt/bin/codexd app-server").stop == "`kill 7`"


def test_who_answers_is_told_without_what_its_options_hold(place: Path) -> None:
    assert stale.find_server(str(place / "s")) is None
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[2]); s.listen();"
    words = ["codex", "-c", f"{code} print(flush=True); input()", "app-server", str(place / "s")]
    with subprocess.Popen(
        words, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        server = stale.find_server(str(place / "s"))
        process.kill()
    assert server == stale.Server(process.pid, "codex")
    assert stale.find_server(str(place / "s")) is None
    assert (place / "s").exists()


@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_no_socket_stays(place: Path, is_link: bool) -> None:
    (place / "file").write_text("precious")
    path = place / ("s" if is_link else "file")
    if is_link:
        path.symlink_to("file")
    with pytest.raises(SocketInUse, match="no socket"):
        clear_path(str(path))
    assert (place / "file").read_text() == "precious"


class BusyAtFirst(socket.socket):
    """connect(2) as on macOS: a listener whose backlog is full refuses."""

    until = 0.0

    def connect(self, address: Any) -> None:
        if time.monotonic() < self.until:
            raise ConnectionRefusedError
        super().connect(address)


def test_a_refusal_is_doubted_for_a_while(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", BusyAtFirst)
    with listening(place / "s"):
        BusyAtFirst.until = time.monotonic() + 0.2
        with pytest.raises(SocketInUse):
            clear_path(str(place / "s"), doubt_s=5)
        # Without that doubt a living socket is taken away.
        BusyAtFirst.until = time.monotonic() + 60
        clear_path(str(place / "s"), doubt_s=0)
        assert not (place / "s").exists()
    BusyAtFirst.until = 0.0


def test_one_that_takes_no_more_is_somebody(place: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(place / "s"))
    server.listen(0)
    waiting = []
    with server:
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(place / "s"))
            waiting.append(client)
        with pytest.raises(SocketInUse):
            clear_path(str(place / "s"))
        for client in waiting:
            client.close()


def test_a_path_that_is_too_long_for_a_socket_is_nobodys(place: Path) -> None:
    path = place / ("x" * 120)
    assert stale.find_server(str(path)) is None
    clear_path(str(path))
    (place / "s").symlink_to(path)
    dead(place / "dead")
    (place / "dead").rename(path)
    with pytest.raises(OSError, match="too long"):
        clear_path(str(place / "s"))
