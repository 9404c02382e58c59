"""No link leads nowhere, no page is out of reach, and no command or flag is made up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from codexd.cli.main import COMMANDS, cli
from tests.benchmarks import bench_day, bench_start_steps
from tests.benchmarks import command as bench
from tests.faults import kill_matrix
from tests.support import mutate

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

# Flags of other programs that the pages name.
FOREIGN_FLAGS = {
    "--add-dir",
    "--code-mode-host",
    "--disable",
    "--enable",
    "--disable-linger",
    "--endpoint",
    "--fail-with-body",
    "--force",
    "--listen",
    "--no-deps",
    "--only",
    "--out",
    "--waiting",
    "--place",
    "--cacert",
    "--remote",
    "--sock",
    "--strict-config",
    "--remote-auth-token-env",
    "--unix-socket",
    "--upgrade",
    "--user",
    "--write",
    "--dry-run",
}


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links that stay in this repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            yield target.partition("#")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


def named_paths(text: str) -> Iterator[str]:
    """The files and directories of this repository that a page names, modules also by room."""
    # What a daemon keeps is below a `codexd/`, too.
    yield from re.findall(r"`(codexd/[\w/]+\.py|(?:docs|ops|tests)/[\w./-]*)`", text)
    rooms = "|".join(path.name for path in (ROOT / "codexd").iterdir() if path.is_dir())
    for path in re.findall(rf"`((?:{rooms})/\w+\.py)`", text):
        yield f"codexd/{path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        # It tells of what was.
        return
    assert [path for path in named_paths(page.read_text()) if not (ROOT / path).exists()] == []


def test_a_file_that_is_named_is_found() -> None:
    text = "`codexd/gone.py` and `hub/gone.py`, not `codexd/run/`: `tests/unit/gone.py`, `docs/x`"
    found = ["codexd/gone.py", "codexd/hub/gone.py", "docs/x", "tests/unit/gone.py"]
    assert sorted(named_paths(text)) == found


def test_every_page_is_within_reach_of_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix != ".md" or page in seen:
            continue
        seen.add(page)
        waiting += [(page.parent / target).resolve() for target in links(page)]
    assert [page for page in PAGES if page not in seen] == []


def code(page: Path) -> str:
    """Everything of a page that is set as code, without comments of the shell.

    What a program printed in a recorded session is no command; test_docs_commands.py has those.
    """
    text = re.sub(r"(?ms)^```console$.*?^```$", "", page.read_text())
    blocks = re.findall(r"```[^`\n]*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    joined = "\n".join(block or span for block, span in blocks)
    return re.sub(r"(?m)(^|\s)#.*$", "", joined)


@cache
def flags() -> set[str]:
    """Every flag of every command."""
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in COMMANDS]
    for group in [command for command in commands if isinstance(command, click.Group)]:
        commands += group.commands.values()
    parameters = [parameter for command in commands if command for parameter in command.params]
    return {flag for parameter in parameters for flag in parameter.opts} | {"--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_flag_exists(page: Path) -> None:
    text = code(page)
    named = re.findall(r"(?:^|[\s/])codexd ([a-z][a-z-]+)\b", text, re.MULTILINE)
    assert [name for name in named if name not in COMMANDS] == []
    given = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
    tools = (bench, bench_day, bench_start_steps, kill_matrix, mutate)
    ours = flags().union(*(tool.arguments()._option_string_actions for tool in tools))
    assert given - ours - FOREIGN_FLAGS == set()
