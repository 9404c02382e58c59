"""What a server that is about to end lets nobody begin."""

from __future__ import annotations

import json

import pytest

from codexd.client.draining import refusal

# Measured on codex 0.163, while a turn of its kept it from ending.
REFUSED = [
    "thread/start",
    "thread/resume",
    "thread/fork",
    "thread/compact/start",
    "thread/shellCommand",
    "turn/start",
    "turn/steer",
    "review/start",
]
TAKEN = ["thread/read", "thread/loaded/list", "command/exec", "model/list", "config/value/write"]


@pytest.mark.parametrize("method", REFUSED)
def test_nothing_new_begins(method: str) -> None:
    answer = refusal(json.dumps({"id": "a", "method": method, "params": {}}).encode())
    assert answer is not None
    assert json.loads(answer) == {
        "id": "a",
        "error": {
            "code": -32600,
            "message": "Server is draining; retry after reconnecting",
            "data": {"reason": "serverShuttingDown"},
        },
    }


@pytest.mark.parametrize("method", TAKEN)
def test_anything_else_goes_on(method: str) -> None:
    assert refusal(json.dumps({"id": 1, "method": method}).encode()) is None


@pytest.mark.parametrize("message", [b"{", b'{"id":1,"result":{}}', b'{"method":"turn/start"}'])
def test_what_is_no_request_is_not_answered(message: bytes) -> None:
    assert refusal(message) is None
