from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.cli.overrides import CannotGive, read_overrides


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["-c", 'model="o3"'], {"model": "o3"}),
        (["-c", "model=o3"], {"model": "o3"}),
        (["-c", "model='o3"], {"model": "o3"}),
        (["-cmodel=o3"], {"model": "o3"}),
        (["-c=model=o3"], {"model": "o3"}),
        (["--config=a.b=[1, 2]"], {"a.b": [1, 2]}),
        (["-c", "a={b=true}"], {"a": {"b": True}}),
        (["-c", "a=1979-05-27"], {"a": "1979-05-27"}),
        (["--enable", "x", "--disable=y"], {"features.x": True, "features.y": False}),
        (["-m", "o3", "-s", "read-only"], {"model": "o3", "sandbox_mode": "read-only"}),
        (["--ask-for-approval", "never"], {"approval_policy": "never"}),
        (
            ["--add-dir", "/a", "--add-dir=/b"],
            {"sandbox_workspace_write.writable_roots": ["/a", "/b"]},
        ),
        (
            ["--dangerously-bypass-approvals-and-sandbox"],
            {"approval_policy": "never", "sandbox_mode": "danger-full-access"},
        ),
        (["--analytics-default-enabled", "--no-alt-screen"], {}),
    ],
)
def test_options_become_config_of_threads(words: list[str], config: dict[str, Any]) -> None:
    assert read_overrides(words).config == config


def test_a_directory_and_what_is_no_option_are_told_apart() -> None:
    overrides = read_overrides(["-C", "/w", "daemon", "-c", "a=1"])
    assert (overrides.cwd, overrides.rest, overrides.config) == ("/w", ["daemon"], {"a": 1})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--strict-config"], "--strict-config cannot be given"),
        (["--search"], "--search cannot be given"),
        (["-p", "x"], "-p cannot be given"),
        (["-c"], "-c lacks its value"),
        (["-s"], "-s lacks its value"),
        (["-c", "x"], "must be key=value"),
        (["-c", "=x"], "must be key=value"),
        (["-c", "otel.exporter=x"], "of the server's process"),
        (["-c", "feedback.enabled=false"], "of the server's process"),
        (["-c", "chatgpt_base_url=x"], "of the server's process"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(words: list[str], says: str) -> None:
    with pytest.raises(CannotGive, match=says):
        read_overrides(words)


@given(st.lists(st.text()))
def test_whatever_is_given_is_read_or_refused(words: list[str]) -> None:
    try:
        overrides = read_overrides(words)
    except CannotGive:
        return
    assert set(overrides.rest) <= set(words)
