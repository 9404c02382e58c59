"""Messages to clients: framed once, and one write for what was said in one go."""

from __future__ import annotations

from typing import Any, cast

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import parse_uri

from codexd.api.websocket import Cork, Upgrade, WebSocket
from codexd.wire.frames import Framer


class Wire:
    """A connection that notes every write."""

    backlog_bytes = 1000

    def __init__(self, cork: Cork) -> None:
        self.cork = cork
        self.writes: list[bytes] = []
        self.unread = 0
        self.is_cut = False
        self.client = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self.client.send_request(self.client.connect())
        upgrade = Upgrade(b"".join(self.client.data_to_send()), 1 << 20)
        self.socket = WebSocket(cast("Any", self), upgrade, cast("Any", self))
        self.client.receive_data(b"".join(self.writes))
        self.client.events_received()
        self.writes.clear()

    @property
    def is_behind(self) -> bool:
        return self.unread > 0

    def opened(self, _profile: object, _end: object) -> int:
        return 1

    def closed(self, _client: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def finish(self) -> None:
        pass

    def cut_off(self) -> None:
        self.is_cut = True

    def heard(self) -> list[bytes]:
        """The messages, as a client of another's making takes them."""
        self.client.receive_data(b"".join(self.writes))
        return [bytes(e.data) for e in self.client.events_received() if isinstance(e, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, (1 << 20) + 1])
def test_a_message_of_any_size_is_framed(size: int) -> None:
    wire = Wire(Cork())
    for message in (b"x" * size, b"y" * size):
        wire.socket.send(message)
    assert wire.heard() == [b"x" * size, b"y" * size]


def test_what_goes_to_many_is_framed_once() -> None:
    framer = Framer()
    message = b'{"method":"item/agentMessage/delta"}'
    first = framer.frame(message)
    assert framer.frame(message) is first
    assert framer.frame(bytes(bytearray(message))) == first
    # What is long is not kept for as long as nothing else is said.
    long = bytes(2 << 20)
    assert framer.frame(long) is not framer.frame(long)


def test_what_is_said_in_one_go_leaves_in_one_write_each_in_order() -> None:
    cork = Cork()
    wires = [Wire(cork) for _ in range(3)]

    def say(data: bytes) -> None:
        for piece in data.split(b" "):
            for wire in wires:
                wire.socket.send(piece)
        assert [wire.writes for wire in wires] == [[], [], []]

    cork.around(say, b"one two three")
    for wire in wires:
        assert len(wire.writes) == 1
        assert wire.heard() == [b"one", b"two", b"three"]
    wires[0].writes.clear()
    wires[0].socket.send(b"four")
    assert wires[0].heard() == [b"four"]


def test_it_leaves_also_when_something_goes_wrong_and_within_another_call() -> None:
    wire = Wire(Cork())

    def say(data: bytes) -> None:
        wire.socket.send(data)
        if data == b"outer":
            wire.cork.around(say, b"inner")
            assert wire.writes == []
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        wire.cork.around(say, b"outer")
    assert wire.heard() == [b"outer", b"inner"]


def test_much_does_not_wait_for_the_end() -> None:
    wire = Wire(Cork())
    wire.backlog_bytes = 1 << 20

    def say(data: bytes) -> None:
        for _ in range(10):
            wire.socket.send(data)

    wire.cork.around(say, b"x" * 20_000)
    assert len(wire.writes) == 3
    assert wire.heard() == [b"x" * 20_000] * 10


@pytest.mark.parametrize("unread", [0, 1_001])
def test_only_what_a_client_could_read_is_held_against_it(unread: int) -> None:
    wire = Wire(Cork())

    def say(data: bytes) -> None:
        for _ in range(100):
            wire.socket.send(data)

    wire.unread = unread
    wire.cork.around(say, b"x" * 100)
    assert wire.is_cut == bool(unread)
    assert len(wire.writes) == (0 if unread else 1)


def test_a_farewell_comes_after_what_was_said() -> None:
    wire = Wire(Cork())

    def say(data: bytes) -> None:
        wire.socket.send(data)
        wire.socket.close(1001, "bye")

    wire.cork.around(say, b"one")
    assert wire.heard()[0] == b"one"
    assert wire.client.close_rcvd is not None
    assert wire.client.close_rcvd.code == 1001
