"""The hub after many short sessions of every kind: it holds no more than after the first few."""

from __future__ import annotations

import gc
import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from codexd.hub.profile import ClientProfile
from tests.support.hub import HubRig

_FEW = 4
_MANY = 24
_STAYS = 1
_OTHER = 2
_PRIVATE = 3
_SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def _held(root: Any) -> int:
    """How many objects are reachable from ``root``, without code."""
    seen, todo = {id(root)}, [root]
    while todo:
        for found in gc.get_referents(todo.pop()):
            if id(found) not in seen and not isinstance(found, _SHARED):
                seen.add(id(found))
                todo.append(found)
    return len(seen)


def _used(rig: HubRig, name: str) -> None:
    rig.open_thread(_STAYS, name)
    rig.run_turn(_STAYS, name, f"u-{name}")
    rig.end_turn(name, f"u-{name}")


def _archived(rig: HubRig, name: str) -> None:
    _used(rig, name)
    rig.ask(_STAYS, "thread/archive", {"threadId": name})
    rig.answer("thread/archive")
    rig.tell("thread/archived", threadId=name)


def _left_and_unloaded(rig: HubRig, name: str) -> None:
    _used(rig, name)
    rig.ask(_STAYS, "thread/unsubscribe", {"threadId": name})
    rig.answer("thread/unsubscribe")
    rig.tell("thread/closed", threadId=name)


def _resumed_by_two(rig: HubRig, name: str) -> None:
    rig.join_thread(_STAYS, name)
    rig.join_thread(_OTHER, name)
    rig.tell("thread/name/updated", threadId=name, threadName="a name")
    rig.ask(_STAYS, "thread/unsubscribe", {"threadId": name})
    rig.ask(_OTHER, "thread/unsubscribe", {"threadId": name})
    rig.answer("thread/unsubscribe")
    rig.tell("thread/closed", threadId=name)


def _of_a_private_client(rig: HubRig, name: str) -> None:
    rig.open_thread(_PRIVATE, name)
    rig.tell("thread/started", thread={"id": f"{name}-child", "parentThreadId": name})
    rig.tell("turn/started", threadId=f"{name}-child", turn={"id": f"u-{name}"})
    rig.end_turn(f"{name}-child", f"u-{name}")
    rig.tell("thread/closed", threadId=f"{name}-child")
    rig.tell("thread/deleted", threadId=name)


def _of_a_guest(rig: HubRig, name: str) -> None:
    rig.connect(100)
    rig.open_thread(100, name)
    rig.ask(100, "thread/list")
    rig.leave(100)
    rig.answer("thread/unsubscribe")
    rig.tell("thread/closed", threadId=name)


def _refused(rig: HubRig, name: str) -> None:
    rig.ask(_STAYS, "thread/resume", {"threadId": name})
    rig.answer("thread/resume", error={"code": -32600, "message": f"no rollout found for {name}"})
    rig.ask(_STAYS, "thread/start")
    rig.answer("thread/start", error={"code": -32600, "message": "no"})


def _approved(rig: HubRig, name: str) -> None:
    rig.open_thread(_STAYS, name)
    rig.run_turn(_STAYS, name, f"u-{name}")
    named = {"threadId": name, "turnId": f"u-{name}", "itemId": "i"}
    item = {"id": "i", "type": "fileChange", "changes": [{"path": "/a"}]}
    rig.tell("item/started", **named, item=item)
    method = "item/fileChange/requestApproval"
    rig.child({"id": 7, "method": method, "params": named})
    rig.say(_STAYS, {"id": 7, "result": {"decision": "accept"}})
    rig.tell("serverRequest/resolved", threadId=name, requestId=7)
    rig.tell("item/completed", **named, item=item)
    rig.end_turn(name, f"u-{name}")
    rig.tell("thread/archived", threadId=name)


def _over_a_restart(rig: HubRig, name: str) -> None:
    rig.open_thread(_STAYS, name)
    rig.run_turn(_STAYS, name, f"u-{name}")
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": name}})
    rig.tell("thread/archived", threadId=name)


def _ephemeral(rig: HubRig, name: str) -> None:
    rig.ask(_STAYS, "thread/start", {"ephemeral": True})
    rig.answer("thread/start", {"thread": {"id": name, "ephemeral": True}})
    rig.lose()
    rig.ready()


def _lost(rig: HubRig, name: str) -> None:
    rig.open_thread(_STAYS, name)
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", error={"code": -32600, "message": f"no rollout found for {name}"})


def _closed_over_http(rig: HubRig, name: str) -> None:
    record, actions = rig.hub.register(name, "worker", {}, rig.now)
    rig.do(actions)
    assert record.thread_id is not None
    rig.do(rig.hub.close_session(record.thread_id, rig.now))


def _process(rig: HubRig, name: str) -> None:
    rig.ask(_STAYS, "process/spawn", {"processHandle": name, "command": ["true"]})
    rig.answer("process/spawn")
    handle = rig.asked("process/spawn")["params"]["processHandle"]
    rig.tell("process/exited", processHandle=handle, exitCode=0)


def _told_late(rig: HubRig, name: str) -> None:
    _archived(rig, name)
    rig.tell("thread/status/changed", threadId=name, status={"type": "notLoaded"})
    rig.tell("thread/tokenUsage/updated", threadId=name, turnId=f"u-{name}", tokenUsage={})
    rig.tell("thread/closed", threadId=name)


def _login(rig: HubRig, name: str) -> None:
    rig.ask(_STAYS, "account/login/start", {"type": "chatgpt"})
    rig.answer("account/login/start", {"type": "chatgpt", "loginId": name, "authUrl": ""})
    rig.tell("account/login/completed", loginId=name, success=False, error=None)


def _answer_the_rest(rig: HubRig) -> None:
    """What the hub asked on its own, too; an answer that was given before is passed over."""
    while rig.to_child:
        asked = rig.to_child.pop(0)
        if "method" in asked and "id" in asked:
            rig.child({"id": asked["id"], "result": {}})


def _names() -> Iterator[str]:
    return (f"thread-{number:06}" for number in itertools.count())


@pytest.mark.parametrize(
    "session",
    [
        _archived,
        _left_and_unloaded,
        _resumed_by_two,
        _of_a_private_client,
        _of_a_guest,
        _refused,
        _approved,
        _over_a_restart,
        _ephemeral,
        _lost,
        _closed_over_http,
        _process,
        _told_late,
        _login,
    ],
)
def test_a_session_that_is_over_leaves_nothing(
    session: Callable[[HubRig, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is over is remembered for a while, up to a number.
    monkeypatch.setattr("codexd.hub.server_requests._REMEMBERED", 1)
    monkeypatch.setattr("codexd.hub.clients._PAST_THREADS", 1)
    rig, names = HubRig(), _names()
    rig.connect(_STAYS)
    rig.connect(_OTHER)
    rig.connect(_PRIVATE, profile=ClientProfile(private=True))

    def live(count: int) -> int:
        for name in itertools.islice(names, count):
            session(rig, name)
            _answer_the_rest(rig)
            rig.tick(0.25)
        return _held(rig.hub)

    few = live(_FEW)
    assert live(_MANY) == pytest.approx(few, abs=_MANY / 2)
