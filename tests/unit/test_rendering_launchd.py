"""The launchd property list, read by plistlib."""

from __future__ import annotations

import plistlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.config import Config, resolve
from codexd.rendering import CannotRender, render_plist
from tests.support.nasty import LINE_BREAKS, configs, texts

HOME = "/Users/someone"
DEFAULT = resolve({}, {}, cwd="/repo")


def parse(config: Config, **options: Any) -> dict[str, Any]:
    """The rendered property list as launchd sees it."""
    text = render_plist(config, **{"home": HOME, "program": ["/opt/codexd"], **options})
    parsed: dict[str, Any] = plistlib.loads(text.encode())
    return parsed


def test_the_default_is_that_of_the_contract() -> None:
    assert parse(DEFAULT) == {
        "Label": "so.makefile.baa-codexd",
        "WorkingDirectory": "/repo",
        "EnvironmentVariables": {
            "PATH": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:"
            "/Users/someone/.local/bin:/Users/someone/bin",
            "HOME": "/Users/someone",
            "LANG": "en_US.UTF-8",
            "LC_ALL": "en_US.UTF-8",
            "BAA_NODE_ID": "mini-main",
            "BAA_LOGS_DIR": "/repo/logs",
            "BAA_STATE_DIR": "/repo/state",
            "BAA_CODEXD_MODE": "app-server",
            "BAA_CODEXD_SERVER_STRATEGY": "spawn",
            "BAA_CODEXD_SERVER_COMMAND": "codex",
            "BAA_CODEXD_SERVER_ARGS": "app-server",
            "BAA_CODEXD_SERVER_CWD": "/repo",
            "BAA_CODEXD_SERVER_ENDPOINT": "stdio://codex-app-server",
            "BAA_CODEXD_EVENT_CACHE_SIZE": "50",
            "BAA_CODEXD_SMOKE_LIFETIME_MS": "100",
            "BAA_CODEXD_REPO_ROOT": "/repo",
        },
        "ProgramArguments": ["/opt/codexd", "start"],
        "ProcessType": "Background",
        "SoftResourceLimits": {"NumberOfFiles": 10_240},
        "HardResourceLimits": {"NumberOfFiles": 10_240},
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 10,
        "ExitTimeOut": 45,
        "StandardOutPath": "/repo/logs/launchd/so.makefile.baa-codexd.out.log",
        "StandardErrorPath": "/repo/logs/launchd/so.makefile.baa-codexd.err.log",
    }


def test_the_codexd_that_runs_now_is_the_default_program() -> None:
    *program, subcommand = parse(DEFAULT, program=None)["ProgramArguments"]
    assert subcommand == "start"
    assert program[-1].split("/")[-1] == "codexd"
    assert program[0].startswith("/")


def test_more_of_the_environment_is_taken_and_the_settings_win() -> None:
    kept = {"CODEX_HOME": "/data/codex <1>", "BAA_NODE_ID": "stray"}
    environment = parse(DEFAULT, kept=kept)["EnvironmentVariables"]
    assert environment["CODEX_HOME"] == "/data/codex <1>"
    assert environment["BAA_NODE_ID"] == "mini-main"
    with pytest.raises(CannotRender, match="CODEX_HOME"):
        parse(DEFAULT, kept={"CODEX_HOME": "/a\x01"})


@pytest.mark.parametrize("process_type", ["Standard", "Adaptive", "Interactive"])
def test_the_process_type_can_be_chosen(process_type: str) -> None:
    assert parse(DEFAULT, process_type=process_type)["ProcessType"] == process_type


def test_the_umask_is_written_as_launchd_reads_it() -> None:
    assert "Umask" not in parse(DEFAULT)
    assert parse(DEFAULT, umask=0o022)["Umask"] == 18
    assert parse(DEFAULT, umask=0)["Umask"] == 0


@pytest.mark.parametrize(("wanted", "written"), [("500", 500), ("1000000", 10_240)])
def test_open_files_are_as_many_as_macos_grants(wanted: str, written: int) -> None:
    parsed = parse(resolve({"child_nofile": wanted}, {}, cwd="/"))
    assert parsed["SoftResourceLimits"] == {"NumberOfFiles": written}
    assert parsed["HardResourceLimits"] == {"NumberOfFiles": written}


