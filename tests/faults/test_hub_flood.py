"""A server that asks for thousands of approvals at once: the hub stays there for everybody else."""

from __future__ import annotations

import http.client
import json
import socket

from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

COUNT = 10_000


def _waiting_approvals(path: str) -> int:
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(path)
    connection.request("GET", "/v1/status")
    document = json.loads(connection.getresponse().read())
    connection.close()
    return int(document["waitingApprovals"])


def test_others_are_answered_in_the_middle_of_it(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(f"ask={COUNT}"))
    box.start()
    box.wait_ready()
    path = box.config.runtime.hub_socket_path
    client = AppClient(path)
    client.ask("model/list")
    seen: list[int] = []

    def all_of_them() -> bool:
        seen.append(_waiting_approvals(path))
        return seen[-1] == COUNT

    eventually(all_of_them, what="all approvals")
    # Not only before and after.
    assert [count for count in seen if 0 < count < COUNT]
    client.close()
    box.stop_cleanly()
