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


NOTICE = "deprecationNotice"
TURN = {"id": "u1", "items": [], "status": "inProgress"}


def _answer_reads(rig: HubRig) -> None:
    """codexd has new threads written down."""
    for request in [entry for entry in rig.to_child if entry["method"] == "thread/read"]:
        rig.child({"id": request["id"], "result": {}})


@pytest.mark.parametrize("method", [NOTICE, "configWarning"])
def test_a_notice_is_for_who_asked(rig: HubRig, method: str) -> None:
    _answer_reads(rig)
    rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.ask(1, "thread/list")
    rig.tell(method, summary="old")
    rig.answer("thread/resume", {"thread": {"id": "t1"}})
    assert _who_got(rig, method) == [2]
    # Nor is whoever comes later told.
    rig.connect(4)
    assert rig.got(4, method) == []


def test_a_notice_that_comes_with_a_new_thread_is_for_those_on_it(rig: HubRig) -> None:
    _answer_reads(rig)
    rig.open_thread(3, "t3")
    rig.tell(NOTICE, summary="while codexd has it written down")
    _answer_reads(rig)
    rig.tell(NOTICE, summary="and after")
    assert [len(rig.got(client, NOTICE)) for client in (1, 2, 3)] == [0, 0, 2]


def test_a_notice_of_nobodys_request_is_for_everybody(rig: HubRig) -> None:
    _answer_reads(rig)
    rig.now += 2
    rig.tell(NOTICE, summary="old")
    assert _who_got(rig, NOTICE) == [1, 2, 3]


def test_what_a_resume_is_told_of_tokens_is_for_who_resumed(rig: HubRig) -> None:
    for client in (2, 3):
        rig.join_thread(client, "t1")
    for _ in range(3):
        rig.tell(USAGE, threadId="t1", turnId="u0", tokenUsage={})
    # What nobody's resume is followed by is for all.
    assert [len(rig.got(client, USAGE)) for client in (1, 2, 3)] == [1, 2, 2]


def test_what_a_turn_takes_is_for_all_who_hear_it(rig: HubRig) -> None:
    rig.join_thread(2, "t1")
    rig.run_turn(1, "t1", "u1")
    rig.tell(USAGE, threadId="t1", turnId="u1", tokenUsage={})
    rig.end_turn("t1", "u1")
    rig.tell(USAGE, threadId="t1", turnId="u1", tokenUsage={})
    assert [len(rig.got(client, USAGE)) for client in (1, 2, 3)] == [2, 2, 0]


def test_everybody_hears_to_which_project_a_thread_belongs(rig: HubRig) -> None:
    rig.tell("thread/project/updated", threadId="t1", projectId="p")
    assert _who_got(rig, "thread/project/updated") == [1, 2, 3]


@pytest.mark.parametrize(
    "method", ["thread/revert", "thread/realtime/start", "thread/realtime/appendText"]
)
@pytest.mark.parametrize("error", [None, "turn not found: u"])
def test_who_asks_that_of_a_thread_hears_it(rig: HubRig, method: str, error: str | None) -> None:
    rig.ask(3, method, {"threadId": "t1"})
    rig.answer(method, {}, error={"code": -32600, "message": error} if error else None)
    rig.tell("item/started", threadId="t1", turnId="u", item={})
    assert _who_got(rig, "item/started") == [1, 3]


@pytest.mark.parametrize(("review_on", "hearers"), [("t1", [1]), ("t9", [3])])
def test_only_a_review_on_a_thread_of_its_own_is_heard_by_who_asked(
    rig: HubRig, review_on: str, hearers: list[int]
) -> None:
    rig.ask(3, "review/start", {"threadId": "t1", "target": {"type": "uncommittedChanges"}})
    rig.answer("review/start", {"turn": TURN, "reviewThreadId": review_on})
    rig.tell("item/started", threadId=review_on, turnId="u1", item={})
    assert _who_got(rig, "item/started") == hearers


ASK = "item/commandExecution/requestApproval"


def test_who_resumes_once_more_is_asked_once_more(rig: HubRig) -> None:
    rig.child({"id": 9, "method": ASK, "params": {"threadId": "t1"}})
    rig.join_thread(1, "t1")
    # The server asks its connection again, too.
    rig.child({"id": 9, "method": ASK, "params": {"threadId": "t1"}})
    first, again = rig.got(1, ASK)
    assert first == again
    rig.say(1, {"id": again["id"], "result": {"decision": "accept"}})
    assert rig.to_child[-1] == {"id": 9, "result": {"decision": "accept"}}


@pytest.mark.parametrize("others", [(), (2,)])
def test_who_left_a_thread_hears_no_more_of_its_questions(
    rig: HubRig, others: tuple[int, ...]
) -> None:
    rig.run_turn(1, "t1", "u1")
    for client in (3, *others):
        rig.join_thread(client, "t1")
    rig.child({"id": 9, "method": ASK, "params": {"threadId": "t1"}})
    rig.ask(3, "thread/unsubscribe", {"threadId": "t1"})
    rig.join_thread(3, "t1")
    # Back again, it is asked anew.
    assert len(rig.got(3, ASK)) == 2
    rig.ask(3, "thread/unsubscribe", {"threadId": "t1"})
    rig.tell(RESOLVED, threadId="t1", requestId=9)
    assert _who_got(rig, RESOLVED) == [1, *others]


def test_a_turns_end_is_told_before_that_of_its_questions(rig: HubRig) -> None:
    rig.run_turn(1, "t1", "u1")
    rig.child({"id": 9, "method": ASK, "params": {"threadId": "t1"}})
    rig.end_turn("t1", "u1")
    methods = [entry.get("method") for entry in rig.to_client[1]]
    assert methods[-2:] == ["turn/completed", RESOLVED]


@pytest.mark.parametrize(
    ("params", "is_named"),
    [
        ({}, True),
        ({"processId": None}, True),
        ({"tty": True}, False),
        ({"streamStdin": True}, False),
        ({"streamStdoutStderr": True}, False),
    ],
)
def test_a_command_that_is_spoken_with_needs_its_clients_own_name(
    rig: HubRig, params: dict[str, object], *, is_named: bool
) -> None:
    rig.ask(1, "command/exec", {"command": ["true"], **params})
    assert (rig.asked("command/exec")["params"].get("processId") is not None) == is_named


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
