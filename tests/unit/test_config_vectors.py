"""The reference's resolved configurations, kept in tests/support/config_vectors.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexd.config import format_text, resolve, setting_texts
from codexd.settings import SETTINGS, SettingError

VECTORS = json.loads(
    (Path(__file__).parent.parent / "support" / "config_vectors.json").read_text("utf-8")
)
BY_FLAG = {setting.flag: setting for setting in SETTINGS}


def _flags(argv: list[str]) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for flag, value in zip(argv[::2], argv[1::2], strict=True):
        setting = BY_FLAG[flag]
        if setting.repeated:
            flags[setting.name] = (*flags.get(setting.name, ()), value)
        else:
            flags[setting.name] = value
    return flags


def _fill(value: Any, cwd: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(entry, cwd) for key, entry in value.items()}
    if isinstance(value, list):
        return [_fill(entry, cwd) for entry in value]
    return value.replace("{cwd}", cwd) if isinstance(value, str) else value


def _contains(actual: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(_contains(actual[key], entry) for key, entry in wanted.items())
    return bool(actual == wanted)


@pytest.mark.parametrize("vector", VECTORS["ok"])
def test_resolves_as_the_reference(vector: dict[str, Any]) -> None:
    config = resolve(_flags(vector["argv"]), vector["env"], cwd="/here")
    assert _contains(msgspec.to_builtins(config), _fill(vector["config"], "/here"))
    assert format_text(config) == _fill(vector["text"], "/here")


@pytest.mark.parametrize("vector", VECTORS["ok"])
def test_setting_texts_resolve_to_the_same_configuration(vector: dict[str, Any]) -> None:
    config = resolve(_flags(vector["argv"]), vector["env"], cwd="/here")
    texts = setting_texts(config)
    environ = {setting.env[0]: texts[setting.name] for setting in SETTINGS}
    assert resolve({}, environ, cwd="/elsewhere") == config


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS["bad"] if len(vector["argv"]) % 2 == 0]
)
def test_bad_values_are_named_in_one_line(vector: dict[str, Any]) -> None:
    value = [*vector["env"].values(), vector["argv"][-1]][0]
    with pytest.raises(SettingError) as caught:
        resolve(_flags(vector["argv"]), vector["env"], cwd="/here")
    assert value in str(caught.value)
    assert "\n" not in str(caught.value)


def test_blank_counts_as_unset() -> None:
    environ = {"BAA_CODEXD_LOGS_DIR": " ", "BAA_LOGS_DIR": "/l", "BAA_NODE_ID": "\t"}
    config = resolve({"mode": "  "}, environ, cwd="/here")
    assert config.paths.logs_root_dir == "/l"
    assert config.node_id == "mini-main"
    assert config.server.mode == "app-server"


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), (" 7 ", 7), ("1e2", 100), ("0x10", 16), ("7.0", 7), ("+3", 3)]
)
def test_integers_as_the_reference_spelt_them(text: str, value: int) -> None:
    assert resolve({"event_cache_size": text}, {}, cwd="/").event_cache_size == value


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "1_000", "Infinity", "NaN", "١", "9" * 5000])
def test_other_integers_are_refused(text: str) -> None:
    with pytest.raises(SettingError):
        resolve({"event_cache_size": text}, {}, cwd="/")


def test_a_state_directory_too_long_for_a_socket_gets_a_short_runtime_directory() -> None:
    config = resolve({"state_dir": "/s" * 80}, {}, cwd="/", uid=7)
    assert config.runtime.runtime_dir.startswith("/tmp/codexd-7/")
    assert len(config.runtime.circus_pubsub_endpoint) < 103
    assert config.runtime.lock_path == "/s" * 80 + "/codexd/daemon.lock"


def test_json_arguments_keep_what_words_cannot() -> None:
    environ = {"BAA_CODEXD_SERVER_ARGS": '["a b", "", "c\\nd"]'}
    assert resolve({}, environ, cwd="/").server.child_args == ["a b", "", "c\nd"]
    with pytest.raises(SettingError, match="JSON array"):
        resolve({}, {"BAA_CODEXD_SERVER_ARGS": '["a", 1]'}, cwd="/")
