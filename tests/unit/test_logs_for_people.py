"""`codexd events` and `codexd logs` for people: times, what is searched for, terminals."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from codexd.cli.events import EventType, event_for_people, events
from codexd.cli.logs import Lines, logs
from codexd.cli.moments import read_moment
from codexd.cli.options import BadValue
from codexd.contracts import Event
from codexd.encoding import encode_json
from tests.support.memory import config_at
from tests.support.pty import on_terminal

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def greenwich() -> Iterator[None]:
    """The local time is UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def plain(text: str, *styles: str) -> str:
    del styles
    return text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", "2026-11-25T11:50:00.000Z"),
        ("1.5h", "2026-11-25T10:30:00.000Z"),
        ("3d", "2026-11-22T12:00:00.000Z"),
        ("9:05", "2026-11-25T09:05:00.000Z"),
        ("09:05:07", "2026-11-25T09:05:07.000Z"),
        ("2026-11-24T01:00Z", "2026-11-24T01:00:00.000Z"),
        ("2026-11-24 01:00+02:00", "2026-11-23T23:00:00.000Z"),
        ("25:00", None),
        ("1200", None),
        ("-5", None),
        ("20261124", None),
        ("soon", None),
        ("999999999w", None),
    ],
)
@pytest.mark.usefixtures("greenwich")
def test_a_moment_as_people_give_it(text: str, moment: str | None) -> None:
    assert read_moment(text, NOW) == moment


def event(seq: int, minute: int, message: str = "m", type_: str = "child.exited") -> Event:
    time = f"2026-11-25T12:{minute:02}:00.000Z"
    detail = {"code": seq}
    return Event(seq=seq, created_at=time, level="info", type=type_, message=message, detail=detail)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with four events, a minute apart, and what a server has written meanwhile."""
    directory = Path(config_at(tmp_path).paths.logs_dir)
    directory.mkdir(parents=True)
    log = directory / "stderr.log"
    log.write_bytes(b"one\ntwo\nthr\x1b[2Jee\nfour")
    burst = {"stream": "stderr", "bytes": 8, "inode": log.stat().st_ino, "end": 8}
    told = event(3, 3, type_="child.stderr")
    told.detail = burst
    lines = [event(1, 1, "alpha"), event(2, 2, "beta"), told, event(4, 4, "gamma \x1b[2J")]
    (directory / "events.jsonl").write_bytes(b"".join(encode_json(e) + b"\n" for e in lines))
    (directory / "stdout.log").write_text("".join(f"{number} 表\n" for number in range(30)))
    return tmp_path


def output(command: click.Command, root: Path, *arguments: str) -> bytes:
    result = CliRunner().invoke(command, ["--repo-root", str(root), *arguments])
    assert result.exception is None, result.output
    return result.stdout_bytes


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--since", "2026-11-25T12:02Z"], [2, 3, 4]),
        (["--since", "2026-11-25T12:02:01Z"], [3, 4]),
        (["--until", "2026-11-25T12:02Z"], [1, 2]),
        (["--until", "3", "--since", "1"], [2, 3]),
        (["--until", "3", "-n", "1"], [3]),
        (["--grep", "^child.exited (alpha|beta)"], [1, 2]),
        (["--grep", '"code":4'], [4]),
        (["--grep", "alpha", "--until", "0"], []),
        # Who follows up to what is there already is done.
        (["-f", "--until", "4", "--type", "child.stderr"], [3]),
        (["-f", "--until", "2026-11-25T12:03Z", "--since", "2"], [3]),
    ],
)
def test_events_between_and_with(
    root: Path, arguments: list[str], numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codexd.cli.events.reader_is_gone", lambda out: lambda: out is None)
    lines = output(events, root, *arguments).splitlines()
    assert [int(line.split()[0]) for line in lines] == numbers


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (events, ["--since", "soon"], ["soon", "--since", "10m"]),
        (events, ["--until", "-1"], ["-1", "--until"]),
        (events, ["--grep", "("], ["(", "--grep"]),
        (events, ["--type", "child.exit"], ["child.exit", "Did you mean child.exited?"]),
        (logs, ["--since", "12"], ["12", "--since"]),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    root: Path, command: click.Command, arguments: list[str], words: list[str]
) -> None:
    with pytest.raises(BadValue) as refused:
        command.main(["--repo-root", str(root), *arguments], standalone_mode=False)
    assert "\n" not in str(refused.value)
    assert all(word in str(refused.value) for word in words)


def test_types_are_completed() -> None:
    context = click.Context(events)
    found = EventType().shell_complete(context, events.params[0], "daemon.")
    assert [item.value for item in found] == ["daemon.started", "daemon.stopped"]


@pytest.mark.parametrize(
    ("since", "written"),
    [
        ("2026-11-25T12:03:30Z", b"thr\x1b[2Jee\nfour"),
        ("2026-11-25T12:00Z", b"one\ntwo\nthr\x1b[2Jee\nfour"),
    ],
)
def test_what_was_written_since_then(root: Path, since: str, written: bytes) -> None:
    assert output(logs, root, "stderr", "--since", since) == written
    assert output(logs, root, "stderr", "--since", since, "-n", "1") == b"four"


def test_a_line_that_a_burst_ended_in_is_whole(root: Path) -> None:
    log = Path(config_at(root).paths.stderr_log_path)
    with log.open("r+b") as file:
        file.write(b"ONE TWO ")
    assert output(logs, root, "stderr", "--since", "2026-11-25T12:03:30Z").startswith(b"ONE TWO")


def test_what_the_server_wrote_steers_no_terminal() -> None:
    lines = Lines("err| ", plain)
    assert lines.feed(b"a\x1b[2J\tb\r\nc") == "err| a       b\n"
    assert lines.finish() == "err| c\n"
    assert lines.finish() == ""
    assert len(Lines("out| ", plain).feed(b"x" * 999 + b"\n")) < 300
    assert Lines("", plain).feed(b"x" * 999 + b"\n") == "x" * 999 + "\n"


def test_an_event_for_people() -> None:
    def paint(text: str, *styles: str) -> str:
        return f"<{','.join(styles)}>{text}"

    coloured = event_for_people(event(7, 0, "\x1b[2ma\x1b[0;31mb\x1b[0"), plain)
    assert coloured.endswith(" ab")
    assert event_for_people(event(7, 0, "ab\x1b[3..."), plain).endswith(" ab...")
    shown = event_for_people(event(7, 0, "a\x1b[2J"), paint)
    assert shown.startswith("<dim>7 ")
    assert shown.endswith("<>info  child.exited a\\x1b[2J")


def test_on_a_terminal(root: Path) -> None:
    codexd = [sys.executable, "-m", "codexd"]
    env = {**os.environ, "TZ": "UTC-3"}
    with on_terminal([*codexd, "logs", "--repo-root", str(root)], env, root) as terminal:
        assert terminal.ends() == 0
    lines = terminal.text.replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()
    assert lines == [
        *(f"out| {number} 表" for number in range(10, 30)),
        *("err| one", "err| two", "err| three", "err| four"),
    ]
    with on_terminal([*codexd, "events", "--repo-root", str(root)], env, root) as terminal:
        assert terminal.ends() == 0
    # Three hours east of Greenwich.
    assert "15:02:00" in terminal.text
    assert "\x1b[2J" not in terminal.text
