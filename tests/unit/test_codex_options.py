"""Finding `app-server` in a command line of codex."""

from __future__ import annotations

import pytest

from codexd.cli.codex_options import command_index, split_app_server


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["app-server"], "app-server"),
        (["-c", "a=b", "app-server"], "app-server"),
        (["-c", "app-server", "exec"], "exec"),
        (
            ["-m", "gpt-5", "-s", "read-only", "-a", "never", "-C", "/tmp", "app-server"],
            "app-server",
        ),
        (["--model=gpt-5", "-mgpt-5", "--oss", "app-server"], "app-server"),
        (
            ["--enable", "x", "--disable", "y", "-p", "z", "app-server", "--listen", "off"],
            "app-server",
        ),
        (["-i", "a.png", "app-server"], None),
        (["-i", "a.png", "b.png", "--oss", "app-server"], "app-server"),
        (["--", "app-server"], None),
        (["explain the app-server"], "explain the app-server"),
        (["exec", "app-server"], "exec"),
        (["--version"], None),
        (["-m"], None),
        ([], None),
    ],
)
def test_the_subcommand_is_found(args: list[str], command: str | None) -> None:
    index = command_index(args)
    assert (None if index is None else args[index]) == command


@pytest.mark.parametrize(
    ("args", "listening", "rest", "is_for_codex"),
    [
        ([], [], [], False),
        (["--listen", "stdio://", "--stdio"], ["--listen", "stdio://"], [], False),
        (
            ["--listen=ws://127.0.0.1:0", "-c", "daemon"],
            ["--listen=ws://127.0.0.1:0"],
            ["-c", "daemon"],
            False,
        ),
        (["--listen"], ["--listen"], [], False),
        (["-c"], [], ["-c"], False),
        (
            ["--ws-issuer", "help", "--strict-config", "--ws-auth=capability-token"],
            ["--ws-issuer", "help", "--ws-auth=capability-token"],
            ["--strict-config"],
            False,
        ),
        (["--code-mode-host", "help"], [], ["--code-mode-host", "help"], False),
        (["-c", "a=b", "daemon", "start"], [], ["-c", "a=b", "daemon", "start"], False),
        (["proxy", "--sock", "help"], [], ["proxy", "--sock", "help"], True),
        (["daemon", "start", "--help"], [], ["daemon", "start", "--help"], True),
        (["generate-json-schema", "--out", "x"], [], [], True),
        (["--help"], [], [], True),
    ],
)
def test_what_follows_app_server_is_taken_apart(
    args: list[str], listening: list[str], rest: list[str], is_for_codex: bool
) -> None:
    assert split_app_server(args) == (listening, rest, is_for_codex)
