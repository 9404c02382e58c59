"""The server is started, stopped and restarted over HTTP, also while it dies or turns run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import MakeBox
from tests.support.api_client import Api
from tests.support.client import AppClient
from tests.support.model import ModelServer, Reply
from tests.support.stub import stub_flags
from tests.support.waiting import eventually


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


def end_of(api: Api, change: dict[str, Any]) -> dict[str, Any]:
    """The change once it is over."""

    def look() -> dict[str, Any] | None:
        now: dict[str, Any] = api.get(f"/v1/changes/{change['id']}")
        return now if now["status"] != "doing" else None

    return eventually(look, what=f"an end of {change}")


def alive(api: Api) -> int:
    """The pid of the server that runs."""
    child = api.get("/v1/status")["daemon"]["child"]
    assert child["ready"]
    return int(child["pid"])


def test_stop_start_and_restart(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("ignore_term"), "--stop-timeout-ms=300")
    box.start()
    api = Api(box.config.runtime.hub_socket_path)
    first = alive(api)
    status, headers, change = api.ask("POST", "/v1/child/restart", {"when": "drained"})
    assert (status, change["status"]) == (202, "doing")
    assert headers["location"] == f"/v1/changes/{change['id']}"
    assert end_of(api, change)["status"] == "done"
    assert alive(api) != first
    second = alive(api)
    status, _, change = api.ask("POST", "/v1/child/start?wait=20")
    assert (status, change["status"], alive(api)) == (200, "done", second)
    status, _, change = api.ask("POST", "/v1/child/stop?wait=20", {"when": "idle"})
    assert (status, change["status"], change["error"]) == (200, "done", None)
    assert api.get("/v1/status")["daemon"]["child"]["status"] == "stopped"
    assert api.ask("GET", "/readyz")[0] == 503
    status, _, change = api.ask("POST", "/v1/child/start?wait=20", {})
    assert (status, change["status"]) == (200, "done")
    assert api.ask("GET", "/readyz")[0] == 200
    assert [entry["kind"] for entry in api.get("/v1/changes")["changes"]] == [
        "start",
        "stop",
        "start",
        "restart",
    ]
    assert api.get("/v1/status")["daemon"]["child"]["restarts"] <= 2
    box.stop_cleanly()


def test_a_server_that_cannot_start_is_a_failed_change(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("exit=3@broken"))
    box.start()
    api = Api(box.config.runtime.hub_socket_path)
    (box.root / "broken").touch()
    _, _, change = api.ask("POST", "/v1/child/restart?wait=20", {"when": "now"})
    assert change["status"] == "failed"
    assert "not ready" in change["error"]
    (box.root / "broken").unlink()
    _, _, change = api.ask("POST", "/v1/child/start?wait=20")
    assert change["status"] == "done"


def test_an_external_server_is_refused(make_box: MakeBox) -> None:
    box = make_box("--server-strategy=external", "--server-endpoint=ws://127.0.0.1:9")
    box.start(wait=False)
    api = Api(box.config.runtime.hub_socket_path)
    eventually(lambda: os.path.exists(api.path), what="the socket")
    status, _, problem = api.ask("POST", "/v1/child/restart")
    assert (status, problem["type"]) == (409, "urn:codexd:external-server")


@pytest.mark.real
def test_turns_are_waited_for_held_and_cut(make_box: MakeBox, model: ModelServer) -> None:
    box = make_box()
    model.write_config(box.codex_home)
    box.start()
    api = Api(box.config.runtime.hub_socket_path)
    client, may_end = AppClient(api.path), threading.Event()
    thread = client.start_thread()
    model.queue.append(Reply(deltas=["working"], hold=may_end))
    client.start_turn(thread)
    client.notification("item/agentMessage/delta")
    first = alive(api)

    _, _, late = api.ask("POST", "/v1/child/restart?wait=20", {"when": "idle", "timeoutMs": 200})
    assert (late["status"], alive(api)) == ("failed", first)
    assert "still run" in late["error"]

    # It dies while its turns are waited for: another is there, and the change says so.
    _, _, drained = api.ask("POST", "/v1/child/restart", {"when": "drained", "timeoutMs": 60_000})
    eventually(lambda: "stopping" in box.run("ctl", "status").stdout, what="a drain")
    assert api.ask("POST", "/v1/child/stop")[0] == 409
    os.kill(first, signal.SIGKILL)
    assert end_of(api, drained)["status"] == "done"
    second = box.wait_ready(other_than=first)["pid"]
    assert client.notification("turn/completed")["turn"]["status"] == "interrupted"

    # The last word counts.
    model.queue.append(Reply(deltas=["working"], hold=may_end))
    client.start_turn(thread)
    client.notification("item/agentMessage/delta")
    _, _, idle = api.ask("POST", "/v1/child/restart", {"when": "idle"})
    _, _, now = api.ask("POST", "/v1/child/restart?wait=20", {"when": "now"})
    assert (now["id"], now["status"]) == (idle["id"], "done")
    assert alive(api) not in (first, second)
    assert len(box.events("child.exited")) == 2
    may_end.set()
    client.close()
