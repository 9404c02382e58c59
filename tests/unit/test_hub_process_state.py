"""What clients have set or begun in the server's process is set again, or told as over."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.hub.hub import Hub, HubLimits
from tests.support.hub import HubRig
from tests.support.schema import Schemas


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    return rig


def _set(rig: HubRig, client: int, method: str, params: dict[str, Any]) -> None:
    rig.ask(client, method, params)
    rig.answer(method)


def _restart(rig: HubRig) -> None:
    rig.lose()
    rig.to_child.clear()
    rig.ready()


def _asked(rig: HubRig) -> list[tuple[str, Any]]:
    return [(entry["method"], entry["params"]) for entry in rig.to_child if "method" in entry]


def test_it_is_set_again_in_order_before_any_request_of_a_client(rig: HubRig) -> None:
    one = {"enablement": {"memories": True}}
    _set(rig, 1, "experimentalFeature/enablement/set", one)
    _set(rig, 1, "skills/extraRoots/set", {"extraRoots": ["/old"]})
    _set(rig, 2, "environment/add", {"environmentId": "far", "execServerUrl": "ws://a/"})
    _set(rig, 2, "environment/add", {"environmentId": "near", "execServerUrl": "ws://b/"})
    _set(rig, 2, "skills/extraRoots/set", {"extraRoots": ["/new"]})
    rig.lose()
    rig.to_child.clear()
    request = rig.ask(1, "skills/list")
    rig.ready()
    wanted: list[tuple[str, Any]] = [
        ("experimentalFeature/enablement/set", one),
        ("environment/add", {"environmentId": "far", "execServerUrl": "ws://a/"}),
        ("environment/add", {"environmentId": "near", "execServerUrl": "ws://b/"}),
        ("skills/extraRoots/set", {"extraRoots": ["/new"]}),
    ]
    for number in range(len(wanted)):
        assert _asked(rig) == wanted[: number + 1]
        assert rig.hub.snapshot()["server"] == "recovering"
        rig.answer(wanted[number][0])
    assert _asked(rig) == [*wanted, ("skills/list", {})]
    rig.answer("skills/list")
    assert len(rig.answers(1, request)) == 1
    # Nobody but the hub asked for it, so nobody gets an answer.
    assert len([entry for entry in rig.to_client[2] if "method" not in entry]) == 4


def test_of_features_each_one_is_remembered(rig: HubRig) -> None:
    for enablement in ({"a": True}, {"b": True}, {"a": False}):
        _set(rig, 1, "experimentalFeature/enablement/set", {"enablement": enablement})
    _restart(rig)
    rig.answer("experimentalFeature/enablement/set")
    assert [params["enablement"] for _, params in _asked(rig)] == [{"b": True}, {"a": False}]


def test_what_was_refused_or_undone_is_not_set_again(rig: HubRig) -> None:
    rig.ask(1, "skills/extraRoots/set", {"extraRoots": ["relative"]})
    rig.answer("skills/extraRoots/set", error={"code": -32600, "message": "no"})
    _set(rig, 1, "remoteControl/enable", {"ephemeral": True})
    _set(rig, 1, "remoteControl/disable", {})
    _restart(rig)
    assert _asked(rig) == []
    assert rig.hub.snapshot()["server"] == "up"


@pytest.mark.real
def test_who_set_it_is_told_where_that_fails_and_nobody_waits(
    rig: HubRig, schemas: Schemas
) -> None:
    for client in (1, 2):
        params = {"environmentId": f"e{client}", "execServerUrl": "ws://a/"}
        _set(rig, client, "environment/add", params)
    _restart(rig)
    rig.answer("environment/add", error={"code": -32600, "message": "not any more"})
    (warning,) = rig.got(1, "warning")
    schemas.check(warning, None)
    assert "environment/add" in warning["params"]["message"]
    assert "not any more" in warning["params"]["message"]
    # The second is never answered.
    rig.tick(5)
    assert rig.hub.snapshot()["server"] == "recovering"
    rig.tick(0.25)
    assert rig.hub.snapshot()["server"] == "up"
    assert "did not answer" in rig.got(2, "warning")[0]["params"]["message"]
    rig.answer("environment/add")
    assert rig.hub.snapshot()["server"] == "up"


def test_an_answer_that_comes_too_late_is_no_answer_to_the_next(rig: HubRig) -> None:
    for name in ("a", "b", "c"):
        _set(rig, 1, "environment/add", {"environmentId": name})
    _restart(rig)
    late = rig.asked("environment/add")["id"]
    rig.tick(5.25)
    rig.child({"id": late, "result": {}})
    assert [params["environmentId"] for _, params in _asked(rig)] == ["a", "b"]


def test_who_set_it_and_left_is_not_told(rig: HubRig) -> None:
    _set(rig, 1, "skills/extraRoots/set", {"extraRoots": ["/a"]})
    rig.leave(1)
    before = list(rig.to_client[1])
    _restart(rig)
    rig.answer("skills/extraRoots/set", error={"code": -32600, "message": "no"})
    assert rig.to_client[1] == before
    assert rig.hub.snapshot()["server"] == "up"


def test_of_settings_without_end_the_last_ones_are_set_again(rig: HubRig) -> None:
    for number in range(1_001):
        _set(rig, 1, "environment/add", {"environmentId": str(number)})
    _restart(rig)
    assert [params["environmentId"] for _, params in _asked(rig)] == ["751"]


def test_a_server_that_dies_while_it_is_told_is_told_anew(rig: HubRig) -> None:
    _set(rig, 1, "skills/extraRoots/set", {"extraRoots": ["/a"]})
    _restart(rig)
    request = rig.ask(1, "skills/list")
    rig.lose()
    rig.tick(5.1)
    assert rig.hub.snapshot()["server"] == "away"
    assert not rig.got(1, "warning")
    rig.to_child.clear()
    rig.ready()
    assert _asked(rig) == [("skills/extraRoots/set", {"extraRoots": ["/a"]})]
    rig.answer("skills/extraRoots/set")
    rig.answer("skills/list")
    assert len(rig.answers(1, request)) == 1


def test_a_child_that_lives_on_is_not_told_again(rig: HubRig) -> None:
    _set(rig, 1, "skills/extraRoots/set", {"extraRoots": ["/a"]})
    rig.lose()
    rig.to_child.clear()
    rig.ready(same_child=True)
    assert _asked(rig) == []


@pytest.mark.parametrize("is_new_hub", [False, True])
@pytest.mark.parametrize("is_done", [False, True])
def test_a_connection_lost_before_all_was_set_again_has_it_set_again(
    rig: HubRig, is_new_hub: bool, is_done: bool
) -> None:
    _set(rig, 1, "skills/extraRoots/set", {"extraRoots": ["/a"]})
    _restart(rig)
    if is_done:
        rig.answer("skills/extraRoots/set")
    kept = rig.hub.kept
    rig.lose()
    if is_new_hub:
        rig.hub = Hub(limits=HubLimits(), id_prefix="hub-y-", endpoint="stdio://x")
        rig.do(rig.hub.restore([], rig.now, kept))
    rig.to_child.clear()
    rig.ready(same_child=True)
    assert _asked(rig) == ([] if is_done else [("skills/extraRoots/set", {"extraRoots": ["/a"]})])


@pytest.mark.real
def test_a_login_in_progress_fails(rig: HubRig, schemas: Schemas) -> None:
    rig.ask(1, "account/login/start", {"type": "chatgpt"})
    rig.answer("account/login/start", {"type": "chatgpt", "loginId": "L", "authUrl": "http://x"})
    rig.ask(2, "mcpServer/oauth/login", {"name": "github"})
    rig.answer("mcpServer/oauth/login", {"authorizationUrl": "http://x"})
    rig.lose()
    rig.ready()
    for method in ("account/login/completed", "mcpServer/oauthLogin/completed"):
        for client in (1, 2):
            (told,) = rig.got(client, method)
            schemas.check(told, None)
            assert told["params"]["success"] is False
            assert told["params"]["error"]
    assert rig.got(1, "account/login/completed")[0]["params"]["loginId"] == "L"
    assert rig.got(1, "mcpServer/oauthLogin/completed")[0]["params"]["name"] == "github"
    assert set(rig.got(1, "account/login/completed")[0]["params"]) == {
        "loginId",
        "success",
        "error",
    }
    rig.lose()
    rig.ready()
    assert len(rig.got(1, "account/login/completed")) == 1


def test_a_login_that_is_over_is_not_told_again(rig: HubRig) -> None:
    rig.ask(1, "account/login/start", {"type": "apiKey", "apiKey": "k"})
    rig.answer("account/login/start", {"type": "apiKey"})
    for number in ("done", "cancelled"):
        rig.ask(1, "account/login/start", {"type": "chatgpt"})
        rig.answer("account/login/start", {"type": "chatgpt", "loginId": number})
    rig.tell("account/login/completed", loginId="done", success=True)
    rig.ask(1, "account/login/cancel", {"loginId": "cancelled"})
    rig.answer("account/login/cancel", {"status": "canceled"})
    _restart(rig)
    assert len(rig.got(1, "account/login/completed")) == 1


def test_what_is_kept_is_bounded_for_each_client_and_told(rig: HubRig) -> None:
    _set(rig, 2, "skills/extraRoots/set", {"extraRoots": ["/of/two"]})
    for number in range(251):
        _set(rig, 1, "environment/add", {"environmentId": str(number)})
    assert len(rig.got(1, "warning")) == 1
    for number in range(3):
        big = {"environmentId": f"big-{number}", "execServerUrl": "x" * (600 << 10)}
        _set(rig, 1, "environment/add", big)
    # Too big to be kept at all.
    _set(rig, 1, "environment/add", {"environmentId": "huge", "execServerUrl": "x" * (2 << 20)})
    assert "environment/add" in rig.got(1, "warning")[-1]["params"]["message"]
    _restart(rig)
    assert _asked(rig)[0] == ("skills/extraRoots/set", {"extraRoots": ["/of/two"]})
    rig.answer("skills/extraRoots/set")
    assert rig.hub.server == "up"
    assert rig.got(2, "warning") == []


def test_many_clients_push_out_what_most_have_set(rig: HubRig) -> None:
    _set(rig, 2, "skills/extraRoots/set", {"extraRoots": ["/of/two"]})
    for client in range(3, 23):
        rig.connect(client)
        for number in range(17):
            params = {"environmentId": f"{client}-{number}", "execServerUrl": "x" * (60 << 10)}
            _set(rig, client, "environment/add", params)
    _restart(rig)
    assert _asked(rig)[0] == ("skills/extraRoots/set", {"extraRoots": ["/of/two"]})


def test_many_that_are_slow_do_not_keep_everybody_waiting(rig: HubRig) -> None:
    for number in range(5):
        _set(rig, 1, "environment/add", {"environmentId": str(number)})
    _restart(rig)
    for _ in range(2):
        rig.tick(4)
        rig.answer("environment/add")
    assert rig.hub.snapshot()["server"] == "recovering"
    rig.tick(4)
    assert rig.hub.snapshot()["server"] == "up"
    # The rest follows.
    for _ in range(3):
        rig.answer("environment/add")
    assert [params["environmentId"] for _, params in _asked(rig)] == list("01234")


def test_an_import_in_progress_is_told_as_over(rig: HubRig, schemas: Schemas) -> None:
    rig.ask(1, "externalAgentConfig/import", {"migrationItems": []})
    rig.answer("externalAgentConfig/import", {"importId": "i"})
    rig.ask(1, "externalAgentConfig/import", {"migrationItems": []})
    rig.answer("externalAgentConfig/import", {"importId": "done"})
    rig.tell("externalAgentConfig/import/completed", importId="done", itemTypeResults=[])
    _restart(rig)
    told = rig.got(2, "externalAgentConfig/import/completed")
    assert [entry["params"]["importId"] for entry in told] == ["done", "i"]
    schemas.check(told[-1], None)


def test_what_is_spoken_on_a_thread_ends_with_its_server(rig: HubRig, schemas: Schemas) -> None:
    rig.open_thread(1, "t1")
    rig.open_thread(1, "t2")
    rig.tell("thread/realtime/started", threadId="t1", version="v2")
    rig.tell("thread/realtime/started", threadId="t2", version="v2")
    rig.tell("thread/realtime/closed", threadId="t2", reason=None)
    _restart(rig)
    assert rig.got(2, "thread/realtime/closed") == []
    told = rig.got(1, "thread/realtime/closed")
    assert [entry["params"]["threadId"] for entry in told] == ["t2", "t1"]
    schemas.check(told[-1], None)


TOKENS = {"type": "chatgptAuthTokens", "accessToken": "t", "chatgptAccountId": "a"}


def _logs_in(rig: HubRig, **params: Any) -> None:
    rig.ask(1, "account/login/start", params)
    rig.answer("account/login/start", {"type": params["type"]})


def test_tokens_that_the_server_has_in_memory_alone_are_given_again(rig: HubRig) -> None:
    _logs_in(rig, **TOKENS)
    _logs_in(rig, **{**TOKENS, "accessToken": "newer"})
    rig.tell("account/login/completed", loginId=None, success=True)
    _restart(rig)
    wanted = [("account/login/start", {**TOKENS, "accessToken": "newer"})]
    assert _asked(rig) == wanted
    rig.answer("account/login/start", {"type": "chatgptAuthTokens"})
    assert rig.hub.snapshot()["server"] == "up"
    # Who brought them may have left.
    rig.leave(1)
    _restart(rig)
    assert _asked(rig) == wanted


@pytest.mark.parametrize("how", ["logout", "key", "browser", "refused"])
def test_tokens_that_are_not_in_force_any_more_are_not_given_again(rig: HubRig, how: str) -> None:
    if how == "refused":
        rig.ask(1, "account/login/start", TOKENS)
        rig.answer("account/login/start", error={"code": -32603, "message": "no"})
    else:
        _logs_in(rig, **TOKENS)
    if how == "logout":
        _set(rig, 2, "account/logout", {})
    elif how == "key":
        _logs_in(rig, type="apiKey", apiKey="k")
    elif how == "browser":
        rig.tell("account/login/completed", loginId="failed", success=False)
        rig.tell("account/login/completed", loginId="L", success=True)
    _restart(rig)
    assert _asked(rig) == []


def test_a_hub_is_unused_until_there_is_something_for_the_next_child_to_know() -> None:
    rig = HubRig()
    rig.do(rig.hub.client_opened(1, rig.now))
    assert rig.hub.is_unused
    rig.connect(1)
    assert not rig.hub.is_unused
    _set(rig, 1, "skills/extraRoots/set", {"extraRoots": ["/a"]})
    rig.leave(1)
    assert not rig.hub.is_unused
    rig = HubRig()
    rig.tell("thread/started", thread={"id": "t1"})
    assert not rig.hub.is_unused
    rig.tell("thread/closed", threadId="t1")
    assert rig.hub.is_unused
