from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.config import Server, resolve
from codexd.link.endpoint import (
    BadEndpoint,
    check_endpoint,
    child_arguments,
    default_control_socket,
    parse_endpoint,
)
from codexd.settings import SettingError


def server(**flags: str | tuple[str, ...]) -> Server:
    return resolve(flags, {}, cwd="/repo").server


def test_each_kind() -> None:
    assert parse_endpoint("stdio://codex-app-server", {}, cwd="/").kind == "stdio"
    assert parse_endpoint("unix:///run/x.sock", {}, cwd="/").path == "/run/x.sock"
    assert parse_endpoint("unix://x.sock", {}, cwd="/repo").path == "/repo/x.sock"
    ws = parse_endpoint("ws://127.0.0.1:4500", {}, cwd="/")
    assert (ws.kind, ws.host, ws.port) == ("ws", "127.0.0.1", 4500)
    assert parse_endpoint("ws://[::1]:4500", {}, cwd="/").host == "::1"


def test_the_vendors_default_socket() -> None:
    assert parse_endpoint("unix://", {"CODEX_HOME": "/c"}, cwd="/").path == (
        "/c/app-server-control/app-server-control.sock"
    )
    assert default_control_socket({"HOME": "/h"}) == (
        "/h/.codex/app-server-control/app-server-control.sock"
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "stdio",
        "http://x",
        "ws://",
        "ws://localhost:80",
        "ws://127.0.0.1",
        "ws://127.0.0.1:x",
        "ws://127.0.0.1:1/path",
        "ws://user@127.0.0.1:1",
        "ws://127.0.0.1:99999",
        "unix://" + "/long" * 30,
    ],
)
def test_what_codex_cannot_listen_on_is_named(url: str) -> None:
    with pytest.raises(BadEndpoint) as caught:
        parse_endpoint(url, {}, cwd="/")
    assert f'"{url}"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_child_is_told_where_to_listen_unless_its_arguments_say_so() -> None:
    unix = {"server_endpoint": "unix:///run/x.sock"}
    assert child_arguments(server(**unix)) == ["app-server", "--listen", "unix:///run/x.sock"]
    said = ("app-server", "--listen=unix:///run/x.sock")
    assert child_arguments(server(**unix, server_args=said)) == list(said)
    assert child_arguments(server()) == ["app-server"]
    assert child_arguments(server(**unix, mode="exec")) == ["app-server"]


STARTS = st.sampled_from(
    ["", "stdio://", "unix://", "ws://", "ws://[", "ws://127.0.0.1:", "wss://"]
)


@given(STARTS, st.text(), st.booleans())
def test_any_text_is_an_endpoint_or_refused_in_one_line(start: str, rest: str, ours: bool) -> None:
    flags = {"server_endpoint": start + rest}
    refusal = ""
    try:
        server = resolve(flags, {}, cwd="/repo").server
        check_endpoint(server, {"HOME": "/h"}, hub_on_the_default=ours)
    except (SettingError, BadEndpoint) as error:
        refusal = str(error)
    assert len(refusal.splitlines()) <= 1