def test_no_wish_for_open_files_is_no_limit_of_none() -> None:
    parsed = parse(resolve({"child_nofile": "0"}, {}, cwd="/"))
    assert not {"SoftResourceLimits", "HardResourceLimits"} & set(parsed)


def test_label_and_home_are_taken() -> None:
    parsed = parse(DEFAULT, label="org.example <a&b>", home="/Users/é")
    assert parsed["Label"] == "org.example <a&b>"
    assert parsed["StandardErrorPath"] == "/repo/logs/launchd/org.example <a&b>.err.log"
    assert parsed["EnvironmentVariables"]["HOME"] == "/Users/é"
    assert parsed["EnvironmentVariables"]["PATH"].endswith(":/Users/é/.local/bin:/Users/é/bin")


@settings(max_examples=60)
@given(configs(*LINE_BREAKS))
def test_any_configuration_is_read_back_from_the_service(config: Config) -> None:
    parsed = parse(config)
    assert resolve({}, parsed["EnvironmentVariables"], cwd="/elsewhere") == config
    assert parsed["WorkingDirectory"] == config.paths.repo_root
    assert parsed["ExitTimeOut"] >= config.policy.stop_timeout_ms / 1000 + 15


@settings(max_examples=60)
@given(st.lists(texts(*LINE_BREAKS), min_size=1, max_size=3))
def test_any_program_is_written(words: list[str]) -> None:
    assert parse(DEFAULT, program=words)["ProgramArguments"] == [*words, "start"]


def test_settings_of_ours_are_written_where_they_are_not_the_default() -> None:
    config = resolve({"log_backups": "9", "hub_default_socket": "yes"}, {}, cwd="/repo")
    environment = parse(config)["EnvironmentVariables"]
    assert environment["BAA_CODEXD_LOG_BACKUPS"] == "9"
    assert environment["BAA_CODEXD_HUB_DEFAULT_SOCKET"] == "true"
    assert "BAA_CODEXD_LOG_MAX_BYTES" not in environment


def test_the_restart_policy_of_exec_is_a_default_too() -> None:
    environment = parse(resolve({"mode": "exec"}, {}, cwd="/"))["EnvironmentVariables"]
    assert "BAA_CODEXD_RESTART" not in environment


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["app-server"], "app-server"),
        (["app-server", "--listen", "unix:///a"], "app-server --listen unix:///a"),
        (["-c", 'model="o3"'], '-c model="o3"'),
        (["two words"], '["two words"]'),
        (["[a]"], '["[a]"]'),
        ([""], '[""]'),
        ([], "[]"),
        (["\x01", "\udc80"], r'["\u0001", "\udc80"]'),
    ],
)
def test_arguments_are_words_where_words_will_do(args: list[str], text: str) -> None:
    config = resolve({"server_args": args} if args else {}, {} if args else NONE, cwd="/")
    assert config.server.child_args == args
    assert parse(config)["EnvironmentVariables"]["BAA_CODEXD_SERVER_ARGS"] == text


NONE = {"BAA_CODEXD_SERVER_ARGS": "[]"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"node_id": "a\x01b"}, "BAA_NODE_ID .* it holds the character U\\+0001"),
        ({"server_command": "/\udcff"}, "BAA_CODEXD_SERVER_COMMAND .* a byte that is not UTF-8"),
        ({"repo_root": "/a\x1b"}, "--repo-root"),
        ({"logs_dir": "/\ufffe"}, "BAA_LOGS_DIR|--logs-dir"),
    ],
)
def test_what_xml_cannot_hold_is_named(flags: dict[str, str], message: str) -> None:
    with pytest.raises(CannotRender, match=message) as caught:
        parse(resolve(flags, {}, cwd="/"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["", " ", "a/b"])
def test_a_label_that_is_no_file_name_is_refused(label: str) -> None:
    with pytest.raises(CannotRender, match="--label"):
        parse(DEFAULT, label=label)
