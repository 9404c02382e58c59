"""What passes through the hub without a look is what a look would have let pass as it is."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from codexd.hub import hub, methods
from codexd.hub.experimental_tables import FIELDS
from codexd.hub.profile import NOTHING, ClientProfile
from codexd.hub.request_methods import REQUESTS
from codexd.hub.untouched import LOOKED_AT
from tests.support.hub import HubRig

UNTOUCHED: Final = sorted({*REQUESTS, "a/newer/method"} - LOOKED_AT)
# Whatever may stand in a request that something is done about.
PARAMS: Final[dict[str, Any]] = {
    **{name: "a" for name in methods.HANDLES.values()},
    **{name: True for names in FIELDS.values() for name in names},
    "threadId": "t",
    "requestId": 1,
    "loginId": "l",
    "roots": ["below"],
    "environmentId": "e",
    "config": {"model": "m"},
}
PROFILE: Final = ClientProfile(cwd="/elsewhere", config={"model": "o"}, private=True)
ANSWERS: Final[list[dict[str, Any]]] = [
    {"result": {"data": ["t", "u"], "thread": {"id": "u"}, "turn": {"id": "v"}, "loginId": "l"}},
    {"error": {"code": -32600, "message": "no rollout found"}},
    {"result": None},
    {"result": {}, "error": {"code": 1, "message": "both"}},
    {"result": {}},
    {"result": {}},
    {"error": {"code": -1, "message": "later", "data": {"reason": "serverShuttingDown"}}},
]
REQUESTED: Final[list[dict[str, Any]]] = [
    *[{"params": PARAMS}] * 4,
    {"params": PARAMS, "trace": 1},
    {"params": json.loads("[" * 200 + "]" * 200)},
    {"params": PARAMS},
]


class Everything(frozenset[str | None]):
    """All methods."""

    def __contains__(self, _method: object) -> bool:
        return True


def played(method: str) -> list[Any]:
    """Whatever is to be seen of requests of this method, by each kind of client and the child."""
    seen: list[Any] = []
    for profile, is_experimental in ((NOTHING, True), (PROFILE, True), (NOTHING, False)):
        rig = HubRig()
        rig.connect(1, profile=profile, experimentalApi=is_experimental)
        rig.ask(1, "thread/resume", {"threadId": "t"})
        rig.child({"id": rig.to_child[-1]["id"], "result": {"thread": {"id": "t"}}})
        for number, (request, answer) in enumerate(zip(REQUESTED, ANSWERS, strict=True)):
            before = len(rig.to_child)
            rig.say(1, {"id": number, "method": method, **request})
            for sent in rig.to_child[before:]:
                rig.child({"id": sent["id"], **answer})
        # Asked, and lost with the child.
        rig.say(1, {"id": "last", "method": method, "params": PARAMS})
        rig.lose()
        rig.ready()
        rig.leave(1)
        told = [event.type for event in rig.events]
        seen += [rig.to_client[1], rig.to_child, told, rig.hub.kept, rig.hub.counts.requests]
    return seen


def test_a_look_would_have_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {method: played(method) for method in UNTOUCHED}
    monkeypatch.setattr(hub, "LOOKED_AT", Everything())
    for method in UNTOUCHED:
        assert quick[method] == played(method), method
        # It was passed on, and answered.
        assert any(sent["method"] == method for sent in quick[method][1])
        assert any("data" in (told.get("result") or {}) for told in quick[method][0])


def test_what_the_hub_does_something_about_is_looked_at() -> None:
    assert len(UNTOUCHED) > 50
    assert {"initialize", "thread/start", "turn/start", "command/exec"} <= LOOKED_AT
