from __future__ import annotations

import json
from typing import Any

import pytest

from codexd.hub.hub import CloseClient, HubLimits
from tests.support.hub import HubRig

WHO = {"name": "x", "version": "1"}


def _initialize(rig: HubRig, params: Any) -> dict[str, Any]:
    rig.do(rig.hub.client_opened(1, rig.now))
    rig.say(1, {"id": 7, "method": "initialize", "params": params})
    (answer,) = rig.answers(1, 7)
    return answer


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"clientInfo": {"name": "x"}},
        {"clientInfo": {"name": "a\nb", "version": "1"}},
        {"clientInfo": {"name": "a\x7fb", "version": "1"}},
        {"clientInfo": WHO, "capabilities": {"optOutNotificationMethods": [1]}},
    ],
)
def test_who_does_not_say_who_he_is_is_refused_and_may_try_again(params: Any) -> None:
    rig = HubRig()
    assert _initialize(rig, params)["error"]["code"] == -32600
    rig.say(1, {"id": 8, "method": "initialize", "params": {"clientInfo": WHO}})
    assert "result" in rig.answers(1, 8)[0]


@pytest.mark.parametrize("name", ["naïve", "我的客户端", "a\tb", "", " x "])
def test_a_name_in_any_language_is_one(name: str) -> None:
    rig = HubRig()
    assert "result" in _initialize(rig, {"clientInfo": {"name": name, "version": "1"}})


def test_what_an_introduction_lacks_is_named_as_codex_names_it() -> None:
    rig = HubRig()
    answer = _initialize(rig, {"clientInfo": {"name": "x"}})
    assert answer["error"]["message"] == "Invalid request: missing field `version`"


def test_a_client_is_told_at_once_what_the_server_tells_a_new_connection() -> None:
    rig = HubRig()
    rig.tell("configWarning", summary="one")
    rig.tell("configWarning", summary="two")
    rig.tell("remoteControl/status/changed", status="disabled")
    rig.tell("remoteControl/status/changed", status="enabled")
    assert rig.hub.snapshot()["remoteControl"] == "enabled"
    rig.tell("account/updated", authMode=None)
    assert "result" in _initialize(rig, {"clientInfo": WHO})
    told = [entry["params"] for entry in rig.to_client[1][1:]]
    assert told == [{"summary": "one"}, {"summary": "two"}, {"status": "enabled"}]
    rig.say(1, {"method": "initialized"})
    assert len(rig.to_client[1]) == 4
    assert not rig.to_child


def test_who_does_not_want_to_hear_it_is_not_told() -> None:
    rig = HubRig()
    rig.tell("configWarning", summary="one")
    rig.tell("remoteControl/status/changed", status="enabled")
    rig.connect(1, optOutNotificationMethods=["configWarning"])
    assert [entry.get("method") for entry in rig.to_client[1]] == [
        None,
        "remoteControl/status/changed",
    ]


def test_who_says_nothing_is_sent_away_for_breaking_the_rules() -> None:
    rig = HubRig(HubLimits(initialize_timeout_s=10))
    rig.do(rig.hub.client_opened(1, rig.now))
    # RFC 6455, section 7.4.1.
    wanted = [CloseClient(1, 1008, "not initialized in time")]
    assert rig.hub.tick(rig.now + 10) == []
    assert rig.hub.tick(rig.now + 10.25) == wanted


def test_a_file_that_the_server_does_not_take_is_told_of() -> None:
    rig = HubRig()
    rig.tell("configWarning", summary="Find bubblewrap.", details=None)
    rig.tell("configWarning", summary="Using defaults.", details="/c:1: bad", path="/c")
    rig.tell("configWarning", summary=7, path="/d")
    rig.tell("remoteControl/status/changed", status="disabled", path="/e")
    assert rig.hub.snapshot()["configFaults"] == ["Using defaults. /c:1: bad"]
    rig.do(rig.hub.child_lost("gone", rig.now))
    rig.do(rig.hub.child_ready(b"{}", rig.now, same_child=False, child_pid=2))
    assert rig.hub.snapshot()["configFaults"] == []


@pytest.mark.parametrize("result", [b'{"userAgent":null}', b'{"userAgent":7}', b"[]", b"null", b""])
def test_an_answer_of_another_shape_reaches_its_client_as_it_is(result: bytes) -> None:
    rig = HubRig(ready=False)
    rig.connect(1)
    rig.do(rig.hub.child_ready(result, rig.now, same_child=False, child_pid=1))
    rig.connect(2)
    for client in (1, 2):
        assert rig.answers(client, 0)[0]["result"] == json.loads(result or b"{}")
    assert rig.hub.snapshot()["server"] == "up"
