"""`codexd events` and `codexd logs`."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from codexd.cli.events import events, format_event, write_events
from codexd.cli.logs import logs
from codexd.cli.options import BadValue
from codexd.cli.streams import reader_is_gone, tell_if_nothing_is
from codexd.contracts import Event
from codexd.eventlog.reader import read_events
from tests.support.memory import config_at, open_log, record_many


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose daemon has left logs."""
    directory = Path(config_at(tmp_path).paths.logs_dir)
    log = open_log(directory)
    record_many(log, 3)
    log.record("error", "child.exited", "The child ended.", {"code": 1})
    (directory / "stdout.log").write_bytes(b"one\n\xfftwo\nthree")
    (directory / "stdout.log.1").write_bytes(b"zero\n")
    (directory / "stderr.log").write_bytes(b"problem\n")
    return tmp_path


def run(command: object, root: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(command, ["--repo-root", str(root), *arguments])  # type: ignore[arg-type]
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_events_as_text(root: Path) -> None:
    lines = run(events, root).output.splitlines()
    assert len(lines) == 4
    seq, time, level, kind, message = lines[3].split(" ", 4)
    assert (seq, level, kind, message) == ("4", "error", "child.exited", "The child ended.")
    assert time.endswith("Z")


def test_that_there_was_talk_is_told_only_to_who_asks(tmp_path: Path) -> None:
    log = open_log(Path(config_at(tmp_path).paths.logs_dir))
    detail = {"bytes": 9, "stream": "stdout"}
    log.record("info", "child.stdout", "stdout: (protocol messages)", detail)
    log.record("info", "child.stdout", "stdout: hello", detail)
    log.record("warn", "child.stderr", "stderr: (protocol messages)", detail)

    def numbers(*arguments: str) -> list[str]:
        return [line.split()[0] for line in run(events, tmp_path, *arguments).output.splitlines()]

    assert numbers() == ["2", "3"]
    assert numbers("-n", "2") == ["2", "3"]
    assert numbers("--all") == ["1", "2", "3"]
    assert numbers("--type", "child.stdout") == ["1", "2"]
    assert len(numbers("--json")) == 3


def test_a_type_that_is_not_there_is_told_with_those_that_are(root: Path) -> None:
    with pytest.raises(BadValue, match=r"daemon\.started, daemon\.stopped") as refused:
        events.main(["--repo-root", str(root), "--type", "typo"], standalone_mode=False)
    assert '"typo"' in str(refused.value)
    # One that an earlier program recorded is there.
    assert len(run(events, root, "--type", "test.numbered").output.splitlines()) == 3
    assert run(events, root, "--type", "child.abandoned").output == ""


@pytest.mark.parametrize("command", [events, logs])
def test_a_count_of_any_size_is_taken(command: click.Command, root: Path) -> None:
    flag = "-n"
    everything = run(command, root).output
    assert run(command, root, flag, str(10**30)).output == everything
    for bad in ("-1", "x", "²"):
        with pytest.raises(BadValue, match="--l"):
            command.main(["--repo-root", str(root), f"{flag}{bad}"], standalone_mode=False)


def test_who_waits_where_nothing_is_hears_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    tell_if_nothing_is(str(path))
    assert capsys.readouterr().err == f"codexd: there is no {path} yet; waiting for it\n"
    path.touch()
    tell_if_nothing_is(str(path))
    assert capsys.readouterr().err == ""


_POLL = select.poll


class MacPoll:
    """poll(2) as macOS has it: no word of a hang-up to whoever asked for nothing."""

    def __init__(self) -> None:
        self._poll = _POLL()
        self._asked = 0

    def register(self, descriptor: int, asked: int) -> None:
        self._asked = asked
        self._poll.register(descriptor, asked)

    def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
        return self._poll.poll(timeout_ms) if self._asked else []


@pytest.mark.parametrize("poll", [select.poll, MacPoll])
def test_a_reader_that_left_is_noticed(poll: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexd.cli.streams.select.poll", poll)
    reader, writer = os.pipe()
    with open(writer, "wb") as out:
        is_gone = reader_is_gone(out)
        assert not is_gone()
        os.close(reader)
        assert is_gone()


def test_events_as_json(root: Path) -> None:
    lines = run(events, root, "--json").output.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(lines[3])["detail"] == {"code": 1}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "2"], ["3", "4"]),
        (["--type", "child.exited"], ["4"]),
        (["--type", "child.exited", "--type", "test.numbered", "-n", "2"], ["3", "4"]),
        (["--level", "info", "-n", "1"], ["3"]),
        (["--level", "warn"], []),
        (["-n", "0"], []),
    ],
)
def test_events_that_were_asked_for(root: Path, arguments: list[str], expected: list[str]) -> None:
    output = run(events, root, *arguments).output
    assert [line.split()[0] for line in output.splitlines()] == expected


@pytest.mark.parametrize("arguments", [["--since", "x"], ["--level", "loud"], ["-n", "-1"]])
def test_what_cannot_be_asked_for(root: Path, arguments: list[str]) -> None:
    assert run(events, root, *arguments).exit_code == 2


def test_no_logs_at_all(tmp_path: Path) -> None:
    assert run(events, tmp_path).output == ""
    assert run(logs, tmp_path).output == ""
    assert os.listdir(tmp_path) == []


def test_a_message_does_not_steer_the_terminal() -> None:
    event = Event(seq=1, created_at="T", level="info", type="t", message="a\x1b[2J\nb\x9bc é")
    assert format_event(event) == "1 T info t a\\x1b[2J\\x0ab\\x9bc é"


def test_the_last_number_is_known(root: Path) -> None:
    path = config_at(root).paths.structured_event_log_path
    out = io.BytesIO()
    assert write_events(read_events(path), out, as_json=False, seen=0) == 4
    assert write_events(iter(()), out, as_json=False, seen=9) == 9


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], b"zero\none\n\xfftwo\nthree"),
        (["stdout", "-n", "2"], b"\xfftwo\nthree"),
        (["-n", "4"], b"zero\none\n\xfftwo\nthree"),
        (["stderr"], b"problem\n"),
    ],
)
def test_logs_byte_for_byte(root: Path, arguments: list[str], expected: bytes) -> None:
    assert run(logs, root, *arguments).stdout_bytes == expected


def test_another_stream_is_refused(root: Path) -> None:
    assert run(logs, root, "stdin").exit_code == 2


@pytest.mark.parametrize("command", [["events", "-f"], ["logs", "-f"]])
def test_a_follower_ends_when_its_reader_does(root: Path, command: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "codexd", *command, "--repo-root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_what_only_looks_loads_nothing_heavy(root: Path) -> None:
    code = (
        "import sys; from codexd.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('zmq', 'tornado', 'circus', 'websockets', 'asyncio')"
        " if name in sys.modules])"
    )
    for command in ("events", "logs"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, "--repo-root", str(root)],
            capture_output=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1].endswith(b"[]")
