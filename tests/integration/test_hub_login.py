"""Logins by way of the hub: who hears of them, and what a killed server does to them."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from typing import Any

import pytest

from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def tokens() -> dict[str, str]:
    """Tokens as a client hands them over that looks after them itself; codex only reads them."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    auth = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "a", "chatgpt_user_id": "u"}
    claims = {"exp": int(time.time()) + 3600, "https://api.openai.com/auth": auth}
    token = ".".join([part({"alg": "none"}), part(claims), "c2ln"])
    return {"type": "chatgptAuthTokens", "accessToken": token, "chatgptAccountId": "a"}


def kill_server(box: DaemonBox) -> None:
    child = box.child()
    assert child is not None
    os.kill(child["pid"], signal.SIGKILL)
    box.wait_ready(other_than=child["pid"])


def wait_for_account(box: DaemonBox, **expected: Any) -> None:
    """Wait until status tells so."""

    def look() -> bool:
        live = json.loads(box.run("status", "--json").stdout)["live"]
        account: dict[str, Any] | None = live["account"]
        return account == {"required": True, **expected}

    eventually(look, what=f"an account {expected}")


def test_a_login_is_told_to_all_and_by_status_and_outlives_the_server(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    path = box.config.runtime.hub_socket_path
    one, other = AppClient(path, "one"), AppClient(path, "other")
    one.call("account/login/start", {"type": "apiKey", "apiKey": "sk-not-a-key"})
    for client in (one, other):
        assert client.notification("account/login/completed")["success"] is True
        assert client.notification("account/updated")["authMode"] == "apikey"
    wait_for_account(box, loggedIn=True, type="apiKey")
    kill_server(box)
    wait_for_account(box, loggedIn=True, type="apiKey")
    other.call("account/logout")
    wait_for_account(box, loggedIn=False, type=None)
    for client in (one, other):
        client.close()
    box.stop_cleanly()


def test_a_gateways_sign_in_is_its_clients_own_and_tokens_stay(
    make_box: MakeBox,
) -> None:
    box = make_box()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (box.codex_home / "config.toml").write_text(f"""
model = "m"
model_provider = "corp"
[model_providers.corp]
name = "corp"
base_url = "http://127.0.0.1:1/v1"
wire_api = "responses"
[model_providers.corp.gateway_oauth]
client_id = "c"
authorization_url = "http://127.0.0.1:1/authorize"
token_url = "http://127.0.0.1:1/token"
redirect_port = {port}
delivery = {{ kind = "header", name = "x-gateway", scheme = "Bearer" }}
""")
    box.start()
    path = box.config.runtime.hub_socket_path
    one, other = AppClient(path, "one"), AppClient(path, "other")
    login = one.ask("account/gatewayOAuth/login", {})

    def hear(client: AppClient) -> tuple[str, bool]:
        told = client.notification("account/gatewayOAuth/changed")
        return told["status"], told["authUrl"] is not None

    # On stdio the server itself tells these two in either order (3 of 20 times this one last).
    assert {hear(one), hear(one)} == {("started", True), ("started", False)}
    assert hear(other) == ("started", False)
    refused = other.answer_to(other.ask("account/gatewayOAuth/cancel", {}))
    assert "belongs to another connection" in refused["error"]["message"]
    kill_server(box)
    assert "error" in one.answer_to(login)
    assert hear(one) == hear(other) == ("failed", False)
    # The next server's is ended by its client's leaving.
    one.ask("account/gatewayOAuth/login", {})
    assert hear(other) == ("started", False)
    one.close()
    assert hear(other) == ("failed", False)
    # codex has these in memory alone.
    other.call("account/login/start", tokens())
    other.notification("account/updated", authMode="chatgptAuthTokens")
    kill_server(box)
    other.notification("account/updated", authMode="chatgptAuthTokens")
    other.close()
    box.stop_cleanly()
