"""What `codexd run` and its like show and understand, without a daemon."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from codexd.cli.approval_text import details, gist
from codexd.cli.desk import AnswerAll, AskOnTerminal, Verdict
from codexd.cli.exec_fallback import ExecOrder, exec_command
from codexd.cli.ids import find_id, shortened
from codexd.cli.kin import Kin
from codexd.cli.nouns import NounGroup
from codexd.cli.options import CliError
from codexd.cli.printer import Printer, Unwritable, write
from codexd.cli.run import run
from codexd.cli.server_ready import why_no_server, why_not_ready
from codexd.cli.sessions import sessions
from codexd.cli.terminal import local_time
from codexd.cli.transcript import Note, Said, Transcript, error_text, item_line, seconds
from codexd.client import Client, DaemonAway
from codexd.config import resolve
from codexd.shapes import Approval, Session

IDS = ["session-mwwk2sfo-4qdc9w", "session-mwwk2qip-hianjr", "session-mxxk2qip-aaaajr"]


@pytest.mark.parametrize(
    ("typed", "index"),
    [(IDS[0], 0), ("4qdc9w", 0), ("w", 0), ("hianjr", 1), ("mxx", 2), ("session-mx", 2)],
)
def test_an_id_is_found_by_either_end(typed: str, index: int) -> None:
    assert find_id(typed, IDS, "session") == IDS[index]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("jr", ["2 sessions", IDS[1], IDS[2]]),
        ("zz", ["no session", "codexd sessions"]),
        ("", ["no session"]),
        ("\x1b[2J", ["\\x1b"]),
    ],
)
def test_an_id_that_is_none_or_several_is_one_line(typed: str, words: list[str]) -> None:
    with pytest.raises(CliError) as refused:
        find_id(typed, IDS, "session")
    assert "\n" not in str(refused.value)
    assert all(word in str(refused.value) for word in words)


def test_ids_are_short_and_still_tell_each_other_apart() -> None:
    assert [shortened(IDS)(id_) for id_ in IDS] == ["4qdc9w", "hianjr", "aaaajr"]
    alike = ["a-1234567", "b-1234567"]
    short = shortened(alike)
    assert [find_id(short(id_), alike, "thread") for id_ in alike] == alike
    assert shortened([])("-") == "-"


@pytest.mark.parametrize(
    ("args", "verb"),
    [
        ([], "list"),
        (["--json"], "list"),
        (["--status", "close"], "list"),
        (["--repo-root", "/x", "show", "id"], "show"),
        (["show", "--json", "id"], "show"),
    ],
)
def test_without_a_verb_it_is_the_list(
    args: list[str], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def take(self: click.Group, ctx: click.Context, args: list[str]) -> list[str]:
        del self, ctx
        taken.extend(args)
        return args

    monkeypatch.setattr(click.Group, "parse_args", take)
    assert isinstance(sessions, NounGroup)
    sessions.parse_args(click.Context(sessions), args)
    assert taken[0] == verb
    assert sorted(taken) == sorted({*args, verb})


def heard(*notifications: dict[str, Any]) -> list[Said | Note]:
    transcript = Transcript("/w", clock=iter([1.0, 3.5]).__next__)
    return [shown for message in notifications for shown in transcript.hear(message)]


def delta(text: str, id_: str = "m") -> dict[str, Any]:
    return {"method": "item/agentMessage/delta", "params": {"itemId": id_, "delta": text}}


def completed(**item: Any) -> dict[str, Any]:
    return {"method": "item/completed", "params": {"item": item}}


def started(**item: Any) -> dict[str, Any]:
    return {"method": "item/started", "params": {"item": item}}


def message(text: str, id_: str = "m") -> dict[str, Any]:
    return completed(type="agentMessage", id=id_, text=text)


@pytest.mark.parametrize(
    ("notifications", "said"),
    [
        ([delta("one "), delta("two"), message("one two")], "one two\n"),
        ([delta("one\n"), message("one\n")], "one\n"),
        # What was not heard comes with the end, and nothing comes twice.
        ([message("all of it")], "all of it\n"),
        ([delta("all"), message("all of it"), message("all of it")], "all of it\n"),
        ([delta("a", "1"), delta("b", "2"), message("b", "2")], "a\nb\n"),
        ([delta("\x1b[2Jx\x1b]0;t\x07")], "x"),
        ([{"method": "item/completed"}, {"method": "error", "params": {}}, {}], ""),
    ],
)
def test_what_the_agent_says(notifications: list[dict[str, Any]], said: str) -> None:
    assert "".join(shown.text for shown in heard(*notifications)) == said


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (
            {
                "type": "commandExecution",
                "command": "/bin/sh -c 'ls'",
                "commandActions": [{"type": "unknown", "command": "ls"}],
                "status": "completed",
                "exitCode": 0,
                "durationMs": 1234,
            },
            "$ ls (1.2 s)",
        ),
        (
            {
                "type": "commandExecution",
                "command": "a\nb\x1b",
                "status": "failed",
                "exitCode": 2,
                "durationMs": 61_000,
            },
            "$ a\\nb\\x1b (exit 2, 1 min 1 s)",
        ),
        (
            {
                "type": "fileChange",
                "status": "completed",
                "changes": [
                    {
                        "path": "a.py",
                        "kind": {"type": "update"},
                        "diff": "--- a\n+++ a\n-x\n+y\n+z",
                    },
                    {"path": "b", "kind": {"type": "add"}, "diff": "one\ntwo\n"},
                ],
            },
            "± a.py +2 -1, b +2",
        ),
        ({"type": "fileChange", "status": "declined", "changes": []}, "±  (declined)"),
        ({"type": "fileChange", "changes": 7}, "± "),
        ({"type": "commandExecution", "command": "ls", "commandActions": 7}, "$ ls"),
        ({"type": "mcpToolCall", "server": "s", "tool": "t", "status": "failed"}, "→ s.t (failed)"),
        ({"type": "webSearch", "query": "why"}, "→ search: why"),
        ({"type": "reasoning"}, None),
        ({}, None),
    ],
)
def test_a_line_for_what_it_did(item: dict[str, Any], line: str | None) -> None:
    assert item_line(item) == line


def test_what_does_not_tell_how_long_it_took_is_timed() -> None:
    files = [{"path": "/w/a", "diff": "+x"}, {"path": "/v/a", "diff": ""}]
    change = {"type": "fileChange", "id": "f", "changes": files, "status": "completed"}
    (note,) = heard(started(**change), completed(**change))
    assert note == Note("± a +1 -0, /v/a +0 -0 (2.5 s)", True)


def test_that_the_server_tries_again_is_told() -> None:
    params = {"willRetry": True, "error": {"message": "no\nanswer"}}
    assert heard({"method": "error", "params": params}) == [
        Note("no answer. It is tried again.", False)
    ]
    assert error_text(None) == "It is not said why."
    assert seconds(0) == "0.0 s"


def approval(kind: str, decisions: list[str] | None = None, **summary: Any) -> Approval:
    return Approval(
        approval_id="approval-1",
        kind=kind,
        thread_id="t",
        session_id=None,
        turn_id=None,
        item_id=None,
        since="2026-01-01T00:00:00.000Z",
        summary=summary,
        decisions=["accept", "decline"] if decisions is None else decisions,
    )


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (approval("commandExecution", command="rm\n-rf", cwd="/x"), "rm\\n-rf"),
        (approval("execCommand", command=["echo", "a b"]), "echo 'a b'"),
        (approval("fileChange", files=[{"path": "a"}, {"path": "b"}], reason="r"), "a, b"),
        (approval("permissions", permissions={"network": True}), '{"permissions": {"network"'),
        (approval("elicitation", message="Who?"), "Who?"),
    ],
)
def test_what_is_asked_for_in_a_line(asked: Approval, line: str) -> None:
    assert gist(asked).startswith(line)


def test_all_that_one_must_see_is_there_and_nothing_is_hidden() -> None:
    def plain(text: str, *styles: str) -> str:
        del styles
        return text

    asked = approval("commandExecution", command="ls\n\x1b[8mrm \u202e", cwd="/x", reason="why")
    text = "\n".join(details(asked, plain))
    assert "  $ ls\n  $ \\x1b[8mrm \\u202e\n" in text
    assert "cwd: /x" in text
    assert "reason: why" in text
    file = {"path": "a", "kind": {"type": "add"}, "diff": "+\tone\n-\x1b"}
    assert list(details(approval("fileChange", files=[file]), plain))[1:] == [
        "  add a",
        "    +    one",
        "    -\\x1b",
    ]


@pytest.mark.parametrize(
    ("decisions", "word"),
    [(["accept", "decline"], "accept"), (["decline", "cancel"], "decline"), ([], None)],
)
def test_leave_for_all_is_no_answer_to_a_question(decisions: list[str], word: str | None) -> None:
    asked = approval("userInput", decisions)
    assert AnswerAll("accept").decide(asked, lambda: True) == Verdict(word)
    declined = AnswerAll("decline", is_nobodys=True).decide(asked, lambda: True)
    assert declined == Verdict("decline" if decisions else None, is_nobodys=True)


def test_whom_a_thread_works_for() -> None:
    parents = {"child": "main", "grandchild": "child", "other": None, "a": "b", "b": "a"}

    class Threads:
        def get(self, thread_id: str) -> dict[str, Any]:
            if thread_id not in parents:
                raise DaemonAway("gone")
            return {"parentThreadId": parents[thread_id]}

    client = Client(socket_path="/none")
    client.threads = Threads()  # type: ignore[assignment]
    kin = Kin(client)
    found = [name for name in (*parents, "main", "gone", None) if kin.works_for(name, "main")]
    assert found == ["child", "grandchild", "main"]


def test_the_command_line_of_codex_exec() -> None:
    order = ExecOrder("-p", "/w", "id", "m", True, "s.json")
    assert exec_command("codex", order) == [
        *("codex", "exec", "--skip-git-repo-check", "-C", "/w", "-m", "m", "--json"),
        *("--output-schema", "s.json", "resume", "id", "-"),
    ]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"hub": {"ready": True}}, None),
        ({}, None),
        ({"hub": {"ready": False}}, "it is not ready."),
        (
            {
                "hub": {"ready": False},
                "daemon": {"child": {"status": "failed", "lastError": "no such command"}},
            },
            "it is failed: no such command.",
        ),
        (
            {"hub": {"ready": False}, "daemon": {"child": {"status": "running"}}},
            "it does not answer yet.",
        ),
        (
            {
                "hub": {"ready": False},
                "daemon": {"child": {"status": "external", "endpoint": "unix:///s"}},
            },
            "it does not answer on unix:///s.",
        ),
    ],
)
def test_why_a_server_is_waited_for(status: dict[str, Any], reason: str | None) -> None:
    assert why_not_ready(status) == reason


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_is_told_may_be_lost_and_what_is_said_not(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    # Unbuffered: nothing is left to be written at the end.
    stream = io.TextIOWrapper(open(writer, "wb", buffering=0))  # noqa: SIM115
    monkeypatch.setattr("codexd.cli.printer.discard_stderr", lambda: None)
    monkeypatch.setattr(sys, name, stream)
    printer = Printer()
    with stream:
        if name == "stderr":
            printer.tell("the server is waited for")
            write("said")
            assert capfd.readouterr().out == "said"
        else:
            with pytest.raises(Unwritable, match="nobody reads"):
                write("said")


def test_a_child_that_is_no_app_server_is_not_waited_for(tmp_path: Path) -> None:
    config = resolve({"mode": "exec"}, {}, cwd=str(tmp_path))
    assert "--mode exec" in str(why_no_server(Client(socket_path="/nowhere"), config))


def test_a_prompt_without_end_is_not_read_for_ever() -> None:
    result = CliRunner().invoke(run, ["-"], input=b"a" * ((1 << 20) + 1))
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    assert "1048576 bytes" in result.stderr


def test_a_terminal_shows_the_newest_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [
        Session(
            session_id=f"session-{number:06}",
            purpose="worker",
            thread_id=None,
            status="active",
            endpoint="",
            child_pid=None,
            created_at="2026-11-25T21:06:51.000Z",
            updated_at="2026-11-25T21:06:51.000Z",
            metadata={},
        )
        for number in range(25)
    ]
    monkeypatch.setattr("codexd.cli.sessions._sessions", lambda _: known)
    piped = CliRunner().invoke(sessions, [])
    assert len(piped.stdout.splitlines()) == 25
    monkeypatch.setattr("codexd.cli.nouns.is_terminal", lambda *_: True)
    monkeypatch.setattr("codexd.cli.sessions.is_terminal", lambda *_: True)
    _, *rows, more = CliRunner().invoke(sessions, []).stdout.splitlines()
    assert [row.split()[0] for row in rows] == [f"{number:06}" for number in range(20)]
    assert more == "and 5 more: `codexd sessions --last 25`"
    assert len(CliRunner().invoke(sessions, ["--last", "25"]).stdout.splitlines()) == 26
    (created,) = (
        line
        for line in CliRunner().invoke(sessions, ["show", "000003"]).stdout.splitlines()
        if line.startswith("created")
    )
    assert created.split()[1:] == local_time(known[3].created_at).split()


def test_who_sits_at_the_terminal_decides_or_somebody_else_does() -> None:
    reader, writer = os.pipe()
    try:
        said: list[str] = []
        desk = AskOnTerminal(reader, said.append, lambda: False)
        os.write(writer, b"\nno idea\nn\n")
        asked = approval("commandExecution", ["accept", "decline"], command="ls")
        assert desk.decide(asked, lambda: True) == Verdict("decline")
        # A kind that this codexd does not know takes no word.
        assert desk.decide(approval("new", []), lambda: True) == Verdict(None)
        assert "over the protocol only" in said[-1]
        # Nobody answers any more.
        os.close(writer)
        assert desk.decide(asked, lambda: True) == Verdict("decline", is_nobodys=True)
        # It is not asked any more; or the turn is being interrupted.
        reader2, writer2 = os.pipe()
        idle = AskOnTerminal(reader2, said.append, lambda: False)
        assert idle.decide(asked, lambda: False).word is None
        stopped = AskOnTerminal(reader2, said.append, lambda: True)
        assert stopped.decide(asked, lambda: True).word is None
        os.close(reader2)
        os.close(writer2)
    finally:
        os.close(reader)
