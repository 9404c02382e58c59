"""Clients that do not read, and clients that never say who they are."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

BACKLOG = 500_000
DELTAS = 500
STRANGERS = 1_000
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room("--hub-backlog-bytes", str(BACKLOG), "--hub-initialize-ms", "2000")


def test_who_does_not_read_is_cut_off_and_holds_up_nobody(room: HubRoom) -> None:
    reader, other = room.client("reader"), room.client("other")
    thread_id = reader.start_thread()
    reader.start_turn(thread_id)
    reader.notification("turn/completed")
    with contextlib.closing(Sleeper(room.hub_socket)) as sleeper:
        number = room.event("client.connected", name="sleeper")["detail"]["client"]
        sleeper.ask(2, "thread/resume", {"threadId": thread_id})
        room.model.queue.append(Reply(deltas=["x" * 4_000] * DELTAS, delay_s=0.0005))
        reader.start_turn(thread_id)
        assert other.call("thread/loaded/list")["data"]
        reader.notification("turn/completed", 60)
        cut = room.event("client.cut", client=number)
        assert cut["level"] == "warn"
        assert BACKLOG < cut["detail"]["unreadBytes"] < 3 * BACKLOG
        room.event("client.disconnected", client=number)
    deltas = [entry for entry in reader.seen if entry.get("method") == "item/agentMessage/delta"]
    assert len(deltas) == DELTAS + 3
    assert room.live()["clients"] == 2


def test_a_thousand_that_never_say_who_they_are_cost_little_and_are_sent_away(
    room: HubRoom,
) -> None:
    client = room.client()
    plugin = room.box.plugin()
    before = plugin.memory_info().rss
    with many_files(STRANGERS + 200), contextlib.ExitStack() as stack:
        strangers = []
        for number in range(STRANGERS):
            stranger = stack.enter_context(socket.socket(socket.AF_UNIX))
            stranger.connect(room.hub_socket)
            # Half of them do not even ask for a WebSocket.
            if number % 2:
                stranger.sendall(UPGRADE)
            strangers.append(stranger)
        eventually(lambda: room.live()["clients"] >= STRANGERS // 2)
        assert client.call("thread/loaded/list") is not None
        cost = plugin.memory_info().rss - before
        assert cost / STRANGERS < 64 << 10
        for stranger in strangers:
            stranger.settimeout(20)
            while stranger.recv(4096):
                pass
    eventually(lambda: room.live()["clients"] == room.live()["initializedClients"])
    assert client.call("thread/loaded/list") is not None


class Sleeper:
    """A client that writes and never reads."""

    def __init__(self, path: str) -> None:
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        # The last that it reads; from here on it may send.
        self._protocol.receive_data(self._socket.recv(4096))
        params = {"clientInfo": {"name": "sleeper", "version": "1"}}
        self.ask(1, "initialize", params)

    def ask(self, request_id: int, method: str, params: dict[str, Any]) -> None:
        """Send a request, and do not look at what comes of it."""
        message = {"id": request_id, "method": method, "params": params}
        self._protocol.send_text(json.dumps(message).encode())
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._socket.sendall(data)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextlib.contextmanager
def many_files(count: int) -> Iterator[None]:
    """Room for that many open files in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
