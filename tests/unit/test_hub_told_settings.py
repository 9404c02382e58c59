"""Settings of a thread that a server forgets when it ends are set again in the next one."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.hub.hub import Hub, HubLimits
from codexd.hub.kept import Kept
from codexd.hub.window import ONE_CLIENT
from tests.support.hub import HubRig

NARROW = {"type": "workspaceWrite", "writableRoots": ["/w"]}
WIDE = {"type": "dangerFullAccess"}
UPDATE = "thread/settings/update"


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    rig.end_turn()
    return rig


def _told(rig: HubRig, **settings: Any) -> None:
    rig.tell("thread/settings/updated", threadId="t1", threadSettings=settings)


def _restarted(rig: HubRig, **standing: Any) -> list[dict[str, Any]]:
    """The settings that a new server is given, where its resume answers that."""
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1"}, **standing})
    asked = [entry["params"] for entry in rig.to_child if entry["method"] == UPDATE]
    return [{name: params[name] for name in params if name != "threadId"} for params in asked]


@pytest.mark.parametrize(
    ("told", "standing", "given"),
    [
        ({"sandboxPolicy": NARROW}, {"sandbox": WIDE}, {"sandboxPolicy": NARROW}),
        ({"sandboxPolicy": NARROW}, {"sandbox": NARROW}, None),
        ({"serviceTier": "flex"}, {"serviceTier": None}, {"serviceTier": "flex"}),
        ({"summary": "detailed"}, {}, {"summary": "detailed"}),
        ({"summary": None, "serviceTier": None, "model": "m"}, {}, None),
        (
            {"activePermissionProfile": {"id": ":read-only"}, "sandboxPolicy": NARROW},
            {"sandbox": WIDE},
            {"permissions": ":read-only"},
        ),
        (
            {"sandboxPolicy": 7, "summary": [1]},
            {"sandbox": "x"},
            {"sandboxPolicy": 7, "summary": [1]},
        ),
        ({"activePermissionProfile": 7, "summary": "x"}, {}, {"summary": "x"}),
    ],
)
def test_what_the_next_server_does_not_know_is_set_again(
    rig: HubRig, told: dict[str, Any], standing: dict[str, Any], given: dict[str, Any] | None
) -> None:
    _told(rig, **told)
    # However often it dies before it has said so itself.
    for _ in range(2):
        assert _restarted(rig, **standing) == ([] if given is None else [given])


def test_it_is_set_before_a_turn_that_waits_begins(rig: HubRig) -> None:
    _told(rig, sandboxPolicy=NARROW)
    rig.lose()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.to_child.clear()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": WIDE})
    methods = [entry["method"] for entry in rig.to_child]
    assert methods[-2:] == [UPDATE, "turn/start"]


def test_what_a_thread_was_opened_with_is_known_from_the_answer(rig: HubRig) -> None:
    rig.ask(1, "thread/resume", {"threadId": "t1"})
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": NARROW, "serviceTier": "flex"})
    given = {"sandboxPolicy": NARROW, "serviceTier": "flex"}
    assert _restarted(rig, sandbox=WIDE) == [given]


def test_a_server_that_does_not_take_it_is_told_of(rig: HubRig) -> None:
    _told(rig, sandboxPolicy=NARROW)
    assert _restarted(rig, sandbox=WIDE)
    rig.answer(UPDATE, error={"code": -32600, "message": "no"})
    (warning,) = rig.got(1, "warning")
    assert warning["params"]["threadId"] == "t1"
    assert "(sandboxPolicy): no" in warning["params"]["message"]
    # It may have been a passing trouble.
    rig.lose()
    rig.to_child.clear()
    rig.ready("t1", same_child=True)
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": WIDE})
    assert rig.asked(UPDATE)["params"]["sandboxPolicy"] == NARROW


@pytest.mark.parametrize("given", [{}, {"sandbox": "danger-full-access"}])
def test_a_client_whose_own_resume_loads_the_thread_decides(
    rig: HubRig, given: dict[str, Any]
) -> None:
    _told(rig, sandboxPolicy=NARROW, serviceTier="flex")
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    own = rig.asked("thread/resume")
    rig.child({"id": own["id"], "error": {"code": -32600, "message": "not now"}})
    rig.ask(1, "thread/resume", {"threadId": "t1", **given})
    rig.tick(1)
    rig.answer("thread/resume", error={"code": -32600, "message": "nor now"})
    (resume,) = [
        entry
        for entry in rig.to_child
        if entry["method"] == "thread/resume" and "excludeTurns" not in entry["params"]
    ]
    rig.child({"id": resume["id"], "result": {"thread": {"id": "t1"}, "sandbox": WIDE}})
    again = {"serviceTier": "flex", **({} if given else {"sandboxPolicy": NARROW})}
    assert rig.asked(UPDATE)["params"] == {"threadId": "t1", **again}


@pytest.mark.parametrize("kept", [None, 7, {"sandboxPolicy": NARROW, "other": 1}])
def test_it_outlives_the_plugin(rig: HubRig, kept: Any) -> None:
    _told(rig, sandboxPolicy=NARROW)
    record = rig.sessions["t1"]
    known = rig.hub.kept.threads["t1"]
    assert known["told"] == {"sandboxPolicy": NARROW}
    rig.hub = Hub(limits=HubLimits(), id_prefix="hub-y-", endpoint="stdio://x")
    rig.do(rig.hub.restore([record], rig.now, Kept({"t1": {**known, "told": kept}})))
    rig.connect(1)
    rig.to_child.clear()
    rig.ready()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": WIDE})
    methods = [entry["method"] for entry in rig.to_child]
    assert (UPDATE in methods) == isinstance(kept, dict)


@pytest.mark.parametrize("is_new_hub", [False, True])
@pytest.mark.parametrize("is_done", [False, True])
def test_a_connection_lost_before_the_server_took_it_leaves_nothing_unset(
    rig: HubRig, is_new_hub: bool, is_done: bool
) -> None:
    _told(rig, sandboxPolicy=NARROW)
    assert _restarted(rig, sandbox=WIDE)
    if is_done:
        rig.answer(UPDATE)
    kept, record = rig.hub.kept, rig.sessions["t1"]
    rig.lose()
    if is_new_hub:
        rig.hub = Hub(limits=HubLimits(), id_prefix="hub-y-", endpoint="stdio://x")
        rig.do(rig.hub.restore([record], rig.now, kept))
        rig.connect(1)
    rig.to_child.clear()
    rig.ready("t1", same_child=True)
    # What stands there after all was changed by somebody else, once it had been set.
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": WIDE})
    asked = [entry["params"] for entry in rig.to_child if entry["method"] == UPDATE]
    assert asked == ([] if is_done else [{"threadId": "t1", "sandboxPolicy": NARROW}])


def test_it_is_set_before_a_turn_however_much_codexd_itself_has_to_ask(rig: HubRig) -> None:
    _told(rig, sandboxPolicy=NARROW)
    for number in range(ONE_CLIENT - 1):
        rig.ask(1, "fs/watch", {"watchId": f"w{number}", "path": "/w"})
        rig.answer("fs/watch")
    rig.open_thread(1, "t2")
    rig.lose()
    rig.ask(1, "turn/start", {"threadId": "t1", "input": []})
    rig.to_child.clear()
    rig.ready()
    # That of the other thread waits for room.
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": WIDE})
    methods = [entry["method"] for entry in rig.to_child]
    assert methods.index(UPDATE) < methods.index("turn/start")


@pytest.mark.parametrize("is_new_hub", [False, True])
def test_a_thread_that_waits_to_be_used_loses_nothing_with_the_connection(
    rig: HubRig, is_new_hub: bool
) -> None:
    rig.ask(1, "thread/resume", {"threadId": "t1", "config": {"a": 1}})
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": NARROW})
    rig.leave(1)
    rig.lose()
    rig.to_child.clear()
    rig.ready()
    assert not [entry for entry in rig.to_child if entry["method"] == "thread/resume"]
    kept, record = rig.hub.kept, rig.sessions["t1"]
    rig.lose()
    if is_new_hub:
        rig.hub = Hub(limits=HubLimits(), id_prefix="hub-y-", endpoint="stdio://x")
        rig.do(rig.hub.restore([record], rig.now, kept))
    rig.ready(same_child=True)
    rig.connect(2)
    rig.ask(2, "turn/start", {"threadId": "t1", "input": []})
    assert rig.asked("thread/resume")["params"]["config"] == {"a": 1}
    rig.answer("thread/resume", {"thread": {"id": "t1"}, "sandbox": WIDE})
    assert rig.asked(UPDATE)["params"]["sandboxPolicy"] == NARROW
