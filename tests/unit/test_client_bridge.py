"""The bridge between a client and a hub, both of them this test."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from codexd.client import bridge
from codexd.client.bridge import Bridge, ClientGone
from codexd.client.hub_wire import HubWire, Outgoing

Reply = dict[str, Any] | None
RUNS = {"id": "u", "status": "inProgress"}
UNWRITTEN = {"id": "u", "status": "interrupted", "completedAt": None, "error": None}
DONE = {"id": "u", "status": "completed"}


class Wire:
    """A connection to a hub that answers each request at once."""

    def __init__(self, answer: Callable[[str], Reply]) -> None:
        self.socket, self._hub = socket.socketpair()
        self.unsent = Outgoing()
        self.is_open = True
        self.early: list[bytes] = []
        self.farewell = ""
        self._answer = answer
        self._came: list[bytes] = []

    def send(self, message: bytes) -> None:
        asked = json.loads(message)
        if "id" not in asked:
            return
        result = self._answer(asked["method"])
        if result is None:
            self._hub.close()
            return
        self._came.append(json.dumps({"id": asked["id"], "result": result}).encode())
        self._hub.send(b"x")

    def read(self) -> list[bytes]:
        self.is_open = bool(self.socket.recv(100))
        came, self._came = self._came, []
        return came

    def close(self) -> None:
        self.socket.close()
        self._hub.close()


class Client:
    """Asks for a turn, and goes with its end."""

    hears_on = True
    is_open = True

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.unsent = Outgoing()
        self.ends: list[str] = []

    def early(self) -> list[bytes]:
        asked = ["initialize", "thread/start", "turn/start", "review/start"]
        params = {"threadId": "t"}
        return [
            json.dumps({"id": number, "method": method, "params": params}).encode()
            for number, method in enumerate(asked)
        ]

    def read(self) -> list[bytes]:
        raise ClientGone

    def write(self) -> None:
        raise AssertionError

    def send(self, message: bytes) -> None:
        told = json.loads(message)
        if told.get("method") == "turn/completed":
            self.ends.append(told["params"]["turn"]["status"])
            os.write(self.writer, b"x")


def test_a_server_has_time_to_write_down_how_a_turn_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge, "_SHORT_LIFE_S", 0.0)
    asked_at: list[float] = []
    records = iter([UNWRITTEN, UNWRITTEN, DONE])

    def answer(method: str) -> Reply:
        if method in ("thread/resume", "thread/read"):
            asked_at.append(time.monotonic())
            turns = [next(records)]
            return {"thread": {"id": "t", "status": {"type": "idle"}, "turns": turns}}
        # The connection is lost as a review is asked for.
        return {"thread": {"id": "t"}, "turn": RUNS} if method != "review/start" else None

    client = Client()
    wires: list[Wire] = []

    def connect() -> HubWire:
        wires.append(Wire(answer))
        return cast("HubWire", wires[-1])

    try:
        Bridge(connect, client).run()
    finally:
        for descriptor in (client.reader, client.writer):
            os.close(descriptor)
        for wire in wires:
            wire.close()
    assert client.ends == ["completed"]
    assert (len(wires), len(asked_at)) == (2, 3)
    assert all(later - before > 0.09 for before, later in pairwise(asked_at))
