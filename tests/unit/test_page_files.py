"""The page's files: what they are sent with, and that nothing in them needs more."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

import codexd
from codexd.api.http import Access, Answer, Head
from codexd.api.page import PageRoutes
from codexd.api.page_access import PageAccess
from codexd.api.table import Table

PLACE = Path(codexd.__file__).parent / "page"
TYPES = {"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"}


def get(path: str, **headers: str) -> Answer:
    table = Table([PageRoutes(PageAccess("/nowhere"))])
    head = Head("GET", path, {"host": "x", **headers})
    answer = asyncio.run(_answer(table, head))
    assert isinstance(answer, Answer)
    return answer


async def _answer(table: Table, head: Head) -> object:
    return await table.find(head, Access.OPEN)[1](b"")


@pytest.mark.parametrize("path", TYPES)
def test_a_file_is_sent_so_that_nothing_else_can_run(path: str) -> None:
    answer = get(path)
    assert answer.media_type == f"{TYPES[path]}; charset=utf-8"
    policy = dict(
        part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    for kind in ("script-src", "style-src", "connect-src", "form-action"):
        assert policy[kind] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in str(policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", TYPES)
def test_a_browser_that_has_the_file_gets_it_once(path: str) -> None:
    first = get(path)
    again = get(path, **{"if-none-match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert get(path, **{"if-none-match": '"other"'}).status == 200


def test_the_files_tell_nothing_and_fetch_nothing_from_elsewhere() -> None:
    for path in TYPES:
        text = get(path).encoded().decode()
        addresses = set(re.findall(r"""https?://[^\s"'`)]+""", text))
        # Names of formats, which nobody fetches.
        assert addresses <= {"http://www.w3.org/2000/svg"}
        assert codexd.__version__ not in text


@pytest.mark.parametrize(
    "dangerous",
    [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
        "setHTML",
        "srcdoc",
        "javascript:",
    ],
)
def test_no_text_becomes_markup_or_script(dangerous: str) -> None:
    for file in PLACE.iterdir():
        assert dangerous not in file.read_text()
    html = (PLACE / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style", html)


def test_each_file_that_the_page_names_is_there() -> None:
    html = (PLACE / "index.html").read_text()
    named = re.findall(r'(?:src|href)="(/[^"]*)"', html)
    assert sorted(named) == ["/app.js", "/style.css"]
    # What the script asks the document for is in it.
    script = (PLACE / "app.js").read_text()
    wanted = set(re.findall(r'\bat\("([\w-]+)"\)', script))
    assert wanted <= set(re.findall(r'id="([\w-]+)"', html))
    assert len(wanted) > 20
