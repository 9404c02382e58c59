"""Messages of known methods and unexpected shapes: the hub goes on, whatever they hold."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.hub import methods
from tests.support.hub import HubRig

KEYS = st.sampled_from(
    [
        "threadId",
        "turn",
        "thread",
        "id",
        "status",
        "type",
        "config",
        "turnId",
        "requestId",
        "reviewThreadId",
        "enablement",
        "environmentId",
        "loginId",
        "name",
        "processId",
        "watchId",
        "data",
        "settings",
        "ephemeral",
        "initialTurnsPage",
    ]
)
SMALL = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["t1", "u1", "active", ""])
VALUES = st.recursive(
    SMALL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
TOLD = st.sampled_from(
    [
        *sorted(methods.BROADCAST | methods.GREETING | set(methods.HANDLES)),
        *methods.LOGINS.values(),
        *("turn/started", "turn/completed", "serverRequest/resolved", "item/agentMessage/delta"),
    ]
)
ASKED = st.sampled_from(
    [
        *sorted(methods.SUBSCRIBING | methods.TURN_STARTING | set(methods.HANDLES)),
        *methods.PROCESS_SETTINGS,
        *methods.PROCESS_RESETS,
        *methods.LOGINS,
        *("thread/unsubscribe", "thread/settings/update", "account/login/cancel", "initialize"),
    ]
)
ASKED_BACK = st.sampled_from(sorted(methods.APPROVALS))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "ask", "answer", "ask back", "lose", "same", "wait"]),
        TOLD,
        ASKED,
        ASKED_BACK,
        VALUES,
    ),
    max_size=25,
)


def _answer(rig: HubRig, value: Any) -> None:
    """Answer whatever is open with whatever this is."""
    for entry in [entry for entry in rig.to_child if "method" in entry]:
        rig.child({"id": entry["id"], "result": value})
    rig.to_child.clear()


def _take(rig: HubRig, step: tuple[str, str, str, str, Any]) -> None:
    what, told, asked, asked_back, value = step
    if what == "tell":
        rig.child({"method": told, "params": value})
    elif what == "ask":
        rig.say(1, {"id": len(rig.to_client[1]), "method": asked, "params": value})
    elif what == "answer":
        _answer(rig, value)
    elif what == "ask back":
        rig.child({"id": 1, "method": asked_back, "params": value})
    elif what == "wait":
        rig.tick(1.5)
    else:
        rig.lose()
        initialized = json.dumps(value).encode()
        is_same = what == "same"
        rig.do(rig.hub.child_ready(initialized, rig.now, same_child=is_same, child_pid=None))


@given(STEPS)
@settings(max_examples=60)
def test_the_hub_goes_on(steps: list[tuple[str, str, str, str, Any]]) -> None:
    rig = HubRig()
    rig.connect(1)
    rig.open_thread(1)
    rig.run_turn(1)
    for step in steps:
        _take(rig, step)
    rig.lose()
    rig.ready()
    _answer(rig, {})
    # What was set for the whole process may still wait for its answers.
    for _ in range(40):
        rig.tick(6)
        _answer(rig, {})
    request = rig.ask(1, "model/list", id_="the last")
    _answer(rig, {})
    rig.connect(2)
    assert len(rig.answers(1, request)) == 1
    assert rig.answers(2, 0)
    assert rig.hub.snapshot()["server"] == "up"
