"""Help that fits a screen, words that are completed, and the man page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from codexd.cli.completing import SHELLS, VARIABLE, with_ids
from codexd.cli.groups import GROUPS
from codexd.cli.help import TOPICS
from codexd.cli.main import COMMANDS, cli, main
from codexd.cli.manual import man_page
from codexd.eventlog.types import TYPES

ROWS, COLUMNS = 24, 80


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def every_command() -> Iterator[tuple[str, ...]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        # The help of ctl is circusctl's.
        if name != "ctl":
            yield (name,)
        for verb in command.commands if isinstance(command, click.Group) else ():
            yield name, verb


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
@pytest.mark.usefixtures("screen")
def test_the_help_of_a_command_fits_a_screen(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*words, "--help"])
    lines = done.output.splitlines()
    assert done.exit_code == 0
    assert len(lines) < ROWS
    assert max(map(len, lines)) <= COLUMNS
    command = cli.get_command(click.Context(cli), words[0])
    for verb in words[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[verb]
    assert command is not None
    takes_settings = any(parameter.name == "repo_root" for parameter in command.params)
    assert ("codexd help settings" in done.output) is takes_settings


@pytest.mark.usefixtures("screen")
def test_every_command_is_in_one_group_on_one_line() -> None:
    named = [name for rows in GROUPS.values() for name in rows]
    assert set(COMMANDS) <= set(named)
    assert len(named) == len(set(named))
    done = CliRunner().invoke(cli, ["--help"])
    for title, rows in GROUPS.items():
        assert f"\n{title}:\n" in done.output
        for name, line in rows.items():
            assert (f"  {name} " in done.output and line in done.output) is (name in COMMANDS)
    assert max(map(len, done.output.splitlines())) <= COLUMNS


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["stauts"], "status"),
        (["help", "setings"], "settings"),
        (["status", "--jsno"], "--json"),
        (["status", "--state-dri", "x"], "--state-dir"),
        (["events", "--type", "turn.stared"], "turn.started"),
    ],
)
def test_who_errs_is_asked_what_was_meant(
    args: list[str], meant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    err = capfd.readouterr().err
    assert f"Did you mean {meant}?" in err
    assert err.count("\n") == 1


def test_what_is_like_nothing_is_not_guessed_at(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["xyzzy"])
    assert "Did you mean" not in capfd.readouterr().err


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("topic", TOPICS)
def test_each_topic_has_a_page(topic: str) -> None:
    done = CliRunner().invoke(cli, ["help", topic])
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= COLUMNS


def test_the_man_page_names_all_and_is_good_roff() -> None:
    page = man_page()
    for name in COMMANDS:
        assert f".SS codexd {name}".replace("-", "\\-") in page
    assert all(ord(char) >= 32 or char == "\n" for char in page)
    # What is shown as it is, behind man's margin of 7 columns.
    shown = re.findall(r"\.nf\n(.*?)\.fi", page.replace("\\", ""), re.DOTALL)
    assert shown
    assert all(len(line) <= 80 - 7 for text in shown for line in text.splitlines())
    man = shutil.which("mandoc") or shutil.which("groff")
    if man is None:
        pytest.skip("neither mandoc nor groff is installed")
    check = ["-T", "lint", "-W", "error"] if man.endswith("mandoc") else ["-man", "-ww", "-z"]
    done = subprocess.run([man, *check], input=page, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository whose daemon has run and left two sessions; nothing runs."""
    state = tmp_path / "state" / "codexd"
    state.mkdir(parents=True)
    (state / "identity.json").write_text("{}")
    sessions = [
        {
            "sessionId": f"session-{number}",
            "purpose": "worker",
            "threadId": f"thread-{number}" if number else None,
            "status": "active",
            "endpoint": "stdio://x",
            "createdAt": f"2026-01-01T00:00:0{number}.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
        }
        for number in range(3)
    ]
    (state / "session-registry.json").write_text(json.dumps({"sessions": sessions}))
    return tmp_path


