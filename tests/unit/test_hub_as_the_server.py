"""What each client is told and refused, as the server itself does it for each connection."""

from __future__ import annotations

import subprocess

import pytest

from codexd.hub import experimental_tables
from tests.support import make_experimental
from tests.support.codex import codex_path
from tests.support.hub import HubRig

RATES = "account/rateLimits/updated"
USAGE = "thread/tokenUsage/updated"
CLEARED = "thread/goal/cleared"
RESOLVED = "serverRequest/resolved"


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    for client in (1, 2, 3):
        rig.connect(client)
    rig.open_thread(1, "t1")
    rig.open_thread(2, "t2")
    for client in (1, 2, 3):
        rig.to_client[client].clear()
    return rig


def _who_got(rig: HubRig, method: str) -> list[int]:
    return [client for client in (1, 2, 3) if rig.got(client, method)]


def test_rate_limits_go_to_those_of_the_turn_that_was_told_just_before(rig: HubRig) -> None:
    rig.run_turn(1, "t1", "u1")
    rig.run_turn(2, "t2", "u2")
    rig.tell(USAGE, threadId="t2", turnId="u2", tokenUsage={})
    rig.tell(RATES, rateLimits={})
    assert _who_got(rig, RATES) == [2]


def test_rate_limits_alone_go_to_those_with_a_turn(rig: HubRig) -> None:
    rig.run_turn(1, "t1", "u1")
    rig.tell(RATES, rateLimits={})
    assert _who_got(rig, RATES) == [1]


def test_rate_limits_of_nobodys_turn_go_to_everybody(rig: HubRig) -> None:
    rig.tell(RATES, rateLimits={})
    assert _who_got(rig, RATES) == [1, 2, 3]


def test_everybody_hears_that_a_goal_was_cleared(rig: HubRig) -> None:
    rig.tell(CLEARED, threadId="t1")
    assert _who_got(rig, CLEARED) == [1, 2, 3]


def test_what_follows_a_resume_of_the_hubs_own_is_for_the_subscribers(rig: HubRig) -> None:
    rig.lose()
    rig.ready()
    rig.answer("thread/resume", {"thread": {"id": "t2"}})
    rig.tell(CLEARED, threadId="t2")
    assert _who_got(rig, CLEARED) == [2]
    rig.tick(3)
    rig.tell(CLEARED, threadId="t2")
    assert _who_got(rig, CLEARED) == [1, 2, 3]


def test_everybody_hears_that_a_thread_changed_its_section(rig: HubRig) -> None:
    rig.tell("thread/section/changed", threadId="t1", sectionId="s")
    assert _who_got(rig, "thread/section/changed") == [1, 2, 3]


def test_who_has_a_thread_reviewed_hears_of_it(rig: HubRig) -> None:
    asked = rig.ask(3, "thread/guardianReview", {"threadId": "t1"})
    rig.tell("item/started", threadId="t1", turnId="u", item={})
    rig.answer("thread/guardianReview", {"callId": "c", "assessment": None})
    rig.tell("item/completed", threadId="t1", turnId="u", item={})
    assert _who_got(rig, "item/started") == [1, 3]
    assert _who_got(rig, "item/completed") == [1, 3]
    assert rig.answers(3, asked)
    # Its answer does not name the thread; the server has loaded it all the same.
    rig.ask(3, "thread/guardianReview", {"threadId": "t9"})
    rig.answer("thread/guardianReview", {"callId": "c", "assessment": None})
    assert rig.sessions["t9"].status == "active"


def test_who_is_refused_a_review_hears_nothing_of_the_thread(rig: HubRig) -> None:
    rig.ask(3, "thread/guardianReview", {"threadId": "t1"})
    rig.answer("thread/guardianReview", error={"code": -32600, "message": "thread not found: t1"})
    rig.tell("item/completed", threadId="t1", turnId="u", item={})
    assert _who_got(rig, "item/completed") == [1]


def test_a_resolved_request_is_told_as_it_came_but_for_the_id(rig: HubRig) -> None:
    method = "item/commandExecution/requestApproval"
    rig.child({"id": 9, "method": method, "params": {"threadId": "t1"}})
    rig.child(
        {
            "method": RESOLVED,
            "params": {"threadId": "t1", "requestId": 9},
            "emittedAtMs": 77,
            "new": True,
        }
    )
    asked = rig.got(1, method)[0]["id"]
    assert rig.got(1, RESOLVED) == [
        {
            "method": RESOLVED,
            "params": {"threadId": "t1", "requestId": asked},
            "emittedAtMs": 77,
            "new": True,
        }
    ]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_turns_end_tells_nothing_of_a_tool_call(rig: HubRig, *, is_answered: bool) -> None:
    rig.run_turn(1, "t1", "u1")
    rig.child({"id": 9, "method": "item/tool/call", "params": {"threadId": "t1"}})
    if is_answered:
        request = rig.got(1, "item/tool/call")[0]
        rig.say(1, {"id": request["id"], "result": {"contentItems": [], "success": True}})
    rig.end_turn("t1", "u1")
    assert rig.got(1, RESOLVED) == []


def test_what_the_hub_tells_itself_says_when(rig: HubRig) -> None:
    rig.run_turn(1, "t1", "u1")
    rig.lose()
    rig.ready()
    assert rig.got(1, "turn/completed")[0]["emittedAtMs"] > 1_700_000_000_000


# -- experimentalApi ---------------------------------------------------------------------------


