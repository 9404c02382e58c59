"""The systemd unit, read by a small reader of our own.

tests/integration/test_ops_systemd.py has systemd itself read one.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings

from codexd.config import Config, resolve
from codexd.rendering import CannotRender, render_systemd
from tests.support.nasty import configs, texts

HOME = "/home/someone"
DEFAULT = resolve({}, {}, cwd="/repo")
PROGRAM = ["/opt/codexd"]


def parse(unit: str) -> dict[str, list[str]]:
    """Every value of each name, as systemd.syntax(7) has it."""
    found: dict[str, list[str]] = {}
    for line in unit.split("\n"):
        assert not line.endswith("\\")
        if not line.strip() or line.lstrip()[0] in "#;[":
            continue
        name, value = line.split("=", 1)
        found.setdefault(name.strip(), []).append(value.strip())
    return found


ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}


def unquote(text: str) -> list[str]:
    """Words in double quotes, as systemd unquotes them; specifiers resolved."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"(?: |$)', text)
    assert " ".join(f'"{word}"' for word in words) == text
    unescaped = [re.sub(r"\\(.)", lambda found: ESCAPES[found[1]], word) for word in words]
    return [_specifiers(word) for word in unescaped]


def _specifiers(text: str) -> str:
    assert not re.search(r"(?<!%)(%%)*%(?!%)", text)
    return text.replace("%%", "%")


def environment(unit: dict[str, list[str]]) -> dict[str, str]:
    """The variables that the service gets."""
    words = [word for line in unit["Environment"] for word in unquote(line)]
    return dict(word.split("=", 1) for word in words)


def test_the_default() -> None:
    unit = parse(render_systemd(DEFAULT, home=HOME, program=PROGRAM))
    variables = environment(unit)
    del unit["Environment"]
    assert {name: value for name, (value,) in unit.items()} == {
        "Description": "codexd, a supervisor for codex app-server",
        "StartLimitIntervalSec": "0",
        "Type": "notify",
        "NotifyAccess": "main",
        "TimeoutStartSec": "90",
        "WatchdogSec": "30",
        "WatchdogSignal": "SIGKILL",
        "ExecStart": ':"/opt/codexd" "start"',
        "WorkingDirectory": "/repo",
        "Restart": "on-failure",
        "RestartPreventExitStatus": "2",
        "RestartSec": "2",
        "KillMode": "mixed",
        "TimeoutStopSec": "45",
        "OOMPolicy": "continue",
        "LimitNOFILE": "65536",
        "EnvironmentFile": "-%E/codexd/environment",
        "WantedBy": "default.target",
    }
    assert variables["PATH"] == (
        "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/home/someone/.local/bin:/home/someone/bin"
    )
    assert variables["BAA_STATE_DIR"] == "/repo/state"
    assert variables["BAA_CODEXD_SERVER_ARGS"] == "app-server"


def test_more_of_the_environment_is_taken_and_the_settings_win() -> None:
    kept = {"CODEX_HOME": "/data/50% codex", "BAA_NODE_ID": "stray"}
    variables = environment(parse(render_systemd(DEFAULT, home=HOME, program=PROGRAM, kept=kept)))
    assert variables["CODEX_HOME"] == "/data/50% codex"
    assert variables["BAA_NODE_ID"] == "mini-main"


def test_the_umask_is_the_one_that_was_given() -> None:
    unit = parse(render_systemd(DEFAULT, home=HOME, program=PROGRAM, umask=0o02))
    assert unit["UMask"] == ["0002"]


def test_no_wish_for_open_files_is_no_limit_of_none() -> None:
    config = resolve({"child_nofile": "0"}, {}, cwd="/repo")
    assert "LimitNOFILE" not in parse(render_systemd(config, home=HOME, program=PROGRAM))


@settings(max_examples=60)
@given(configs("\n", "\u2028"))
def test_any_configuration_is_read_back_from_the_service(config: Config) -> None:
    try:
        unit = parse(render_systemd(config, home=HOME, program=PROGRAM))
    except CannotRender as error:
        assert "--repo-root" in str(error)  # noqa: PT017 - what the directory cannot hold
        assert re.search("[\n\t]", config.paths.repo_root)
        return
    assert resolve({}, environment(unit), cwd="/elsewhere") == config
    (directory,) = unit["WorkingDirectory"]
    assert os.path.normpath(_specifiers(directory)) == config.paths.repo_root


@settings(max_examples=60)
@given(texts("\n"), texts("\n"))
def test_any_program_is_written_that_systemd_can_run(path: str, word: str) -> None:
    program = [f"/{path}", word]
    assume(not re.search("[\"'\\\\\n\t]", path))
    (line,) = parse(render_systemd(DEFAULT, home=HOME, program=program))["ExecStart"]
    assert line.startswith(":")
    assert unquote(line[1:]) == [*program, "start"]


@pytest.mark.parametrize(
    ("flags", "program", "message"),
    [
        ({"node_id": "a\x01b"}, PROGRAM, "BAA_NODE_ID .* it holds the character U\\+0001"),
        ({"node_id": "a\rb"}, PROGRAM, "BAA_NODE_ID .* U\\+000D"),
        ({"server_cwd": "/\udcff"}, PROGRAM, "BAA_CODEXD_SERVER_CWD .* not UTF-8"),
        ({}, ["/it's"], "--program .* it holds '"),
        ({}, ["/a\\b"], "--program"),
        ({"repo_root": "/a\nb"}, PROGRAM, "--repo-root"),
    ],
)
def test_what_a_unit_cannot_hold_is_named(
    flags: dict[str, Any], program: list[str], message: str
) -> None:
    with pytest.raises(CannotRender, match=message) as caught:
        render_systemd(resolve(flags, {}, cwd="/"), home=HOME, program=program)
    assert "\n" not in str(caught.value)


def test_unquote_reads_what_systemd_documents() -> None:
    assert unquote(r'"a b" "c\"d" "e\\f" "g\nh" "100%%"') == ["a b", 'c"d', "e\\f", "g\nh", "100%"]
    with pytest.raises(AssertionError):
        unquote('"50%"')
    with pytest.raises(AssertionError):
        unquote('"a" b')


def test_no_limit_of_open_files_is_set_where_the_starters_is_to_stay() -> None:
    unit = parse(render_systemd(resolve({"child_nofile": "0"}, {}, cwd="/repo"), home="/home/u"))
    assert "LimitNOFILE" not in unit