def completed(repo: Path, *words: str) -> list[str]:
    """What bash would be offered for the last of ``words``."""
    told = {VARIABLE: "bash_complete", "COMP_WORDS": " ".join(["codexd", *words])}
    env = {**_clean(), **told, "COMP_CWORD": str(len(words)), "HOME": str(repo)}
    done = subprocess.run(
        [sys.executable, "-m", "codexd"], env=env, cwd=repo, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BAA_")}


def test_words_are_completed(repo: Path) -> None:
    assert completed(repo, "st") == ["start", "stop", "status"]
    assert set(COMMANDS) <= set(completed(repo, ""))
    assert "--check" in completed(repo, "status", "--c")
    assert "--state-dir" in completed(repo, "status", "--state")
    assert completed(repo, "events", "--type", "turn.") == [t for t in TYPES if t[:5] == "turn."]
    assert completed(repo, "completion", "") == list(SHELLS)
    assert "settings" in completed(repo, "help", "s")
    assert "status" in completed(repo, "--state-dir", "x", "sta")
    assert completed(repo, "sessions", "s") == ["show"]
    assert completed(repo, "sessions", "show", "session-1") == ["session-1"]
    assert completed(repo, "run", "--thread", "thread-") == ["thread-2", "thread-1"]


@pytest.mark.parametrize(
    "words", [("nonsense", ""), ("status", "--nonsense", ""), ("events", "--since", "x", "--ty")]
)
def test_a_line_that_is_wrong_completes_quietly(repo: Path, words: tuple[str, ...]) -> None:
    completed(repo, *words)


def test_ids_come_from_the_files_of_the_daemon_that_is_meant(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codexd.cli.completing import SessionIds, ThreadIds

    monkeypatch.chdir(repo)
    monkeypatch.setenv("HOME", str(repo))
    ctx = click.Context(cli)
    assert [word for word, _ in SessionIds().words(ctx)] == [f"session-{n}" for n in (2, 1, 0)]
    assert [word for word, _ in ThreadIds().words(ctx)] == ["thread-2", "thread-1"]
    ctx.params["state_dir"] = str(repo / "elsewhere")
    assert SessionIds().words(ctx) == []
    # What cannot be used is no reason to say anything.
    ctx.params["event_cache_size"] = "many"
    assert SessionIds().words(ctx) == []


def test_what_a_command_calls_an_id_is_completed_as_one(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    monkeypatch.setenv("HOME", str(repo))
    show = click.Command("show", params=[click.Argument(["session_id"])])
    thread, other = click.Option(["--thread"]), click.Option(["--other"])
    nouns = click.Group("nouns", {"show": show}, params=[thread, other])
    root = click.Group("x", {"nouns": with_ids(nouns)})
    complete = BashComplete(root, {}, "x", VARIABLE).get_completions
    assert [item.value for item in complete(["nouns", "show"], "")] == [
        f"session-{number}" for number in (2, 1, 0)
    ]
    assert [item.value for item in complete(["nouns", "--thread"], "thread-2")] == ["thread-2"]
    assert complete(["nouns", "--other"], "thread") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_script(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert VARIABLE in done.output


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_itself_completes(repo: Path) -> None:
    """The real bash, with the script that is printed, on a line as if Tab was pressed."""
    line = """
eval "$(codexd completion bash)"
COMP_WORDS=(codexd status --chec) COMP_CWORD=2
$(complete -p codexd | sed 's/.*-F \\([^ ]*\\).*/\\1/') codexd
printf '%s\\n' "${COMPREPLY[@]}"
"""
    there = repo / "bin"
    there.mkdir()
    (there / "codexd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m codexd "$@"\n')
    (there / "codexd").chmod(0o755)
    env = {**_clean(), "PATH": f"{there}:{os.environ['PATH']}", "HOME": str(repo)}
    command = ["bash", "--norc", "-c", line]
    done = subprocess.run(command, env=env, cwd=repo, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("--check\n", "")
