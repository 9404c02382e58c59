"""The user's command for approvals: what it is told, and that it decides no more than it says."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from codexd.hub.approvals import AlreadyDecided, UnknownApproval, WaitingApproval
from codexd.keeper import approval_hook as module
from codexd.keeper.approval_hook import ApprovalHook
from codexd.shapes import Decision


class Desk:
    """Knows every approval but those that are over."""

    def __init__(self) -> None:
        self.over: dict[str, Exception] = {}
        self.decided: dict[str, Decision] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def approval(self, approval_id: str) -> WaitingApproval:
        if approval_id in self.over:
            raise self.over[approval_id]
        return WaitingApproval(
            approval_id,
            "commandExecution",
            "t",
            "u",
            "i",
            "2026-01-01T00:00:00.000Z",
            {"command": "rm -r x"},
            ("accept", "decline"),
        )

    def decide(self, approval_id: str, decision: Decision) -> None:
        self.approval(approval_id)
        self.decided[approval_id] = decision

    def session_of(self, thread_id: str) -> str | None:
        return f"session-of-{thread_id}"

    def record(self, level: str, type_: str, message: str, detail: dict[str, Any]) -> None:
        assert level == "warn"
        assert "\n" not in message
        assert ("still waits" in message) == (detail["approvalId"] not in self.over)
        self.events.append((type_, detail))


Act = Callable[[Desk, ApprovalHook], Awaitable[None]]


def play(command: str, act: Act, *, timeout_s: float = 20.0) -> Desk:
    async def main() -> Desk:
        desk = Desk()
        environ = {"PATH": os.environ["PATH"]}
        hook = ApprovalHook(command, timeout_s, environ, desk, desk.record)
        await act(desk, hook)
        await hook.stop()
        return desk

    return asyncio.run(asyncio.wait_for(main(), 30))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_it_is_told_what_it_is_about(tmp_path: Path) -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        hook.requested("a")
        await until((tmp_path / "done").exists)
        del desk

    command = f"env > {tmp_path}/env; cat > {tmp_path}/in; touch {tmp_path}/done"
    desk = play(command, act)
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert (told["CODEXD_APPROVAL_ID"], told["CODEXD_APPROVAL_KIND"]) == ("a", "commandExecution")
    assert (told["CODEXD_THREAD_ID"], told["CODEXD_TURN_ID"]) == ("t", "u")
    assert told["CODEXD_SESSION_ID"] == "session-of-t"
    details = json.loads((tmp_path / "in").read_text())
    assert details["summary"] == {"command": "rm -r x"}
    assert not [value for value in told.values() if "rm -r" in value]
    assert (desk.decided, desk.events) == ({}, [])


@pytest.mark.parametrize("word", ["accept", "decline"])
def test_it_decides_where_its_output_says_so(word: str) -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        hook.requested("a")
        await until(lambda: desk.decided)

    assert play(f"echo; echo ' {word} '", act).decided == {"a": word}


@pytest.mark.parametrize(
    "command",
    [
        "true",
        "echo yes",
        "echo acceptable",
        "echo 'I would not accept'",
        "echo 'accept, says the agent'",
        "echo accept; echo decline",
        "head -c 9999999 /dev/zero",
    ],
)
def test_it_decides_nothing_where_its_output_says_nothing(command: str) -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        hook.requested("a")
        await until(lambda: not hook._tasks)
        del desk

    desk = play(command, act)
    assert (desk.decided, desk.events) == ({}, [])


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo accept; exit 3", "it ended with code 3"),
        ("echo accept; kill -9 $$", "it ended with signal 9"),
        ("/no/such/command", "it ended with code 127"),
        ("exec sleep 60", "it was not done after 0.3 s, and was ended"),
        ("sleep 60 & echo accept", "it was not done after 0.3 s, and was ended"),
    ],
)
def test_a_command_that_fails_is_recorded_and_decides_nothing(command: str, reason: str) -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        hook.requested("a")
        await until(lambda: desk.events)

    desk = play(command, act, timeout_s=0.3 if "sleep" in command else 20)
    assert desk.events == [("approval.command.failed", {"approvalId": "a", "reason": reason})]
    assert desk.decided == {}


@pytest.mark.parametrize("error", [AlreadyDecided("answered"), UnknownApproval("a")])
def test_somebody_who_was_quicker_is_no_failure(error: Exception, tmp_path: Path) -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        hook.requested("a")
        await until((tmp_path / "began").exists)
        desk.over["a"] = error
        (tmp_path / "go").touch()
        await until(lambda: not hook._tasks)

    wait = f"touch {tmp_path}/began; until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo accept"
    desk = play(wait, act)
    assert (desk.decided, desk.events) == ({}, [])
    for name in ("began", "go"):
        (tmp_path / name).unlink()
    reason = "it ended with code 3"
    failed = ("approval.command.failed", {"approvalId": "a", "reason": reason})
    assert play(f"{wait}; exit 3", act).events == [failed]


def test_never_more_than_a_few_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAITING", 8)

    async def act(desk: Desk, hook: ApprovalHook) -> None:
        for number in range(10):
            hook.requested(str(number))
        await until(lambda: len(list(tmp_path.glob("began-*"))) == 4)
        await asyncio.sleep(0.1)
        assert len(list(tmp_path.glob("began-*"))) == 4
        (tmp_path / "go").touch()
        await until(lambda: not hook._tasks)
        assert len(list(tmp_path.glob("began-*"))) == 8
        assert [detail["approvalId"] for _, detail in desk.events] == ["8", "9"]

    wait = f"touch {tmp_path}/began-$CODEXD_APPROVAL_ID; "
    play(wait + f"until [ -e {tmp_path}/go ]; do sleep 0.01; done", act)


def test_it_goes_with_the_plugin(tmp_path: Path) -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        del desk
        hook.requested("a")
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())

    play(f"echo $$ > {tmp_path}/pid; sleep 60", act)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_without_a_command_nothing_runs() -> None:
    async def act(desk: Desk, hook: ApprovalHook) -> None:
        del desk
        hook.requested("a")
        assert not hook._tasks

    play("", act)
