"""What is printed for people: widths, tables, colours, and nothing that steers a terminal."""

from __future__ import annotations

import io
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.cli.terminal import (
    cells,
    clipped,
    harmless,
    local_time,
    one_line,
    padded,
    painter,
    table,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("表格", 4), ("é", 1), ("e\u0301", 1), ("ｱ", 1)]
)
def test_how_wide_a_text_is(text: str, width: int) -> None:
    assert cells(text) == width


@given(st.text(max_size=30), st.integers(1, 20))
def test_what_is_clipped_fits(text: str, width: int) -> None:
    shown = clipped(text, width)
    assert cells(shown) <= width
    assert shown == text or shown.endswith("…")
    assert cells(padded(shown, width)) == width


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x1b[2Jb", "ab"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x9b31mred\x1b[0m", "red"),
        ("cut off \x1b[3", "cut off 3"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
        ("a\u202eb", "ab"),
        ("👩\u200d💻 表", "👩\u200d💻 表"),
    ],
)
def test_what_others_wrote_steers_nothing(text: str, left: str) -> None:
    assert harmless(text) == left


@given(st.text())
def test_no_escape_is_left_of_any_text(text: str) -> None:
    assert not {"\x1b", "\x9b", "\r", "\x08"} & set(harmless(text))
    assert one_line(text).isprintable()


def test_a_table_fits_and_its_columns_stand_below_each_other() -> None:
    rows = [("ab12", "表格", "a title that is far too long for what is left of a line" * 2)]
    head, row = table(("ID", "NAME", "TITLE"), rows, 40)
    assert cells(row) <= 40
    assert row.endswith("…")
    assert cells(row[: row.index("a title")]) == head.index("TITLE")
    *_, wide = table(("A", "B"), [("x" * 90, "y" * 90)], 40)
    assert wide == "x" * 18 + "…  " + "y" * 18 + "…"
    # So many that even the narrowest do not fit.
    for line in table("ABCDEFG", [["x" * 9] * 7], 40):
        assert cells(line) <= 40


@pytest.mark.parametrize(
    ("environ", "is_coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
    ],
)
def test_colours_are_for_those_who_want_them(
    environ: dict[str, str], is_coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert painter(Terminal())("x", "red") == ("\x1b[31mx\x1b[0m" if is_coloured else "x")
    assert painter(io.StringIO())("x", "red") == "x"


def test_the_clock_on_the_wall() -> None:
    moment = datetime(2026, 11, 25, 12, 30, 5).astimezone()
    assert local_time(moment.isoformat(), moment) == "12:30:05"
    assert local_time(moment.isoformat(), moment.replace(day=26)) == "2026-11-25 12:30:05"
    assert local_time("no\x1btime") == "no\\x1btime"
