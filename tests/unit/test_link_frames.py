from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from codexd.wire import frames
from codexd.wire.frames import MessageAssembler, send_message


class Pair:
    """A client's and a server's end, without a wire."""

    def __init__(self) -> None:
        self.client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
        self.server = ServerProtocol(state=State.OPEN, max_size=None)
        self.assembler = MessageAssembler(self.server)

    def pass_on(self) -> tuple[list[bytes], list[int]]:
        """What the server makes of what the client sent: messages, and sizes of frames."""
        self.server.receive_data(b"".join(self.client.data_to_send()))
        got = [event for event in self.server.events_received() if isinstance(event, Frame)]
        messages = [self.assembler.add(frame) for frame in got]
        return [m for m in messages if m is not None], [len(frame.data) for frame in got]


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5]), (0, [0])],
)
def test_a_message_goes_in_frames_of_the_size_that_codex_takes(
    monkeypatch: pytest.MonkeyPatch, size: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(frames, "CODEX_FRAME_BYTES", 10)
    pair = Pair()
    message = bytes(97 + n % 26 for n in range(size))
    send_message(pair.client, message)
    assert pair.pass_on() == ([message], sizes)


def test_a_ping_between_the_frames_of_a_message_does_no_harm() -> None:
    pair = Pair()
    pair.client.send_text(b'{"a":', fin=False)
    pair.client.send_ping(b"?")
    pair.client.send_continuation(b"1}", fin=True)
    assert pair.pass_on()[0] == [b'{"a":1}']


def test_binary_messages_are_ignored_whole() -> None:
    pair = Pair()
    pair.client.send_binary(b"{}", fin=False)
    pair.client.send_continuation(b"{}", fin=True)
    pair.client.send_binary(b"{}")
    pair.client.send_text(b'{"a":1}')
    assert pair.pass_on()[0] == [b'{"a":1}']


def test_text_that_is_no_utf8_ends_the_connection_and_what_follows_is_not_heard() -> None:
    pair = Pair()
    pair.client.send_text('{"é":1}'.encode())
    pair.client.send_text(b"\xff\xfe")
    pair.client.send_text(b'{"a":1}')
    assert pair.pass_on()[0] == ['{"é":1}'.encode()]
    assert pair.server.close_sent is not None
    assert pair.server.close_sent.code == CloseCode.INVALID_DATA
