"""What the vendor's verbs mean, as far as that is a matter of what the server says."""

from __future__ import annotations

from typing import Any

import click
import pytest

from codexd.cli.app_server_daemon import change_remote, run_verb
from codexd.cli.options import CliError
from codexd.cli.proxy import is_ours
from codexd.config import resolve


class Server:
    """One whose remote control is as it says."""

    def __init__(self, status: Any) -> None:
        self.status = status
        self.asked: list[str] = []

    def call(self, method: str) -> Any:
        self.asked.append(method)
        if method == "remoteControl/enable":
            self.status = "connecting"
        elif method == "remoteControl/disable":
            self.status = "disabled"
        return {"status": self.status}


@pytest.mark.parametrize(
    ("before", "is_on", "changed", "asked"),
    [
        ("disabled", True, True, "remoteControl/enable"),
        ("connecting", True, False, None),
        ("errored", True, False, None),
        ("connected", False, True, "remoteControl/disable"),
        ("disabled", False, False, None),
    ],
)
def test_remote_control_is_changed_where_it_is_not_so(
    before: str, is_on: bool, changed: bool, asked: str | None
) -> None:
    server = Server(before)
    assert change_remote(server.call, is_on=is_on) == (changed, is_on)
    assert server.asked == ["remoteControl/status/read", *([asked] if asked else [])]


@pytest.mark.parametrize("answer", [{}, None, {"status": 7}])
def test_a_server_that_does_not_tell_is_not_taken_for_one_without(answer: Any) -> None:
    with pytest.raises(CliError, match="does not tell"):
        change_remote(lambda _method: answer, is_on=False)


@pytest.mark.parametrize("words", [[], ["bogus"], ["version", "extra"], ["start", "--bogus"]])
def test_words_that_the_vendor_does_not_know_are_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        run_verb(resolve({}, {}, cwd="/nowhere"), words)


@pytest.mark.parametrize("words", [[], ["--from-cli", "--yes"], ["-y", "-c", "a=b"]])
def test_an_update_is_refused_with_what_to_do(words: list[str]) -> None:
    with pytest.raises(CliError, match="restart --when-idle"):
        run_verb(resolve({}, {}, cwd="/nowhere"), ["update", *words])


def test_whose_socket_a_proxy_is_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_HOME", "/home/of/codex")
    config = resolve({}, {}, cwd="/nowhere")
    assert is_ours(config, "/home/of/codex/app-server-control/app-server-control.sock")
    assert is_ours(config, config.runtime.hub_socket_path)
    assert not is_ours(config, "/home/of/codex/other.sock")
