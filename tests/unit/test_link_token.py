"""The token of a server that asks for one: read for each connection, from a file of the user's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from codexd.link.endpoint import parse_endpoint
from codexd.link.errors import LinkUnauthorized
from codexd.link.transport_websocket import WebSocketTransport


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nothing", "No such file"),
        ("a pipe", "Not a regular file"),
        ("a directory", "Not a regular file"),
        ("no text", "cannot be read"),
        ("two lines", "holds no token"),
    ],
)
def test_a_token_that_cannot_be_read_is_told_and_never_waited_for(
    tmp_path: Path, kind: str, said: str
) -> None:
    path = tmp_path / "token"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    elif kind != "nothing":
        path.write_bytes(b"a\nb" if kind == "two lines" else b"\xff")
    endpoint = parse_endpoint("ws://127.0.0.1:1", {}, cwd="/")
    transport = WebSocketTransport(endpoint, str(path))
    with pytest.raises(LinkUnauthorized, match=said) as caught:
        asyncio.run(transport.connect())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
