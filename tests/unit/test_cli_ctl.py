"""`codexd ctl`: no prompt, and a question before what cannot be undone."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from circus import circusctl
from click.testing import CliRunner

from codexd.circus_ext.circusctl import main as circusctl_main
from codexd.cli import ctl as module
from codexd.cli.main import cli


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What circusctl was run with."""
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, words: calls.append(words[words.index("-c") :]))
    monkeypatch.setattr(module, "running_daemon", lambda _config: None)
    return calls


def run(*words: str, said: str | None = None, monkeypatch: Any = None) -> Any:
    if said is not None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    return CliRunner().invoke(cli, ["ctl", *words], input=said)


@pytest.mark.parametrize("words", [(), ("--json",), ("--timeout", "5"), ("help",)])
def test_without_a_command_it_is_the_help_and_no_prompt(
    executed: list[list[str]], words: tuple[str, ...]
) -> None:
    run(*words)
    assert executed[0][-1] == "--help"


@pytest.mark.parametrize("words", [("quit",), ("rm", "codex-app-server"), ("status",)])
def test_not_on_a_terminal_nothing_is_asked(
    executed: list[list[str]], words: tuple[str, ...]
) -> None:
    assert not sys.stdin.isatty()
    assert run(*words).exit_code == 0
    assert tuple(executed[0][-len(words) :]) == words


@pytest.mark.parametrize("command", ["quit", "rm"])
@pytest.mark.parametrize("said", ["n\n", "\n", ""])
def test_on_a_terminal_what_ends_things_for_good_is_asked_about(
    executed: list[list[str]], monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    result = run(command, said=said, monkeypatch=monkeypatch)
    assert result.exit_code != 0
    assert f"`{command}` " in result.output
    assert executed == []


def test_a_yes_is_taken_said_or_given(
    executed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("quit", said="y\n", monkeypatch=monkeypatch).exit_code == 0
    assert run("--yes", "quit", said="", monkeypatch=monkeypatch).exit_code == 0
    assert run("status", said="", monkeypatch=monkeypatch).exit_code == 0
    assert [words[-1] for words in executed] == ["quit", "quit", "status"]


@pytest.mark.parametrize(
    "words",
    [
        ("set", "codex-app-server", "graceful_timeout", "x"),
        ("set", "codex-app-server", "numprocesses", "x"),
        ("set", "codex-app-server"),
        ("get",),
    ],
)
def test_what_circusctl_cannot_use_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(circusctl, "ControllerApp", circusctl.ControllerApp)
    monkeypatch.setattr(sys, "argv", ["circusctl", "--endpoint", "ipc:///nowhere", *words])
    with pytest.raises(SystemExit) as ended:
        circusctl_main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err.count("\n") == 1
    assert words[0] in said.err
