"""The reference pages say what the code does."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from codexd import contracts
from tests.support.make_reference import REFERENCE, updated

PACKAGE = REFERENCE.parents[1] / "codexd"
GROUPS = "daemon|child|session|turn|approval|client|state|events"
FILE_ENDINGS = (".lock", ".log", ".json", ".jsonl", ".sock")


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*.md")), ids=lambda page: page.name)
def test_generated_sections_are_current(page: Path) -> None:
    text = page.read_text()
    assert updated(text) == text, "run: python -m tests.support.make_reference"


def test_a_section_that_is_old_is_found() -> None:
    page = "a\n<!-- generated: settings -->\n\nold\n\n<!-- end -->\nb\n"
    assert "--repo-root" in updated(page)
    assert updated(page).startswith("a\n<!-- generated: settings -->\n")
    assert updated(page).endswith("<!-- end -->\nb\n")
    assert updated(updated(page)) == updated(page)


def recorded_types(source: str) -> Iterator[str]:
    """The event types in ``source``: literal ones, and f"child.{stream}" for both streams."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            if re.fullmatch(r"f'child\.\{(self\.)?stream\}'", ast.unparse(node)):
                yield from ("child.stdout", "child.stderr")
        elif isinstance(node, ast.Constant) and _is_type(node.value):
            yield str(node.value)


def _is_type(value: object) -> bool:
    is_dotted = isinstance(value, str) and re.fullmatch(rf"({GROUPS})(\.[a-z]+)+", value)
    return bool(is_dotted) and not str(value).endswith(FILE_ENDINGS)


def documented_types() -> set[str]:
    """The first column of the table of events."""
    rows = re.findall(r"^\| (`[^|]+`) \|", (REFERENCE / "events.md").read_text(), re.MULTILINE)
    cells = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    return {name for name in cells if "." in name}


def test_the_table_of_events_holds_just_those_that_are_recorded() -> None:
    recorded = {name for path in PACKAGE.rglob("*.py") for name in recorded_types(path.read_text())}
    assert documented_types() == recorded


def test_types_are_found_however_they_are_written() -> None:
    source = 'a("child.spawn.failed")\nb(f"child.{stream}", "daemon.lock")\nc("a child.x of")'
    assert set(recorded_types(source)) == {"child.spawn.failed", "child.stdout", "child.stderr"}


RECORDS = (
    contracts.Identity,
    contracts.DaemonState,
    contracts.ChildState,
    contracts.SessionRegistry,
    contracts.SessionRecord,
    contracts.RecentEvents,
)


@pytest.mark.parametrize("record", RECORDS)
def test_every_key_of_the_state_files_is_in_their_page(record: type[contracts.Record]) -> None:
    page = (REFERENCE / "files.md").read_text()
    keys = [field.encode_name for field in msgspec.structs.fields(record)]
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_every_key_of_an_event_is_in_its_page() -> None:
    page = (REFERENCE / "events.md").read_text()
    keys = [field.encode_name for field in msgspec.structs.fields(contracts.Event)]
    assert [key for key in keys if f"| `{key}` |" not in page] == []


def test_every_dependency_has_its_reason() -> None:
    with (PACKAGE.parent / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(item for extra in extras for item in extra)]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}  # type: ignore[index]
    page = (PACKAGE.parent / "docs/dependencies.md").read_text()
    cells = {
        name.strip()
        for row in re.findall(r"^\|.*\|$", page, re.MULTILINE)
        for cell in row.split("|")
        for name in cell.split(",")
    }
    assert names <= cells
