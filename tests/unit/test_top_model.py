"""What `codexd top` makes of what it hears and of what is pressed."""

from __future__ import annotations

from typing import Any

import pytest

from codexd.cli.top.keys import Keys
from codexd.cli.top.lines import Lines
from codexd.cli.top.model import CONFIRM_S
from codexd.cli.top.restarts import DAY_S, Restarts, Turns, epoch, sparkline
from codexd.cli.top.shown import Away, Broken, Looked, Note, Past
from codexd.cli.top.thread_text import ThreadText, wrapped
from codexd.cli.tui import part_arguments
from tests.support.top import NOW, event, model, session, snapshot, thread

# -- what comes ------------------------------------------------------------------------------------


def test_messages_a_second_are_those_between_two_looks() -> None:
    seen = model()
    seen.hear(snapshot(at=10.0, messages=(100, 1000)), 10.0)
    assert seen.rates is None
    seen.hear(snapshot(at=12.0, messages=(105, 1100)), 12.0)
    assert seen.rates == (2.5, 50.0)
    # Another plugin counts from the beginning; an older one does not tell.
    seen.hear(snapshot(at=13.0, messages=(3, 4)), 13.0)
    assert seen.rates is None
    seen.hear(snapshot(at=14.0, messages=None), 14.0)
    assert seen.rates is None


def test_a_time_without_a_daemon_is_in_no_rate() -> None:
    seen = model()
    seen.hear(snapshot(at=10.0, messages=(100, 1000)), 10.0)
    seen.hear(Away("nobody"), 11.0)
    assert "nobody" in str(seen.away)
    seen.hear(snapshot(at=12.0, messages=(105, 1100)), 12.0)
    assert (seen.away, seen.rates) == (None, None)


def test_the_chosen_session_stays_the_chosen_one() -> None:
    seen = model()
    seen.hear(snapshot(sessions=[session("b"), session("a")]), 0.0)
    seen.press("down", 0.0)
    assert seen.selected == "session-a"
    seen.hear(snapshot(sessions=[session("c"), session("b"), session("a")]), 1.0)
    assert seen.selected == "session-a"
    seen.press("down", 1.0)
    assert seen.selected == "session-a"
    seen.press("up", 1.0)
    assert seen.selected == "session-b"
    for _ in range(5):
        seen.press("up", 1.0)
    assert seen.selected == "session-c"
    seen.hear(snapshot(sessions=[session("b")]), 2.0)
    assert seen.selected == "session-b"
    seen.hear(snapshot(sessions=[]), 3.0)
    seen.press("down", 3.0)
    assert seen.selected is None


def test_events_count_from_the_past_on_and_what_another_daemon_did_is_forgotten() -> None:
    seen = model()
    begun = event(1, "turn.started", threadId="s", turnId="v")
    seen.hear(Past(counted=[event(1, "child.started"), begun], recent=[begun]), 0.0)
    for fed in (event(2, "child.started"), event(3, "turn.started", threadId="t", turnId="x")):
        seen.hear(fed, 0.0)
    assert [entry.seq for entry in seen.events] == [1, 2, 3]
    assert len(seen.restarts.of_last_day(NOW.timestamp())) == 2
    states = [turn.state for thread_id in "st" if (turn := seen.turns.of(thread_id))]
    assert states == ["running", "running"]
    seen.hear(Past(counted=[], recent=[event(1, "daemon.started")]), 0.0)
    assert [entry.type for entry in seen.events] == ["daemon.started"]
    assert seen.restarts.of_last_day(NOW.timestamp()) == []
    assert seen.turns.of("t") is None


def test_that_server_and_clients_talk_is_no_news() -> None:
    seen = model()
    talk = event(3, "child.stdout", message="stdout: (protocol messages)")
    seen.hear(Past(recent=[talk]), 0.0)
    seen.hear(talk, 0.0)
    assert not seen.events


def test_what_should_never_happen_is_not_kept_quiet() -> None:
    with pytest.raises(ZeroDivisionError):
        model().hear(Broken(ZeroDivisionError()), 0.0)


# -- restarts and turns ----------------------------------------------------------------------------


