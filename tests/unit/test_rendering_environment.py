"""What of a shell's environment a service gets, and what it must not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codexd.rendering import kept_variables, secret_names


def test_paths_are_made_absolute_and_blank_ones_are_unset() -> None:
    environ = {"CODEX_HOME": "mine", "SSL_CERT_FILE": "/etc/ca.pem", "XDG_STATE_HOME": " "}
    kept = kept_variables(environ, cwd="/work")
    assert kept == {"CODEX_HOME": "/work/mine", "SSL_CERT_FILE": "/etc/ca.pem"}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "OPENAI_BASE_URL"])
@pytest.mark.parametrize("url", ["http://u:p@h:1", "u:p@h", "http://u:p@[h:1"])
def test_a_url_with_a_password_is_a_secret(name: str, url: str) -> None:
    assert kept_variables({name: url}, cwd="/") == {}
    assert secret_names({name: url}, cwd="/") == [name]


@pytest.mark.parametrize("url", ["http://proxy:3128", "proxy:3128", "http://user@proxy"])
def test_a_url_without_one_goes_along(url: str) -> None:
    assert kept_variables({"HTTPS_PROXY": url}, cwd="/") == {"HTTPS_PROXY": url}
    assert secret_names({"HTTPS_PROXY": url}, cwd="/") == []


def test_secrets_are_those_that_are_set() -> None:
    environ = {"OPENAI_API_KEY": "sk", "CODEX_API_KEY": "", "HOME": "/nowhere"}
    assert secret_names(environ, cwd="/") == ["OPENAI_API_KEY"]


def test_what_the_configuration_of_codex_names_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        "[model_providers.mine]\nenv_key = 'MY_KEY'\nenv_http_headers = {X = 'MY_HEADER'}\n"
        "[mcp_servers.a]\nbearer_token_env_var = 'A_TOKEN'\nenv_vars = ['B_TOKEN', 3, 'PATH']\n"
        "[mcp_servers.b]\nenv_vars = ['NO_PROXY', 'NOT_SET']\n"
    )
    wanted = ["MY_KEY", "MY_HEADER", "A_TOKEN", "B_TOKEN"]
    environ = dict.fromkeys([*wanted, "NO_PROXY", "PATH"], "value")
    assert secret_names({**environ, "CODEX_HOME": str(tmp_path)}, cwd="/") == wanted


@pytest.mark.parametrize("kind", ["no TOML", "a pipe", "a directory"])
def test_a_broken_configuration_of_codex_is_not_for_us_to_tell(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.toml"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff[[[")
    assert secret_names({"CODEX_HOME": str(tmp_path)}, cwd="/") == []
