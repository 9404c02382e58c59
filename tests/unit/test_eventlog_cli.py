"""`codexd events` and `codexd logs`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from codexd.cli.events import events, format_event, write_events
from codexd.cli.logs import logs
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