def _restarts(*events: tuple[str, dict[str, Any]]) -> Restarts:
    restarts = Restarts()
    for seq, (type_, detail) in enumerate(events, start=1):
        level = "info" if detail.pop("well", False) else "error"
        restarts.hear(event(seq, type_, level=level, **detail))
    return restarts


DIED: tuple[str, dict[str, Any]] = ("child.exited", {"signal": "SIGKILL", "code": None})


@pytest.mark.parametrize(
    ("events", "count", "cause"),
    [
        ([("daemon.started", {}), ("child.started", {})], 0, None),
        # Its beginning was longer ago than a day.
        ([DIED, ("child.started", {})], 1, "killed by SIGKILL"),
        ([("child.unhealthy", {}), DIED, ("child.started", {})], 1, "it did not answer"),
        ([("child.recycling", {}), DIED, ("child.started", {})], 1, "it had too much memory"),
        (
            [("child.exited", {"code": 0, "well": True}), ("child.started", {})],
            1,
            "it was asked to end",
        ),
        (
            [("child.exited", {"code": 3, "reason": "no config"}), ("child.started", {})],
            1,
            "exit 3: no config",
        ),
        ([DIED, ("daemon.started", {}), ("child.started", {})], 0, None),
    ],
)
def test_restarts_are_counted_with_their_cause(
    events: list[tuple[str, dict[str, Any]]], count: int, cause: str | None
) -> None:
    restarts = _restarts(*((type_, dict(detail)) for type_, detail in events))
    assert len(restarts.of_last_day(NOW.timestamp())) == count
    assert restarts.last_cause == cause


def test_restarts_are_of_the_last_day_only() -> None:
    restarts = _restarts(("child.started", {}), ("child.started", {}))
    at = epoch(event(1, "child.started").created_at)
    assert at is not None
    assert restarts.histogram(at + 1, 24) == [0] * 23 + [2]
    assert restarts.histogram(at + DAY_S - 1, 24) == [2] + [0] * 23
    assert restarts.histogram(at + DAY_S, 24) == [0] * 24
    # The clock was set back.
    assert restarts.histogram(at - 10 * DAY_S, 24) == [0] * 23 + [2]


def test_turns_are_known_by_thread_the_newest_threads_only() -> None:
    turns = Turns()
    for detail in ({}, {"threadId": "t"}, {"threadId": 5, "turnId": "x"}, {"turnId": "x"}):
        turns.hear(event(1, "turn.started", **detail))
    turns.hear(event(2, "approval.requested", threadId="t", turnId="x"))
    assert (turns.of("t"), turns.of(None)) == (None, None)
    for number in range(2001):
        turns.hear(event(3, "turn.started", threadId=f"t{number}", turnId="x"))
        # It is used again and again, and so never an old one.
        turns.hear(event(4, "turn.completed", threadId="kept", turnId="x"))
    states = [turn and turn.state for turn in map(turns.of, ("t0", "t1", "t2", "t2000", "kept"))]
    assert states == [None, None, "running", "running", "completed"]


def test_a_sparkline_has_a_bar_for_each_count() -> None:
    assert sparkline([0, 1, 4, 8, 0]) == "·▁▄█·"
    assert sparkline([0, 1]) == "·█"
    assert sparkline([0, 3, 9, 10], ascii_only=True) == ".39+"
    assert sparkline([]) == ""


# -- what is pressed -------------------------------------------------------------------------------


def test_a_restart_takes_two_presses_within_a_while() -> None:
    seen = model()
    seen.hear(snapshot(), 0.0)
    assert seen.press("r", 1.0) is None
    assert "again" in seen.note(1.0)
    assert seen.press("r", 1.0 + CONFIRM_S) is None
    assert seen.press("j", 7.0) is None
    assert seen.note(7.0) == "Not restarted."
    assert seen.press("r", 8.0) is None
    assert seen.press("r", 9.0) == "restart"
    # One at a time, until it is known what became of it.
    assert seen.press("r", 9.0) is None
    assert "already" in seen.note(9.0)
    seen.hear(Note("waits", is_over=False), 9.0)
    assert seen.note(9000.0) == "waits"
    assert seen.press("r", 10.0) is None
    assert seen.press("r", 11.0) is None
    assert "already" in seen.note(11.0)
    seen.hear(Note("The server was restarted."), 12.0)
    assert seen.note(13.0) == "The server was restarted."
    assert seen.note(60.0) == ""
    assert seen.press("r", 13.0) is None
    assert seen.press("r", 14.0) == "restart"


