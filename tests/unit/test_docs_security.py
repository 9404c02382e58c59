"""What the page of security says is held by a test, is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/security.md"
_NAMED = re.compile(r"(test_\w+\.py)(?:::(test_\w+))?")


def missing(text: str) -> list[str]:
    """Each test that is named and is not there."""
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    return [
        found[0]
        for found in _NAMED.finditer(text)
        if found[1] not in files or (found[2] and f"def {found[2]}(" not in files[found[1]])
    ]


def test_every_test_that_the_page_names_is_there() -> None:
    text = PAGE.read_text()
    assert len(_NAMED.findall(text)) > 10
    assert missing(text) == []


def test_one_that_is_not_there_is_found() -> None:
    assert missing("`test_door.py::test_nothing` and `test_nobody.py`, `test_door.py`") == [
        "test_door.py::test_nothing",
        "test_nobody.py",
    ]
