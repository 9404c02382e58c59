"""The reference pages say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from codexd import contracts
from codexd.cli.manual import man_page
from codexd.config import resolve
from codexd.eventlog.types import TYPES
from codexd.keeper.metric_table import METRICS, PREFIX
from tests.support import problem_kinds as problems
from tests.support.event_types import Unclear, recorded_types
from tests.support.make_reference import MAN_PAGE, PAGES, REFERENCE, updated
from tests.support.problem_kinds import problem_kinds

PACKAGE = REFERENCE.parents[1] / "codexd"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_sections_are_current(page: Path) -> None:
    text = page.read_text()
    assert updated(text) == text, "run: python -m tests.support.make_reference"


def test_the_man_page_is_as_the_code_has_it() -> None:
    assert MAN_PAGE.read_text() == man_page(), "run: python -m tests.support.make_reference"


def test_a_section_that_is_old_is_found() -> None:
    page = "a\n<!-- generated: settings -->\n\nold\n\n<!-- end -->\nb\n"
    assert "--repo-root" in updated(page)
    assert updated(page).startswith("a\n<!-- generated: settings -->\n")
    assert updated(page).endswith("<!-- end -->\nb\n")
    assert updated(updated(page)) == updated(page)


def documented_types() -> set[str]:
    """The first column of the table of events."""
    rows = re.findall(r"^\| (`[^|]+`) \|", (REFERENCE / "events.md").read_text(), re.MULTILINE)
    cells = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    return {name for name in cells if "." in name}


def test_the_table_of_events_holds_just_those_that_are_recorded() -> None:
    recorded = {name for path in PACKAGE.rglob("*.py") for name in recorded_types(path.read_text())}
    assert documented_types() == recorded == set(TYPES)
    assert list(TYPES) == sorted(TYPES)


SOURCE = """
class A:
    def event(self, level, type_, message):
        self.log.record(level, type_, message)
    def one(self):
        self.event("info", "child.spawn.failed", "…")
    def two(self, stream):
        self.event("info", f"child.{stream}", "…")
    def three(self, what, thread):
        self.act(Emit("info", f"turn.{what}", "…"))
    def four(self):
        self.three("started" if self.x else "completed", "thread-1")
    def five(self, action):
        match action:
            case Emit(level, type_, message):
                self.event(level, type_, message)
"""


def test_types_are_found_however_they_are_written() -> None:
    assert recorded_types(SOURCE) == {
        "child.spawn.failed",
        "child.stdout",
        "child.stderr",
        "turn.started",
        "turn.completed",
    }


def test_a_type_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(Unclear, match=r"line 3: self\.kind\(\)"):
        recorded_types("def a(self):\n  b()\n  self.event('info', self.kind(), '…')")


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


def test_every_path_of_the_configuration_is_in_a_page() -> None:
    config = resolve({}, {}, cwd="/repo")
    paths = [*msgspec.structs.astuple(config.paths), *msgspec.structs.astuple(config.runtime)]
    pages = (REFERENCE / "files.md").read_text() + (REFERENCE / "runtime.md").read_text()
    names = {Path(path).name for path in paths if Path(path).suffix}
    assert len(names) == 12
    assert [name for name in names if f"{name}`" not in pages] == []


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


def test_the_table_of_problems_holds_just_those_that_are_answered() -> None:
    answered = {kind for path in PACKAGE.rglob("*.py") for kind in problem_kinds(path.read_text())}
    page = (REFERENCE / "http.md").read_text()
    documented = re.findall(r"^\| `urn:codexd:([\w-]+)` \|", page, re.MULTILINE)
    assert documented == sorted(answered)


PROBLEMS = """
def a(self):
    raise Problem(HTTPStatus.CONFLICT, "one", text)
async def b(self):
    kind = "two" if self.x else "three"
    return Problem(status, kind, text)
def c():
    return Problem(status, kind="four", detail="")
"""


def test_kinds_of_problems_are_found_however_they_are_written() -> None:
    assert sorted(problem_kinds(PROBLEMS)) == ["four", "one", "three", "two"]
    with pytest.raises(problems.Unclear, match=r"line 2: self\.kind"):
        list(problem_kinds("def a(self):\n  Problem(status, self.kind, text)"))


def test_the_guide_to_prometheus_asks_for_metrics_that_are_there() -> None:
    guide = (REFERENCE.parent / "how-to/watch-with-prometheus.md").read_text()
    told = {PREFIX + row.name for row in METRICS}
    spread = {f"{PREFIX}{row.name}_bucket" for row in METRICS if row.kind == "histogram"}
    asked = set(re.findall(r"\bcodexd_\w+", guide))
    assert len(asked) > 5
    assert asked <= told | spread
