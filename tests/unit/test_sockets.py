"""Where the plugin is reached: taken away, somebody else's for a while, full, or not read from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from codexd.api.server import ServerLimits
from codexd.api.stale import SocketInUse
from codexd.keeper import sockets as module
from codexd.keeper.sockets import Sockets
from codexd.settings import Policy
from tests.support.memory import config_at


class Server:
    """Serves what is free, and keeps what it was told."""

    made: Server

    def __init__(
        self,
        adapter: Any,
        http: Any,
        limits: ServerLimits,
        *,
        on_cut: Any,
        on_full: Any,
        cork: object,
    ) -> None:
        Server.made = self
        self.limits, self.on_cut, self.on_full = limits, on_cut, on_full
        self.listened: list[str] = []
        self.taken: set[str] = set()
        self.heals = 0
        self.is_open = True
        del adapter, http, cork

    async def listen(self, path: str) -> None:
        if path in self.taken:
            raise SocketInUse(f"somebody serves {path}")
        self.listened.append(path)

    async def heal(self) -> None:
        self.heals += 1

    async def close(self) -> None:
        self.is_open = False


class Room:
    def __init__(self, paths: list[str], policy: Policy) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        nobody = cast("Any", None)
        self.sockets = Sockets(nobody, nobody, paths, policy, self.event)
        self.server = Server.made

    def event(self, level: str, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level
        assert "\n" not in message
        self.events.append((type_, detail))

    async def again(self) -> None:
        """One more look at every path."""
        heals = self.server.heals
        while self.server.heals == heals:
            self.sockets.look()
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(module, "HubServer", Server)

    def play(act: Callable[[Room], Awaitable[None]], *paths: str) -> None:
        async def main() -> None:
            room = Room(list(paths), config_at(tmp_path).policy)
            await act(room)
            await room.sockets.stop()
            assert not room.server.is_open

        asyncio.run(asyncio.wait_for(main(), 20))

    return play


def test_a_socket_that_somebody_else_serves_is_told_once_and_tried_again(
    play: Callable[..., None],
) -> None:
    async def act(room: Room) -> None:
        room.server.taken.add("/other.sock")
        await room.sockets.start()
        await room.again()
        await room.again()
        assert room.server.listened == ["/codexd.sock"]
        assert [type_ for type_, _ in room.events] == ["hub.socket.failed"]
        reason = "somebody serves /other.sock"
        assert room.sockets.unserved == [{"path": "/other.sock", "reason": reason}]
        room.server.taken.clear()
        await room.again()
        assert room.server.listened == ["/codexd.sock", "/other.sock"]
        assert room.sockets.unserved == []

    play(act, "/codexd.sock", "/other.sock")


def test_who_is_cut_off_and_that_there_is_no_room_are_recorded(play: Callable[..., None]) -> None:
    async def act(room: Room) -> None:
        room.server.on_cut(3, 1 << 20)
        room.server.on_full(250)
        assert room.events == [
            ("client.cut", {"client": 3, "unreadBytes": 1 << 20}),
            ("hub.full", {"connections": 250}),
        ]
        assert room.sockets.cut == 1

    play(act)