def test_what_cannot_be_restarted_is_told() -> None:
    seen = model()
    assert (seen.press("r", 0.0), seen.press("r", 1.0)) == (None, None)
    assert "no daemon" in seen.note(1.0)
    seen.hear(snapshot(strategy="external"), 2.0)
    assert (seen.press("r", 2.0), seen.press("r", 3.0)) == (None, None)
    assert "external" in seen.note(3.0)


def test_keys_quit_help_and_come_back() -> None:
    seen = model()
    assert seen.press("q", 0.0) == "quit"
    seen.press("?", 0.0)
    assert seen.shows_help
    seen.press("back", 0.0)
    assert not seen.shows_help


def test_a_session_is_looked_into_and_read_again_when_its_turn_moves() -> None:
    seen = model()
    seen.press("enter", 0.0)
    assert (seen.look, seen.note(0.0)) == (None, "There is no session to look into.")
    seen.hear(snapshot(sessions=[session("a", "t")]), 0.0)
    seen.press("enter", 1.0)
    assert seen.thread_to_read(1.0) == "t"
    assert seen.thread_to_read(20.0) is None, "the first answer is still to come"
    # Of another thread, looked into before.
    seen.hear(Looked("other", thread("x")), 20.0)
    assert seen.look is not None
    assert seen.look.text is None
    seen.hear(Looked("t", thread("hello")), 20.5)
    assert seen.look.text is not None
    assert seen.thread_to_read(600.0) is None, "no turn runs"
    seen.hear(event(5, "turn.started", threadId="t", turnId="x"), 600.0)
    assert seen.thread_to_read(600.0) == "t"
    seen.hear(Looked("t", thread("hello")), 600.1)
    assert seen.thread_to_read(602.0) is None, "that took 0.1 s: not more often than every 10 s"
    assert seen.thread_to_read(611.0) == "t"
    seen.hear(Looked("t", None, "It is gone."), 611.1)
    assert seen.look.trouble == "It is gone."
    seen.press("back", 612.0)
    assert seen.look is None
    assert seen.thread_to_read(700.0) is None


def test_a_session_without_a_thread_is_not_looked_into() -> None:
    seen = model()
    seen.hear(snapshot(sessions=[session("a", None)]), 0.0)
    seen.press("enter", 0.0)
    assert (seen.look, seen.note(0.0)) == (None, "This session has no thread.")


@pytest.mark.parametrize(
    ("pieces", "keys"),
    [
        ([b"qr?"], ["q", "r", "?"]),
        ([b"jk\r"], ["down", "up", "enter"]),
        ([b"\x1b[A\x1bOB\x1b[5~"], ["up", "down", "page-up"]),
        ([b"\x1b", b"[", b"B"], ["down"]),
        ([b"\x1b"], []),
        # Not known: F5, Alt-x, a mouse, a letter of another alphabet.
        ([b"\x1b[15~q"], ["q"]),
        ([b"\x1bxq"], ["q"]),
        ("é数q".encode().split(b"!"), ["q"]),
        ([b"\x1b\x1b[A"], ["back", "up"]),
    ],
)
def test_keys_are_read_whole(pieces: list[bytes], keys: list[str]) -> None:
    reader = Keys()
    assert [key for piece in pieces for key in reader.feed(piece)] == keys


def test_an_escape_is_one_when_nothing_follows() -> None:
    reader = Keys()
    assert reader.feed(b"\x1b") == []
    assert reader.waits
    assert reader.flush() == ["back"]
    assert not reader.waits
    reader.feed(b"\x1b[")
    assert reader.flush() == ["back"]
    assert reader.flush() == []


# -- what a thread says ----------------------------------------------------------------------------


