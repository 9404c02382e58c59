"""Every kind of message that the hub makes up itself, against the schema of the real binary."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.hub.hub import HubLimits
from tests.support.hub import HubRig
from tests.support.schema import Schemas

pytestmark = pytest.mark.real

APPROVAL = "item/fileChange/requestApproval"


def _turn_as_the_server_tells_it() -> dict[str, Any]:
    return {
        "id": "u1",
        "rootTurnId": "u1",
        "items": [],
        "itemsView": "notLoaded",
        "status": "inProgress",
        "error": None,
        "startedAt": 1795532380,
        "completedAt": None,
        "durationMs": None,
    }


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig(HubLimits(waiting_requests=1))
    rig.connect(1)
    rig.open_thread(1)
    return rig


def _check(rig: HubRig, schemas: Schemas, *kinds: str) -> None:
    """Each kind was told, and every one of them is valid."""
    for kind in kinds:
        told = rig.got(1, kind)
        assert told, kind
        for message in told:
            schemas.check(message, None)


def test_what_a_crash_is_told_with(rig: HubRig, schemas: Schemas) -> None:
    rig.tell("turn/started", threadId="t1", turn=_turn_as_the_server_tells_it())
    rig.child({"id": 0, "method": APPROVAL, "params": {"threadId": "t1", "turnId": "u1"}})
    rig.ask(1, "process/spawn", {"processHandle": "p", "command": ["cat"], "cwd": "/"})
    rig.answer("process/spawn")
    for client_list in rig.to_client.values():
        client_list.clear()
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", error={"code": -32600, "message": "no rollout found"})
    kinds = ("error", "turn/completed", "thread/status/changed", "serverRequest/resolved")
    _check(rig, schemas, *kinds, "process/exited", "thread/closed")


def test_a_turn_of_which_only_the_id_is_known(rig: HubRig, schemas: Schemas) -> None:
    rig.tell("thread/status/changed", threadId="t1", status={"type": "active", "activeFlags": []})
    rig.tell("item/agentMessage/delta", threadId="t1", turnId="u1", itemId="i", delta="x")
    rig.lose()
    rig.ready()
    _check(rig, schemas, "turn/completed")


def test_answers(rig: HubRig, schemas: Schemas) -> None:
    schemas.check(rig.answers(1, 0)[0], "initialize")
    rig.connect(2)
    rig.join_thread(2)
    for _ in range(2):
        request = rig.ask(1, "thread/unsubscribe", {"threadId": "t1"})
        schemas.check(rig.answers(1, request)[0], "thread/unsubscribe")


def test_errors(rig: HubRig, schemas: Schemas) -> None:
    rig.do(rig.hub.client_opened(3, rig.now))
    asked = [(3, rig.ask(3, "thread/list")), (1, rig.ask(1, "turn/start", {"threadId": "t1"}))]
    rig.lose()
    asked += [(1, rig.ask(1, "initialize"))]
    asked += [(1, rig.ask(1, "turn/start", {"threadId": "t1"})) for _ in range(2)]
    rig.tick(1000)
    codes = []
    for client, request in asked:
        (answer,) = rig.answers(client, request)
        schemas.check(answer, None)
        codes.append(answer["error"]["code"])
    assert codes == [-32600, -32050, -32600, -32001, -32001]