@pytest.fixture
def plain(rig: HubRig) -> HubRig:
    rig.leave(3)
    rig.connect(3, experimentalApi=False)
    rig.to_client[3].clear()
    return rig


@pytest.mark.parametrize(
    ("method", "params", "what"),
    [
        ("mock/experimentalMethod", {}, "mock/experimentalMethod"),
        ("thread/start", {"mockExperimentalField": "x"}, "thread/start.mockExperimentalField"),
        ("thread/start", {"dynamicTools": []}, "thread/start.dynamicTools"),
        ("thread/start", {"experimentalRawEvents": True}, "thread/start.experimentalRawEvents"),
    ],
)
def test_a_plain_client_is_refused(
    plain: HubRig, method: str, params: dict[str, object], what: str
) -> None:
    before = len(plain.to_child)
    asked = plain.ask(3, method, params)
    message = f"{what} requires experimentalApi capability"
    expected = {"error": {"code": -32600, "message": message}, "id": asked}
    assert plain.answers(3, asked) == [expected]
    assert len(plain.to_child) == before


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("thread/start", {"cwd": "/w", "mockExperimentalField": None}),
        ("thread/start", {"experimentalRawEvents": False}),
        ("thread/newer", {"newer": True}),
        ("thread/resume", "no params"),
    ],
)
def test_a_plain_clients_other_requests_go(plain: HubRig, method: str, params: object) -> None:
    plain.ask(3, method, params)
    assert plain.asked(method)["params"] == params


def test_one_that_declared_it_is_not_refused(rig: HubRig) -> None:
    rig.ask(3, "mock/experimentalMethod", {})
    assert rig.asked("mock/experimentalMethod")


def test_a_plain_client_does_not_get_experimental_notifications(plain: HubRig) -> None:
    plain.join_thread(3, "t1")
    plain.tell("thread/settings/updated", threadId="t1", threadSettings={})
    plain.tell("thread/realtime/error", threadId="t1", message="x")
    plain.tell("turn/diff/updated", threadId="t1", turnId="u", diff="")
    assert _who_got(plain, "thread/settings/updated") == [1]
    assert _who_got(plain, "thread/realtime/error") == [1]
    assert _who_got(plain, "turn/diff/updated") == [1, 3]


@pytest.mark.real
def test_the_tables_say_what_the_bundled_codex_says() -> None:
    binary = codex_path()
    stable, whole = make_experimental.both(binary)
    methods, fields = make_experimental.differences(stable, whole)
    known = {method for method, _ in make_experimental.requests(whole)}
    here = {
        method: dict(params.get("properties", {}))
        for method, params in make_experimental.requests(whole)
    }
    assert experimental_tables.METHODS & known == methods
    assert {
        method: {name: counts for name, counts in names.items() if name in here[method]}
        for method, names in experimental_tables.FIELDS.items()
    } == fields
    version = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True)
    assert version.stdout.split()[-1] in (experimental_tables.__doc__ or "")


# -- what only some clients can answer ---------------------------------------------------------

ELICITATION = "mcpServer/elicitation/request"


def _form(rig: HubRig, server_id: int = 50, mode: str = "openai/form") -> None:
    params = {"threadId": "t1", "serverName": "s", "mode": mode, "message": "m"}
    rig.child({"id": server_id, "method": ELICITATION, "params": params})


def test_a_form_goes_to_those_who_show_forms(rig: HubRig) -> None:
    rig.connect(4, extensions={"openai/form": {}})
    rig.join_thread(2, "t1")
    rig.join_thread(4, "t1")
    before = len(rig.to_child)
    _form(rig)
    assert [client for client in (1, 2, 4) if rig.got(client, ELICITATION)] == [4]
    # Nor is anything answered for those who do not.
    rig.leave(1)
    assert rig.to_child[before:] == []


def test_a_form_that_nobody_shows_is_declined(rig: HubRig) -> None:
    _form(rig)
    assert rig.got(1, ELICITATION) == []
    assert {"id": 50, "result": {"action": "decline", "content": None}} in rig.to_child


def test_a_form_is_declined_when_the_one_who_shows_it_leaves(rig: HubRig) -> None:
    rig.connect(4, mcpServerOpenaiFormElicitation=True)
    rig.join_thread(4, "t1")
    _form(rig)
    before = len(rig.to_child)
    rig.leave(4)
    assert rig.to_child[before:] == [{"id": 50, "result": {"action": "decline", "content": None}}]


def test_a_plain_form_goes_to_everyone(rig: HubRig) -> None:
    _form(rig, mode="form")
    assert rig.got(1, ELICITATION)


def test_attestation_is_asked_of_those_who_attest_and_of_nobody_else(rig: HubRig) -> None:
    rig.child({"id": 51, "method": "attestation/generate", "params": {}})
    assert rig.to_child[-1]["error"]["code"] == -32601
    rig.connect(4, requestAttestation=True)
    rig.child({"id": 52, "method": "attestation/generate", "params": {}})
    assert [client for client in (1, 2, 3, 4) if rig.got(client, "attestation/generate")] == [4]


def test_permissions_that_are_experimental_are_left_out_for_a_plain_client(plain: HubRig) -> None:
    plain.join_thread(3, "t1")
    method = "item/commandExecution/requestApproval"
    params = {"threadId": "t1", "additionalPermissions": {"network": True}, "command": "true"}
    plain.child({"id": 53, "method": method, "params": params})
    assert plain.got(1, method)[0]["params"] == params
    assert plain.got(3, method)[0]["params"] == {"threadId": "t1", "command": "true"}