def test_a_thread_is_told_in_lines() -> None:
    items = [
        {"type": "userMessage", "content": [{"type": "text", "text": "do\x1b[31m it"}]},
        {"type": "reasoning", "summary": ["secret"]},
        {"type": "commandExecution", "command": "ls\n-l", "status": "completed", "exitCode": 0},
        {"type": "commandExecution", "command": "false", "status": "failed", "exitCode": 1},
        {"type": "commandExecution", "command": "sleep 9", "status": "inProgress"},
        {"type": "fileChange", "changes": [{"path": "a.py"}, {"path": "b.py"}]},
        {"type": "mcpToolCall", "server": "db", "tool": "query", "status": "completed"},
        {"type": "webSearch", "query": "rich"},
        {"type": "of tomorrow"},
        "nonsense",
        {"type": "agentMessage", "text": "Done.\n"},
    ]
    turns = [
        {"items": items, "status": "completed"},
        {"items": None, "status": "failed", "error": {"message": "no model"}},
        {"status": "interrupted"},
        {"items": [], "status": "inProgress"},
        None,
    ]
    told = ThreadText({"id": "t", "name": "A\x07 name", "turns": turns})
    assert told.title == "A\\x07 name"
    assert [line.text for line in told.lines(40) if line.text] == [
        "> do it",
        "$ ls\\n-l",
        "$ false (exit 1)",
        "$ sleep 9",
        "± a.py +0 -0, b.py +0 -0",
        "→ db.query",
        "→ search: rich",
        "Done.",
        "failed: no model.",
        "(interrupted)",
        "(runs)",
    ]
    assert [line.text for line in ThreadText({"turns": []}).lines(40)] == ["It has no turn yet."]
    assert ThreadText(thread(*"abc" * 20)).lines(40)[0].text == "(10 earlier turns are not shown.)"


def test_lines_break_between_words_and_by_columns() -> None:
    assert list(wrapped("one two three", 7)) == ["one two", "three"]
    assert list(wrapped("one two three", 6)) == ["one", "two", "three"]
    assert list(wrapped("abcdefgh", 3)) == ["abc", "def", "gh"]
    assert list(wrapped("数据库迁移", 5)) == ["数据", "库迁", "移"]
    assert list(wrapped("数据", 1)) == ["数", "据"]
    assert list(wrapped("a\n\nb", 9)) == ["a", "", "b"]
    assert "".join(wrapped("x" * 100_000, 80)) == "x" * 100_000


# -- without a screen ------------------------------------------------------------------------------


def test_without_a_screen_a_line_is_printed_when_something_changes() -> None:
    lines = Lines()
    first = lines.of(snapshot(at=1.0))
    assert len(first) == 1
    assert first[0].startswith("status 2")
    assert first[0].endswith(
        "daemon=running child=running ready=yes pid=42 clients=2 turns=0 approvals=0 sessions=1"
    )
    assert lines.of(snapshot(at=2.0)) == []
    assert lines.of(snapshot(at=3.0, turns=1))[0].split()[7] == "turns=1"
    assert lines.of(Away("No daemon\nruns."))[0].endswith(r"daemon=away No daemon\nruns.")
    assert lines.of(Away("No daemon\nruns.")) == []
    assert lines.of(Past(recent=[event(1, "child.ready")])) == []
    assert lines.of(event(7, "child.ready", message="It \x1b[2J answers."))[0].endswith(
        r"info child.ready It \x1b[2J answers."
    )
    assert lines.of(event(8, "child.stdout", message="stdout: (protocol messages)")) == []


# -- codexd tui ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "own", "passed"),
    [
        ([], [], []),
        (["resume", "--last"], [], ["resume", "--last"]),
        (
            ["--repo-root", "/r", "-m", "x", "--repo-root"],
            ["--repo-root", "/r"],
            ["-m", "x", "--repo-root"],
        ),
        (["--state-dir=/s", "a prompt"], ["--state-dir=/s"], ["a prompt"]),
        (["-c", "a=1", "--help"], [], ["-c", "a=1", "--help"]),
        (["--", "--help"], [], ["--help"]),
        (["--version"], [], ["--version"]),
        (["--config", "a=1"], [], ["--config", "a=1"]),
        (["--help"], ["--help"], []),
    ],
)
def test_flags_of_codexd_come_first(given: list[str], own: list[str], passed: list[str]) -> None:
    assert part_arguments(given) == (own, passed)
