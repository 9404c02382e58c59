from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.wire.lines import LineSplitter, as_line


def split(*pieces: bytes, limit: int = 1 << 20) -> tuple[list[bytes], int]:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append, limit=limit)
    for piece in pieces:
        splitter.feed(piece)
    return lines, splitter.noise


def test_a_line_may_come_in_pieces_and_end_in_crlf() -> None:
    assert split(b'{"a"', b":1}\r", b'\n{"b":2}\n{"c"') == ([b'{"a":1}', b'{"b":2}'], 0)


def test_noise_is_counted_and_skipped_and_empty_lines_are_not_noise() -> None:
    assert split(b'warning: x\n\n  \n{"a":1}\n}{\n') == ([b'{"a":1}'], 2)


def test_the_end_of_the_stream_ends_the_last_line() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    splitter.feed(b'{"a":1}')
    splitter.finish()
    splitter.finish()
    assert lines == [b'{"a":1}']


def test_a_line_over_the_limit_is_dropped_and_the_next_one_is_heard() -> None:
    assert split(b'{"a":"', b"x" * 20, b'"}\n{"b":2}\n', limit=16) == ([b'{"b":2}'], 1)


@given(
    st.lists(st.dictionaries(st.text(), st.text(), min_size=1), min_size=1, max_size=6),
    st.lists(st.integers(1, 40), max_size=30),
)
@settings(max_examples=60)
def test_however_the_bytes_are_cut_the_messages_are_the_same(
    messages: list[dict[str, str]], cuts: list[int]
) -> None:
    stream = b"".join(as_line(json.dumps(m, indent=1).encode()) for m in messages)
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(stream[start : start + cut])
        start += cut
    lines, noise = split(*pieces, stream[start:])
    assert [json.loads(line) for line in lines] == messages
    assert noise == 0


class Watched(bytes):
    """Bytes that count how many of them are searched, also after they were joined to others."""

    searched = 0

    def find(self, *args: Any) -> int:
        Watched.searched += len(self) - (args[1] if len(args) > 1 else 0)
        return super().find(*args)

    def __add__(self, other: Any) -> Watched:
        return Watched(super().__add__(other))

    def __radd__(self, other: Any) -> Watched:
        return Watched(bytes(other) + bytes(self))


def searched_bytes(feed: Callable[[bytes], object], pieces: int) -> int:
    Watched.searched = 0
    for _ in range(pieces):
        feed(Watched(b"x" * 4096))
    feed(Watched(b"\n"))
    return Watched.searched


def test_no_byte_of_a_long_line_is_searched_twice() -> None:
    splitter = LineSplitter(lambda _line: None, limit=1 << 30)
    assert searched_bytes(splitter.feed, 1000) == 1000 * 4096 + 1


def test_a_splitter_that_searches_again_is_found() -> None:
    kept = b""

    def feed(data: bytes) -> None:
        nonlocal kept
        kept += data
        kept.find(b"\n")

    assert searched_bytes(feed, 100) > 10 * 100 * 4096


def test_what_is_no_utf8_comes_out_as_text_all_the_same() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    splitter.feed(b'{"a":"\xff\xfe","b":1}\n{"c":"\xc3\xa9"}\n')
    assert [json.loads(line) for line in lines] == [{"a": "\ufffd\ufffd", "b": 1}, {"c": "é"}]
    assert lines[1] == '{"c":"é"}'.encode()
