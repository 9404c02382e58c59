"""Approvals over HTTP, on the real codex: answered by whoever is first, or by a command."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.codex import short_directory
from tests.support.http import Reply, ask
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply as ModelReply
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

APPROVAL = "item/commandExecution/requestApproval"
CALL = {
    "cmd": "true",
    "login": False,
    "sandbox_permissions": "require_escalated",
    "justification": "why",
}
PATCH = "*** Begin Patch\n*** Add File: made.txt\n+one\n*** End Patch"


@pytest.fixture(scope="module")
def hook() -> Any:
    """A command for approvals: notes what it is told, and says what the file `says` holds."""
    with short_directory() as directory:
        script = directory / "hook"
        script.write_text(
            f"cd '{directory}'\n"
            'printf "%s %s\\n" "$CODEXD_APPROVAL_KIND" "$CODEXD_APPROVAL_ID" >> asked\n'
            "cat >> details; echo >> details\n"
            "cat says 2>/dev/null || true\n"
        )
        yield directory


@pytest.fixture(scope="module")
def room(make_room: MakeRoom, hook: Path) -> HubRoom:
    return make_room(
        "--approval-command",
        f"sh '{hook}/hook'",
        approval_policy='"on-request"',
        sandbox_mode='"read-only"',
    )


def api(room: HubRoom, method: str, target: str, body: Any = None) -> Reply:
    return ask(room.box.config.runtime.hub_socket_path, method, target, body)


class Turn:
    """A turn over HTTP that asks for leave; ``end`` is how it ended."""

    def __init__(self, room: HubRoom, call: tuple[str, dict[str, Any]]) -> None:
        self.room = room
        made = api(room, "POST", "/v1/threads", {"cwd": str(room.root)})
        self.thread_id = made.document["threadId"]
        self.session_id = made.document["sessionId"]
        room.model.queue.append(ModelReply(call=call))
        self.end: dict[str, Any] = {}
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        target = f"/v1/threads/{self.thread_id}/turns?wait=60"
        self.end = api(self.room, "POST", target, {"input": "go"}).document

    def waiting(self) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            target = f"/v1/approvals?threadId={self.thread_id}"
            found: list[dict[str, Any]] = api(self.room, "GET", target).document["approvals"]
            return found

        (approval,) = eventually(look, what="an approval")
        return approval

    def ended(self) -> str:
        self.thread.join(30)
        return str(self.end["status"])


def test_a_turn_over_http_waits_for_leave_that_another_terminal_gives(
    room: HubRoom, hook: Path
) -> None:
    turn = Turn(room, ("exec_command", CALL))
    approval = turn.waiting()
    assert approval["kind"] == "commandExecution"
    assert approval["sessionId"] == turn.session_id
    assert "true" in approval["summary"]["command"]
    assert approval["summary"]["reason"] == "why"
    assert "accept" in approval["decisions"]
    target = f"/v1/approvals/{approval['approvalId']}"
    assert api(room, "GET", target).document == approval
    wrong = api(room, "POST", target, {"decision": "perhaps"})
    assert (wrong.status, wrong.document["field"]) == (400, "decision")
    given = api(room, "POST", target, {"decision": "accept"})
    assert (given.status, given.document["decision"]) == (200, "accept")
    late = api(room, "POST", target, {"decision": "decline"})
    assert (late.status, late.document["reason"]) == (409, "answered")
    assert api(room, "GET", target).status == 404
    assert turn.ended() == "completed"
    detail = room.event("approval.resolved", approvalId=approval["approvalId"])["detail"]
    assert detail["reason"] == "answered"
    # The command was told, and said nothing.
    assert f"commandExecution {approval['approvalId']}\n" in (hook / "asked").read_text()
    told = [json.loads(line) for line in (hook / "details").read_text().splitlines()]
    assert told[-1]["summary"] == approval["summary"]
    # What it is about is in no file of ours.
    for path in (room.box.logs_dir / "events.jsonl", room.box.state_dir / "recent-events.json"):
        assert "why" not in path.read_text()


def test_what_would_be_changed_is_shown(room: HubRoom) -> None:
    turn = Turn(room, ("exec_command", {"cmd": f"apply_patch <<'X'\n{PATCH}\nX", "login": False}))
    approval = turn.waiting()
    assert approval["kind"] == "fileChange"
    (file,) = approval["summary"]["files"]
    assert file["path"].endswith("made.txt")
    assert "one" in file["diff"]
    target = f"/v1/approvals/{approval['approvalId']}"
    assert api(room, "POST", target, {"decision": "decline"}).status == 200
    assert turn.ended() == "completed"
    assert not (room.root / "made.txt").exists()


def test_a_client_and_http_ask_for_the_same_leave(room: HubRoom) -> None:
    turn = Turn(room, ("exec_command", CALL))
    approval = turn.waiting()
    client = room.client("editor")
    client.call("thread/resume", {"threadId": turn.thread_id, "excludeTurns": True})
    asked = client.wait_for(lambda message: message.get("method") == APPROVAL)
    target = f"/v1/approvals/{approval['approvalId']}"
    assert api(room, "POST", target, {"decision": "accept"}).status == 200
    assert client.notification("serverRequest/resolved")["requestId"] == asked["id"]
    assert turn.ended() == "completed"

    turn = Turn(room, ("exec_command", CALL))
    approval = turn.waiting()
    client.call("thread/resume", {"threadId": turn.thread_id, "excludeTurns": True})
    second = client.wait_for(
        lambda message: message.get("method") == APPROVAL and message["id"] != asked["id"]
    )
    client.send({"id": second["id"], "result": {"decision": "decline"}})
    assert turn.ended() == "completed"
    target = f"/v1/approvals/{approval['approvalId']}"
    assert api(room, "POST", target, {"decision": "accept"}).status == 409


def test_the_command_decides_if_it_says_so(room: HubRoom, hook: Path) -> None:
    (hook / "says").write_text("accept\n")
    try:
        turn = Turn(room, ("exec_command", CALL))
        assert turn.ended() == "completed"
    finally:
        (hook / "says").unlink()
    assert api(room, "GET", "/v1/approvals").document == {"approvals": [], "next": None}


def test_what_waits_is_gone_with_the_server(room: HubRoom) -> None:
    turn = Turn(room, ("exec_command", CALL))
    approval = turn.waiting()
    room.kill_child()
    assert turn.ended() == "interrupted"
    detail = room.event("approval.resolved", approvalId=approval["approvalId"])["detail"]
    assert detail["reason"] == "server-gone"
    late = api(room, "POST", f"/v1/approvals/{approval['approvalId']}", {"decision": "accept"})
    assert (late.status, late.document["reason"]) == (409, "server-gone")
    unknown = api(room, "POST", "/v1/approvals/approval-none", {"decision": "accept"})
    assert unknown.status == 404
