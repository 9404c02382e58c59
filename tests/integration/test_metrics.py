"""What a daemon of the real codex tells Prometheus, before and after a death."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd.client.errors import DaemonError
from codexd.client.http import fetch_metrics
from codexd.hub.counts import OTHER
from codexd.hub.request_methods import REQUESTS
from codexd.keeper.metric_table import METRICS, PREFIX
from tests.support.echo import echo_server
from tests.support.hub_room import HubRoom
from tests.support.metrics import promtool, samples, value
from tests.support.schema import Schemas
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(schemas: Schemas) -> Iterator[HubRoom]:
    room = HubRoom(schemas)
    yield room
    room.close()


def scrape(room: HubRoom) -> str:
    return fetch_metrics(room.box.config.runtime.hub_socket_path).decode()


def restarts(room: HubRoom) -> float:
    found = value(scrape(room), "codexd_server_restarts_total", reason="died")
    assert found is not None
    return found


def test_every_request_of_this_codex_has_a_row_of_its_own(schemas: Schemas) -> None:
    unknown = schemas.messages("ClientRequest").keys() - REQUESTS
    assert unknown == set(), "run: python -m tests.support.make_methods, with every codex there is"


def test_what_happened_is_what_is_told(room: HubRoom) -> None:
    client = room.client("metrics-client")
    thread = client.start_thread()
    client.start_turn(thread)
    client.notification("turn/completed")
    assert "error" in client.answer_to(client.ask("no/such/method"))
    room.event("turn.completed", threadId=thread)
    text = scrape(room)
    told = {
        "codexd_server_ready": 1,
        "codexd_hub_clients": 1,
        "codexd_hub_requests_waiting": 0,
        "codexd_turns_running": 0,
        "codexd_approvals_waiting": 0,
        "codexd_turn_duration_seconds_count": 1,
        "codexd_server_processes": 1,
        "codexd_events_dropped_total": 0,
    }
    assert {name: value(text, name) for name in told} == told
    assert value(text, "codexd_server_state", state="running") == 1
    assert value(text, "codexd_turns_total", status="completed") == 1
    assert value(text, "codexd_sessions", purpose="duplex", status="active") == 1
    for method in ("initialize", "thread/start", "turn/start"):
        assert value(text, "codexd_hub_requests_total", method=method, code="ok") == 1
    assert value(text, "codexd_hub_requests_total", method=OTHER, code="-32600") == 1
    process = psutil.Process(room.child_pid)
    started = value(text, "codexd_server_start_time_seconds")
    assert started == pytest.approx(process.create_time(), abs=2)
    resident = value(text, "codexd_server_resident_memory_bytes")
    assert resident == pytest.approx(process.memory_info().rss, rel=0.5)
    for secret in (thread, "metrics-client", str(room.root), client.initialized["userAgent"]):
        assert secret not in text


def test_events_and_output_are_those_on_record(room: HubRoom) -> None:
    def agree() -> bool:
        text = scrape(room)
        told = {
            s.labels["type"]: s.value
            for s in samples(text)
            if s.name == "codexd_events_total" and s.value
        }
        # The daemon wrote its own start itself.
        on_record = Counter(e["type"] for e in room.box.events() if e["type"] != "daemon.started")
        size = (room.box.logs_dir / "stdout.log").stat().st_size
        return told == on_record and size == value(
            text, "codexd_output_bytes_total", stream="stdout"
        )

    eventually(agree, what="the counters to agree with the files")


def test_a_death_is_a_restart_and_a_recovery(room: HubRoom) -> None:
    before = restarts(room)
    room.kill_child()
    eventually(lambda: restarts(room) == before + 1, what="a restart")
    eventually(
        lambda: value(scrape(room), "codexd_server_recovery_seconds_count") == before + 1,
        what="a recovery",
    )
    took = value(scrape(room), "codexd_server_recovery_seconds_sum")
    assert took is not None
    assert 0 < took < 60
    eventually(lambda: value(scrape(room), "codexd_server_ready") == 1, what="a ready server")


def test_prometheus_reads_the_page(room: HubRoom) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(room.box.config.runtime.hub_socket_path)
    for method in ("GET", "HEAD"):
        headers = {"Accept": "application/openmetrics-text", "Connection": "keep-alive"}
        connection.request(method, "/metrics", headers=headers)
        response = connection.getresponse()
        page = response.read()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert bool(page) == (method == "GET")
    connection.close()
    names = {line.split()[2] for line in scrape(room).splitlines() if line.startswith("# TYPE")}
    assert names == {PREFIX + row.name for row in METRICS}


def test_promtool_has_nothing_to_say(room: HubRoom) -> None:
    assert promtool(scrape(room)) == "0"


def test_the_command_prints_the_same(room: HubRoom) -> None:
    done = room.box.run("metrics")
    assert (done.returncode, done.stderr) == (0, "")

    def names(text: str) -> set[str]:
        return {line.partition(" ")[0] for line in text.splitlines() if line[0] != "#"}

    assert names(done.stdout) == names(scrape(room))


def test_where_no_daemon_is_the_command_says_so(room: HubRoom, tmp_path: Path) -> None:
    done = room.box.run("metrics", "--state-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"codexd: No daemon runs on {tmp_path}/codexd")
    assert done.stderr.count("\n") == 1


def test_what_answers_otherwise_is_told_in_a_line(tmp_path: Path) -> None:
    async def main() -> None:
        # It has no such route.
        async with echo_server(tmp_path / "x.sock") as echo:
            with pytest.raises(DaemonError, match="answers 404 to GET /metrics"):
                await asyncio.to_thread(fetch_metrics, echo.path)

    asyncio.run(main())
    with pytest.raises(DaemonError, match="No daemon answers at"):
        fetch_metrics(str(tmp_path / "x.sock"))
