"""The TCP listener as the plugin has it: its address, what it tells, and what keeps it waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from codexd.address import parse_address
from codexd.api import tcp
from codexd.api.http import Access, Head, Problem
from codexd.api.page_access import PageAccess
from codexd.config import Config
from codexd.keeper import network as module
from codexd.keeper import sockets as sockets_module
from codexd.keeper.network import Network
from codexd.keeper.sockets import Sockets
from codexd.platform import vanished
from codexd.runtime import make_directories
from tests.support.memory import config_at
from tests.support.tcp import NAME, Certificates


class Server:
    """Takes the listening socket, and nobody in."""

    def __init__(self, *parts: Any, **calls: Any) -> None:
        del parts, calls
        self.bound: list[socket.socket] = []
        self.doors: list[Any] = []
        self.tls: list[Any] = []
        self.paths: list[str] = []

    def open_door(self, door: Any, bound: socket.socket, tls: Any) -> None:
        self.doors.append(door)
        self.bound.append(bound)
        self.tls.append(tls)

    async def listen(self, path: str) -> None:
        self.paths.append(path)

    async def heal(self) -> None:
        pass

    async def close(self) -> None:
        for bound in self.bound:
            bound.close()


class Room:
    def __init__(self, config: Config) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        runtime_dir, nobody = config.runtime.runtime_dir, cast("Any", None)
        self.page = page = PageAccess(os.path.join(config.paths.state_dir, "page-sessions.json"))
        self.network = Network(config.policy, config.paths, runtime_dir, nobody, page, self.event)
        self.server = Server()

    def event(self, level: str, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level
        assert "\n" not in message
        self.events.append((type_, message, detail))

    async def open(self) -> None:
        await self.network.open(cast("Any", self.server))

    def told(self, type_: str) -> list[dict[str, Any]]:
        return [detail for kind, _, detail in self.events if kind == type_]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def play(act: Callable[[Room], Awaitable[None]], **flags: str) -> None:
        config = config_at(tmp_path, **{"hub_listen": "127.0.0.1:0", **flags})
        make_directories(config.paths, config.runtime)

        async def main() -> None:
            room = Room(config)
            try:
                await act(room)
            finally:
                await room.server.close()

        asyncio.run(asyncio.wait_for(main(), 20))

    return play


def test_where_it_listens_is_told_and_the_port_is_kept(play: Callable[..., None]) -> None:
    ports: list[int] = []

    async def act(room: Room) -> None:
        before = room.network.status()
        assert (before["address"], before["url"], before["listen"]) == (None, None, "127.0.0.1:0")
        assert not room.network.is_open
        await room.open()
        assert room.network.is_open
        port = room.server.bound[0].getsockname()[1]
        ports.append(port)
        place = {
            "address": f"127.0.0.1:{port}",
            "url": f"ws://127.0.0.1:{port}",
            "tls": False,
        }
        assert room.told("hub.listening") == [place]
        told = room.network.status()
        assert {**told, **place} == told
        assert (told["readTokenFile"], told["fault"]) == (None, None)
        assert Path(told["tokenFile"]).stat().st_mode & 0o777 == 0o600
        # Nothing is left of who was there: the port can be had again at once.
        room.server.bound[0].listen()
        with socket.create_connection(("127.0.0.1", port)):
            room.server.bound[0].accept()[0].close()

    play(act)
    play(act)
    assert ports[0] == ports[1]
    # Of another address it says nothing.
    play(act, hub_listen="127.0.0.1:0", hub_allow_plaintext="true")
    assert ports[0] == ports[2]


@pytest.mark.parametrize(
    ("listen", "page"),
    [
        ("127.0.0.1:0", "http://127.0.0.1:{}/"),
        ("localhost:0", "http://localhost:{}/"),
        # A browser on this machine needs no name of it.
        ("0.0.0.0:0", "http://127.0.0.1:{}/"),
    ],
)
def test_where_its_page_is(play: Callable[..., None], listen: str, page: str) -> None:
    async def act(room: Room) -> None:
        with pytest.raises(Problem, match="no listener"):
            room.page.new_code()
        await room.open()
        code, url = room.page.new_code()
        assert url == page.format(room.server.bound[0].getsockname()[1])
        assert room.page.open(code) is not None
        # By the token that is in force now, and by none that is not.
        Path(room.network.status()["tokenFile"]).unlink()
        assert room.page.open(room.page.new_code()[0]) is None

    play(act, hub_listen=listen, hub_allow_plaintext="true")


def test_ipv6_and_every_address(play: Callable[..., None]) -> None:
    async def act(room: Room) -> None:
        try:
            await room.open()
        except OSError:
            pytest.skip("no IPv6 here")
        told, bound = room.network.status(), room.server.bound[0]
        bound.listen()
        port = bound.getsockname()[1]
        if told["listen"] == "[::1]:0":
            assert told["url"] == f"ws://[::1]:{port}"
            return
        assert told["address"] == f"[::]:{port}"
        assert told["url"] == f"ws://{socket.gethostname()}:{port}"
        # IPv4 as well.
        socket.create_connection(("127.0.0.1", port)).close()

    play(act, hub_listen="[::1]:0")
    play(act, hub_listen="[::]:0", hub_allow_plaintext="true")


def test_with_tls_and_a_name(play: Callable[..., None], tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    async def act(room: Room) -> None:
        await room.open()
        told = room.network.status()
        assert told["tls"]
        assert told["url"].startswith("wss://localhost:")
        assert room.page.new_code()[1].startswith("https://localhost:")
        (tls,) = room.server.tls
        first = tls()
        # The names of the certificate are its own.
        access = room.server.doors[0].visit("127.0.0.1").admit(Head("GET", "/", {"host": NAME}))
        assert access is Access.OPEN
        certificates.renew("other.example")
        room.network._refresh_at = 0.0
        room.network.tick()
        assert tls() is not first
        certificates.key.write_text("no key")
        for _ in range(2):
            room.network._refresh_at = 0.0
            room.network.tick()
        assert room.told("hub.tls.failed") == [{"path": str(certificates.cert)}]

    play(
        act,
        hub_listen="localhost:0",
        hub_tls_cert=str(certificates.cert),
        hub_tls_key=str(certificates.key),
    )


def test_wrong_tokens_are_told_once_a_minute(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(room: Room) -> None:
        await room.open()
        for number in range(3):
            room.network._on_wrong(f"10.0.0.{number}")
        assert room.told("hub.token.wrong") == [{"count": 1, "address": "10.0.0.0"}]
        room.network.tick()
        assert len(room.told("hub.token.wrong")) == 1
        monkeypatch.setattr(module, "_TELL_WRONG_S", 0.0)
        room.network.tick()
        room.network.tick()
        assert room.told("hub.token.wrong")[1:] == [{"count": 2, "address": "10.0.0.2"}]

    play(act)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"hub_listen": "203.0.113.1:0", "hub_allow_plaintext": "true"}, "203.0.113.1"),
        ({"hub_listen": "nobody.invalid:0", "hub_allow_plaintext": "true"}, "nobody.invalid"),
        ({"hub_listen": "0.0.0.0:0"}, "--hub-allow-plaintext"),
        ({"hub_tls_cert": "/no.pem", "hub_tls_key": "/no.key"}, "/no.pem"),
        ({"hub_tls_cert": "/no.pem"}, "--hub-tls-key"),
        ({"hub_tls_key": "/no.pem"}, "--hub-tls-cert"),
        ({"hub_token_file": "/dev/null/x"}, "/dev/null/x"),
        ({"hub_token_file": "/t", "hub_read_token_file": "/x/../t"}, "--hub-read-token-file"),
    ],
)
def test_what_cannot_be_served_says_why(
    play: Callable[..., None], flags: dict[str, str], named: str
) -> None:
    async def act(room: Room) -> None:
        with pytest.raises(OSError, match=named):
            await room.open()
        assert not room.network.is_open
        assert room.events == []

    play(act, **flags)


def test_localhost_is_this_machine_whoever_says_otherwise() -> None:
    place: tcp.Place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("198.51.100.1", 0))
    with pytest.raises(OSError, match="other machines"):
        tcp.bind(parse_address("localhost:0"), [place], "/nowhere")


def test_a_name_that_nobody_looks_up_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_at(tmp_path, hub_listen="slow.example:0", hub_allow_plaintext="true")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sockets_module, "HubServer", Server)
    monkeypatch.setattr(sockets_module, "_OPEN_S", 0.01)
    make_directories(config.paths, config.runtime)

    async def main() -> None:
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(module, "_aside", lambda _work: never)
        events: list[str] = []

        def event(_level: Any, type_: str, _message: str, _detail: dict[str, Any]) -> None:
            events.append(type_)

        page = PageAccess(os.path.join(config.paths.state_dir, "page-sessions.json"))
        nobody = cast("Any", None)
        network = sockets_module.tcp_listener(
            config.policy, config.paths, config.runtime.runtime_dir, nobody, page, event
        )
        sockets = Sockets(nobody, nobody, ["/codexd.sock"], config.policy, event, network)
        await sockets.start()
        server = cast("Server", sockets._server)
        assert server.paths == ["/codexd.sock"]
        for _ in range(3):
            sockets.look()
            await asyncio.sleep(0.001)
        never.set_exception(OSError("nobody knows it"))
        while not sockets.unserved:
            sockets.look()
            await asyncio.sleep(0.001)
        reason = "nobody knows it"
        assert sockets.unserved == [{"path": "slow.example:0", "reason": reason}]
        assert events == ["hub.socket.failed"]
        monkeypatch.setattr(module, "_aside", _loopback)
        while sockets.unserved:
            sockets.look()
            await asyncio.sleep(0.001)
        assert events == ["hub.socket.failed", "hub.listening"]
        assert sockets.tcp is not None
        await sockets.stop()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_name_is_looked_up_aside() -> None:
    async def main() -> None:
        place: tcp.Place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
        assert await module._aside(lambda: [place]) == [place]

        def fail() -> list[tcp.Place]:
            raise OSError("no such name")

        with pytest.raises(OSError, match="no such name"):
            await module._aside(fail)

    asyncio.run(asyncio.wait_for(main(), 20))


async def _loopback(_work: Any) -> list[tcp.Place]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]


@pytest.mark.parametrize(("platform", "name"), [("linux", socket.TCP_KEEPIDLE), ("darwin", 0x10)])
def test_each_system_is_told_how_long_to_wait(
    monkeypatch: pytest.MonkeyPatch, platform: str, name: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    options: list[tuple[int, int, int]] = []

    class Socket:
        def setsockopt(self, level: int, option: int, value: int) -> None:
            options.append((level, option, value))
            raise OSError

    vanished.end_when_vanished(cast("Any", Socket()))
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in options
    assert (socket.IPPROTO_TCP, name, 30) in options
    assert len(options) == 5
