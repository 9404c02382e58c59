"""Messages are cut out of what comes just as the protocol itself would take them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from codexd.wire.frames import MessageAssembler, MessageReader, masked_frame

LIMIT = 1 << 17


def a_client() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=LIMIT)


def a_server() -> ServerProtocol:
    return ServerProtocol(state=State.OPEN, max_size=LIMIT)


def sent(protocol: Protocol) -> bytes:
    return b"".join(protocol.data_to_send())


def taken_by_the_protocol(protocol: Protocol, data: bytes) -> list[bytes]:
    """What the library makes of it, frame by frame."""
    assembler = MessageAssembler(protocol)
    protocol.receive_data(data)
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    return [whole for frame in frames if (whole := assembler.add(frame)) is not None]


def heard(reader: MessageReader, data: bytes) -> list[bytes]:
    """What whoever reads a connection makes of what it has read."""
    message = reader.sole(data)
    return reader.feed(data) if message is None else [message]


def say_anything(end: Protocol, dice: random.Random) -> bytes:
    """Some frames of one message, or of none."""
    text = "é".encode() if dice.random() < 0.2 else b"x"
    message = text * dice.choice([0, 1, 60, 125, 126, 300, 70_000])
    match dice.randrange(8):
        case 0:
            end.send_ping(b"?")
        case 1:
            end.send_binary(message[:1000])
        case 2:
            end.send_text(message[: len(message) // 2], fin=False)
            end.send_ping(b"!")
            end.send_continuation(message[len(message) // 2 :], fin=True)
        case 3:
            end.send_binary(b"a", fin=False)
            end.send_continuation(b"b", fin=True)
        case _:
            end.send_text(message[: LIMIT // 2])
    return sent(end)


def in_pieces(data: bytes, dice: random.Random) -> list[bytes]:
    pieces = []
    while data:
        size = dice.choice([1, 2, 3, 7, 100, 5000, len(data)])
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("side", [a_client, a_server])
def test_whatever_comes_in_whatever_pieces_is_taken_alike(seed: int, side: Any) -> None:
    dice = random.Random(seed)
    sender = a_server() if side is a_client else a_client()
    said = [say_anything(sender, dice) for _ in range(8)]
    if dice.random() < 0.5:
        sender.send_close(1000, "bye")
        said.append(sent(sender) + b"not heard any more")
    data = b"".join(said)
    for pieces in (in_pieces(data, dice), said):
        expected, read = side(), side()
        messages = taken_by_the_protocol(expected, data)
        reader = MessageReader(read, LIMIT)
        assert [m for piece in pieces for m in heard(reader, piece)] == messages
        # What it says by itself is the same too: pongs, and the farewell.
        assert read.state is expected.state
        assert (read.close_rcvd is None) == (expected.close_rcvd is None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02{}", CloseCode.PROTOCOL_ERROR),
        (b"\xc1\x82\0\0\0\0{}", CloseCode.PROTOCOL_ERROR),
        (b"\x80\x82\0\0\0\0{}", CloseCode.PROTOCOL_ERROR),
        (b"\x81\x83\0\0\0\0{\xff}", CloseCode.INVALID_DATA),
        (b"\x81\xff\0\0\0\0\0\x02\0\x01\0\0\0\0", CloseCode.MESSAGE_TOO_BIG),
    ],
    ids=["not masked", "reserved bits", "no beginning", "not UTF-8", "too long"],
)
def test_a_breach_of_the_protocol_is_found_by_the_protocol(data: bytes, code: CloseCode) -> None:
    for split in range(len(data)):
        server = a_server()
        reader = MessageReader(server, LIMIT)
        assert heard(reader, data[:split]) + heard(reader, data[split:]) == []
        assert server.close_sent is not None
        assert server.close_sent.code == code
        assert heard(reader, b"\x81\x82\0\0\0\0{}") == []


def test_a_text_between_the_parts_of_another_is_a_breach() -> None:
    client, server = a_client(), a_server()
    client.send_text(b"{", fin=False)
    reader = MessageReader(server, LIMIT)
    assert heard(reader, sent(client)) == []
    assert heard(reader, masked_frame(b"{}")) == []
    assert server.close_sent is not None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_masked_frame_is_one_that_any_server_takes(size: int) -> None:
    message = b"m" * size
    assert taken_by_the_protocol(a_server(), masked_frame(message)) == [message]
    assert MessageReader(a_server(), LIMIT).feed(masked_frame(message)) == [message]
    assert MessageReader(a_server(), LIMIT).sole(masked_frame(message)) == message


def test_what_is_not_whole_is_held() -> None:
    frame = masked_frame(b"m" * 1000)
    for split in (*range(1, 20), len(frame) - 1):
        reader = MessageReader(a_server(), LIMIT)
        assert heard(reader, frame[:split]) == []
        # The head is held only for as long as it is not whole.
        assert reader.held == (split if split < len(frame) - 1000 else split + 1000 - len(frame))
        assert heard(reader, frame[split:]) == [b"m" * 1000]
        assert reader.held == 0
