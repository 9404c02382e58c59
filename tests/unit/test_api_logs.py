"""`GET /v1/logs/…`: the end of what the server wrote, byte for byte and no more than fits."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.api.http import Access, Answer, Head, Problem
from codexd.api.logs import LogRoutes
from codexd.api.table import Table
from codexd.eventlog.bytes_reader import read_end


def write(place: Path, *parts: bytes) -> str:
    """A log whose parts, the oldest first, are files."""
    path = place / "stdout.log"
    for number, part in enumerate(reversed(parts)):
        (place / (f"stdout.log.{number}" if number else "stdout.log")).write_bytes(part)
    return str(path)


@given(
    parts=st.lists(st.lists(st.sampled_from([b"a", b"\n", b"bb\n", b"\xff"]), max_size=8)),
    lines=st.integers(0, 12),
)
def test_the_last_lines_are_found_over_all_files(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[bytes]], lines: int
) -> None:
    files = [b"".join(part) for part in parts]
    path = write(tmp_path_factory.mktemp("log"), *files)
    whole = re.findall(rb"[^\n]*\n|[^\n]+", b"".join(files))
    assert read_end(path, lines, 1 << 20) == (b"".join(whole[max(len(whole) - lines, 0) :]), False)


@pytest.mark.parametrize(
    ("parts", "most", "found"),
    [
        ((b"one\ntwo\nthree\n",), 9, (b"three\n", True)),
        ((b"one\ntwo\nthree\n",), 10, (b"two\nthree\n", True)),
        ((b"one\ntwo\nthree\n",), 14, (b"one\ntwo\nthree\n", False)),
        ((b"one\ntwo\n", b"three\nfour\n"), 14, (b"three\nfour\n", True)),
        ((b"one\ntwo\n", b"thr", b"ee\n"), 9, (b"three\n", True)),
        ((b"x" * 50,), 10, (b"x" * 10, True)),
        ((b"x" * 50 + b"\n",), 10, (b"x" * 9 + b"\n", True)),
        ((b"one\n" * 3,), 13, (b"one\n" * 3, False)),
    ],
)
def test_what_is_too_much_is_cut_where_a_line_begins(
    tmp_path: Path, parts: tuple[bytes, ...], most: int, found: tuple[bytes, bool]
) -> None:
    assert read_end(write(tmp_path, *parts), 99, most) == found


def ask(path: str, target: str) -> Answer:
    async def main() -> Answer:
        table = Table([LogRoutes(path, path + ".not-there")])
        result = await table.find(Head("GET", target, {}), Access.READ)[1](b"")
        assert isinstance(result, Answer)
        return result

    return asyncio.run(main())


def test_both_logs_have_their_route(tmp_path: Path) -> None:
    path = write(tmp_path, b"<html>\n" * 300, b"\xffend")
    answer = ask(path, "/v1/logs/stdout")
    assert answer.encoded() == b"<html>\n" * 99 + b"\xffend"
    assert answer.media_type.startswith("text/plain")
    assert answer.headers == {"X-Content-Type-Options": "nosniff"}
    assert ask(path, "/v1/logs/stdout?lines=1").encoded() == b"\xffend"
    assert ask(path, "/v1/logs/stderr").encoded() == b""


def test_a_large_log_is_told_to_be_cut(tmp_path: Path) -> None:
    answer = ask(write(tmp_path, b"y" * 99 + b"\n", b"z" * (2 << 20)), "/v1/logs/stdout?lines=9")
    assert len(answer.encoded()) == 1 << 20
    assert answer.headers["Codexd-Truncated"] == "true"


@pytest.mark.parametrize("query", ["lines=-1", "lines=10001", "lines=x", "lines=", "line=1"])
def test_what_is_not_understood_is_refused(tmp_path: Path, query: str) -> None:
    with pytest.raises(Problem) as caught:
        ask(str(tmp_path / "stdout.log"), f"/v1/logs/stdout?{query}")
    assert caught.value.more["field"] == query.partition("=")[0]
