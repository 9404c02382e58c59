"""README.zh.md says what README.md says, and is set as Chinese is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks_of, commands_in

ENGLISH = ROOT / "README.md"
CHINESE = ROOT / "README.zh.md"

_CJK = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
_NARROW = re.compile(rf"[{_CJK}][,.;:!?()]|[,.;:!?()][{_CJK}]")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# What begins a line of its own.
_OWN_LINE = re.compile(r"[#|\-!>]|\d+\.")


def narrow(text: str) -> list[str]:
    """Punctuation of ASCII beside Chinese, but for what code and links are made of."""
    text = re.sub(r"`[^`\n]+`", "x", text)
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    return _NARROW.findall(text)


def wrapped(text: str) -> Iterator[str]:
    """Lines that go on in the next: a browser makes a space of the break."""
    lines = _FENCE.sub("", text).splitlines()
    for line, following in pairwise(lines):
        if line and following and not _OWN_LINE.match(following.strip()):
            yield line


def commands(page: Path) -> list[list[str]]:
    return [
        words for block in blocks_of(page, page.read_text()) for words in commands_in(block.text)
    ]


def targets(page: Path) -> set[str]:
    found = set(re.findall(r"\]\(([^)\s]+)\)", page.read_text()))
    return found - {ENGLISH.name, CHINESE.name}


def test_its_punctuation_is_wide_and_its_paragraphs_are_one_line() -> None:
    text = CHINESE.read_text()
    assert narrow(text) == []
    assert list(wrapped(text)) == []


def test_comments_beside_commands_have_wide_punctuation_as_well() -> None:
    comments = re.findall(rf"^ops/.*# (.*[{_CJK}].*)$", CHINESE.read_text(), re.MULTILINE)
    assert len(comments) > 10
    assert [text for text in comments if re.search(r"[,;!?]", text)] == []


def test_it_has_the_commands_and_links_of_the_english_one() -> None:
    assert commands(CHINESE) == commands(ENGLISH)
    assert targets(CHINESE) == targets(ENGLISH)
    headings = re.compile(r"^## ", re.MULTILINE)
    rows = re.compile(r"^\|", re.MULTILINE)
    for each in (headings, rows):
        count = len(each.findall(CHINESE.read_text()))
        assert count == len(each.findall(ENGLISH.read_text()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("活着,供", ["着,"]),
        ("枢纽(hub)与", ["纽(", ")与"]),
        ("`a`,`b`：[看](x.md)。v1.2 (x)", []),
        ("# 启动,并", ["动,"]),
    ],
)
def test_narrow_punctuation_is_found(text: str, found: list[str]) -> None:
    assert narrow(text) == found


def test_a_wrapped_paragraph_is_found() -> None:
    text = "一。\n二。\n\n- 三\n- 四\n\n| 五 |\n| 六 |\n\n```\n七\n八\n```\n九\n[十](x)\n"
    assert list(wrapped(text)) == ["一。", "九"]
