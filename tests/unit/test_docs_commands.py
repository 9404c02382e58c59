"""Every command in the documentation can be typed: it exists, and takes what it is given.

That they do what is said is for tests/integration/test_docs_run.py, which runs all blocks but those
that are marked: "```sh not run: why".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from codexd.cli.main import cli
from codexd.config import resolve
from codexd.settings import SETTINGS, SettingError
from codexd.settings_file import CONFIG_VARIABLE
from tests.support.pages import (
    PAGES,
    ROOT,
    Block,
    all_blocks,
    blocks_of,
    commands_in,
    typed_in,
)

OURS = ("codexd", "ops/codexd", ".venv/bin/codexd")
# What is in no PATH, whether codexd comes from a checkout, a wheel or pipx.
NOWHERE = {"circusd", "circusctl", "circus-top"}
# Where nothing but a checkout was spoken of.
CHECKOUT_ONLY = {"README.md", "README.zh.md", "docs/tutorial/first-hour.md"}
ONLY_IN_VENV = {"codexd", "codexd-codex", "codex"}
IN_VENV = {"python", "pip", *NOWHERE}
# What the server and the approval command are given, which is no setting.
GIVEN = {"BAA_CODEXD_DAEMON_ID"}

BLOCKS = all_blocks()
SHOULD_PARSE = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)


def parsed(words: list[str]) -> None:
    """Have click take the words of a command line of codexd's, and codexd its settings."""
    with cli.make_context("codexd", list(words)) as outer:
        rest = [*outer._protected_args, *outer.args]
        command: click.Command | None = cli
        context: click.Context = outer
        while isinstance(command, click.Group) and rest:
            name, command, rest = command.resolve_command(context, rest)
            assert command is not None
            context = command.make_context(name, rest, parent=context)
            rest = [*context._protected_args, *context.args]
    flags = {setting.name: context.params.get(setting.name) for setting in SETTINGS}
    resolve(flags, {}, cwd="/repo")


def faults_of(page: str, text: str) -> Iterator[str]:
    """What could not be typed there, in a block of that page."""
    for words in commands_in(text):
        yield from command_faults(words)
        if words[0] in NOWHERE or (page in CHECKOUT_ONLY and words[0] in ONLY_IN_VENV):
            yield f"{words[0]} is on nobody's PATH"
    for name in re.findall(r"(?<![\w.$~/-])((?:ops|docs|tests)/[\w./-]+)", text):
        if not (ROOT / name).exists():
            yield f"{name} is not there"
    for name in re.findall(r"\.venv/bin/([\w-]+)", text):
        if name not in IN_VENV | scripts():
            yield f".venv/bin/{name} is not there"
    for module in re.findall(r"python3? -m (tests\.[\w.]+)", text):
        if (
            not (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
            and not (ROOT / module.replace(".", "/") / "__main__.py").exists()
        ):
            yield f"{module} is not there"


def command_faults(words: list[str]) -> Iterator[str]:
    """What codexd would not take."""
    if words[0] not in OURS and not words[0].endswith("/bin/codexd"):
        return
    try:
        parsed(words[1:])
    except click.exceptions.Exit:
        return
    except (click.ClickException, SettingError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        yield f"{' '.join(words)}: {text}"


def scripts() -> set[str]:
    """What an installation puts into `bin`."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["scripts"])


@SHOULD_PARSE
def test_every_block_can_be_typed(block: Block) -> None:
    page = str(block.page.relative_to(ROOT))
    assert list(faults_of(page, block.text)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_was_typed_in_a_recorded_session_can_be(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    for block in blocks_of(page, page.read_text(), "console"):
        assert typed_in(block.text)
        assert list(faults_of(name, typed_in(block.text))) == []


@SHOULD_PARSE
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    assert block.is_marked_well, block.mark


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_is_a_setting(page: Path) -> None:
    named = set(re.findall(r"\bBAA_[A-Z_]*[A-Z]\b(?!_?[…*])", page.read_text()))
    known = {name for setting in SETTINGS for name in setting.env} | GIVEN | {CONFIG_VARIABLE}
    assert named - known - {"BAA"} == set()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("codexd statsu", "Unknown codexd action"),
        ("x=$(codexd config --jsno | head)", "--jsno"),
        ("FOO=1 ops/codexd logs stdin", "stdin"),
        ("if codexd restart --now 3; then true; fi", "3"),
        ("codexd start --hub-default-socket maybe", "maybe"),
        ("git diff | codexd run", "PROMPT"),
        ("codexd sessions colse k3w9qd", "colse"),
        ("ops/codexdd status", "ops/codexdd is not there"),
        (".venv/bin/codexd-cdx login", ".venv/bin/codexd-cdx is not there"),
        ("circusd circus.ini", "circusd is on nobody's PATH"),
        ("python -m tests.benchmarks.bench_none", "bench_none is not there"),
    ],
)
def test_what_cannot_be_typed_is_found(text: str, fault: str) -> None:
    (found,) = faults_of("docs/x.md", text)
    assert fault in found


def test_what_stands_only_in_the_environment_is_found_where_a_checkout_is_spoken_of() -> None:
    assert list(faults_of("docs/x.md", "codexd status && codex login")) == []
    found = list(faults_of("README.md", "codexd status && codex login"))
    assert found == ["codexd is on nobody's PATH", "codex is on nobody's PATH"]


def test_blocks_are_found_in_lists_and_with_their_marks() -> None:
    text = "a\n\n- b\n\n  ```sh not run: why\n  x\n  ```\n\n```toml\ny\n```\n\n```sh\nz\n```\n"
    page = ROOT / "README.md"
    one, two = blocks_of(page, text)
    assert (one.line, one.text, one.not_run, two.text, two.not_run) == (
        6,
        "x\n",
        "why",
        "z\n",
        None,
    )
    (bad,) = blocks_of(page, "```sh not-run\nx\n```\n")
    assert not bad.is_marked_well
