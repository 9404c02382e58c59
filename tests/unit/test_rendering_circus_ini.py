"""circus.ini, read by circus itself."""

from __future__ import annotations

import argparse
import inspect
import os
import shlex
import signal
import tempfile
from collections.abc import Mapping
from typing import Any

import pytest
from circus import plugins
from circus.config import get_config
from circus.util import replace_gnu_args
from circus.watcher import Watcher
from hypothesis import given, settings

from codexd import settings_ini
from codexd.config import Config, resolve
from codexd.rendering import CannotRender, render_circus_ini
from codexd.settings import SETTINGS, Setting, SettingError
from codexd.settings_ini import read_plugin_settings
from tests.support.nasty import LINE_BREAKS, ODD, configs, texts

DEFAULT = resolve({}, {}, cwd="/repo")


def parse(ini: str) -> dict[str, Any]:
    """The ini as circus reads it."""
    with tempfile.NamedTemporaryFile("w", suffix=".ini", encoding="utf-8") as file:
        file.write(ini)
        file.flush()
        parsed: dict[str, Any] = get_config(file.name)
    return parsed


def plugin_argv(parsed: Mapping[str, Any]) -> list[str]:
    """The plugin's arguments as the arbiter makes them."""
    (plugin,) = parsed["plugins"]
    section = dict(plugin)
    section["use"] = "circus.plugins.CircusPlugin"  # ours need not be importable here
    cmd = plugins.get_plugin_cmd(
        section,
        parsed["endpoint"],
        parsed["pubsub_endpoint"],
        parsed["check_delay"],
        None,
        loglevel=parsed["loglevel"],
    )
    # As Watcher and Process treat the command of any watcher.
    return shlex.split(replace_gnu_args(plugin.get("cmd", cmd), env=dict(os.environ)))


def plugin_options(argv: list[str]) -> dict[str, str]:
    """What the plugin is given as its configuration, as circus.plugins.main reads it."""
    parser = argparse.ArgumentParser()
    for option in ("--endpoint", "--pubsub", "--config", "--log-level", "-c"):
        parser.add_argument(option)
    parser.add_argument("words", nargs="*")
    options: dict[str, str] = plugins._str2cfg(parser.parse_args(argv[1:]).config)
    return options


@settings(max_examples=80)
@given(configs(*LINE_BREAKS, *ODD))
def test_settings_come_through_circus_unchanged(config: Config) -> None:
    argv = plugin_argv(parse(render_circus_ini(config)))
    assert read_plugin_settings(plugin_options(argv)) == config


@settings(max_examples=40)
@given(configs(*LINE_BREAKS, *ODD))
def test_the_plugin_that_is_started_early_is_the_one_that_circus_starts(config: Config) -> None:
    by_circus = plugin_argv(parse(render_circus_ini(config)))
    by_codexd = settings_ini.plugin_argv(config)
    assert by_codexd[:-1] == by_circus[:-1]
    assert by_codexd[-1] == parse(render_circus_ini(config))["plugins"][0]["use"]


@settings(max_examples=60)
@given(texts())
def test_any_interpreter_path_in_one_line_is_run(text: str) -> None:
    python = f"/my bin/{text}".replace("\t", " ")
    ini = parse(render_circus_ini(DEFAULT, python=python))
    argv = plugin_argv(ini)
    assert argv[0] == python
    assert read_plugin_settings(plugin_options(argv)) == DEFAULT


def test_the_command_for_an_odd_interpreter_is_that_of_circus() -> None:
    usual = plugin_argv(parse(render_circus_ini(DEFAULT, python="/usr/bin/python3")))
    odd = plugin_argv(parse(render_circus_ini(DEFAULT, python="/my bin/python3")))
    # Circus puts the interpreter of this suite first, in as many words as its path has.
    usual = usual[usual.index("-c") - 1 :]
    config = usual.index("--config") + 1
    usual[config], odd[config] = "", ""  # it adds a few options of its own, too
    assert odd[1:-1] == usual[1:-1]


def test_an_interpreter_path_with_a_newline_is_refused() -> None:
    with pytest.raises(CannotRender, match="path of the interpreter"):
        render_circus_ini(DEFAULT, python="/a\nb/python")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_no_setting_is_taken_for_an_option_of_circus(setting: Setting) -> None:
    taken = set(inspect.signature(Watcher.__init__).parameters)
    taken |= set(inspect.signature(plugins.CircusPlugin.__init__).parameters) | {"active", "use"}
    assert settings_ini._option(setting.name) not in taken


def test_circus_gets_what_the_design_says() -> None:
    config = resolve({"stop_timeout_ms": "1500"}, {}, cwd="/repo")
    parsed = parse(render_circus_ini(config))
    assert parsed["endpoint"] == "ipc:///repo/state/codexd/run/circus.sock"
    assert parsed["pubsub_endpoint"] == "ipc:///repo/state/codexd/run/events.sock"
    assert parsed["multicast_endpoint"] == ""
    # The server keeps the umask and the limits of whoever started the daemon.
    assert parsed["umask"] is None
    (watcher,) = parsed["watchers"]
    assert watcher["name"] == "codex-app-server"
    assert watcher["hooks"] == {"before_start": ["codexd.circus_ext.hooks.before_start", False]}
    assert watcher["graceful_timeout"] == 1.5
    assert watcher["stop_signal"] == signal.SIGTERM
    assert watcher["rlimits"] == {}
    assert watcher["close_child_stdin"] is False
    (plugin,) = parsed["plugins"]
    assert plugin["name"] == "plugin:codexd"
    assert plugin["use"] == "codexd.circus_ext.plugin.CodexdPlugin"
    assert float(plugin["graceful_timeout"]) == 11.5
    assert plugin["working_dir"] == "/"
    # The plugin starts first and is there when the child comes up.
    assert plugin["priority"] > watcher["priority"]


def test_an_external_server_has_no_watcher() -> None:
    config = resolve({"server_strategy": "external"}, {}, cwd="/repo")
    assert parse(render_circus_ini(config))["watchers"] == []


def test_a_setting_edited_into_nonsense_is_named() -> None:
    with pytest.raises(SettingError, match="BAA_CODEXD_LOG_BACKUPS"):
        read_plugin_settings({"log-backups": "many"})
