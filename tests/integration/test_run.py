"""`codexd run`, `sessions`, `threads` and `approvals` on a real daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codexd.cli.desk import AnswerAll
from codexd.cli.exec_fallback import ExecOrder, run_exec
from codexd.cli.printer import Unwritable
from codexd.cli.run import run as cli_run
from codexd.cli.sessions import sessions as cli_sessions
from codexd.cli.terminal import cells, harmless
from codexd.cli.turn_driver import Order, TurnDriver
from codexd.client import Client, TurnUnknown
from codexd.config import resolve
from codexd.shapes import Approval, FinishedTurn
from tests.support.codex import short_directory
from tests.support.daemon import CODEXD
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.pty import OnTerminal, on_terminal
from tests.support.scripted_daemon import Answer, ScriptedDaemon
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

CALL = {
    "cmd": "true",
    "login": False,
    "sandbox_permissions": "require_escalated",
    "justification": "why",
}


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room(approval_policy='"on-request"', sandbox_mode='"read-only"')


@pytest.fixture(scope="module")
def client(room: HubRoom) -> Client:
    return Client(socket_path=room.box.config.runtime.hub_socket_path)


def asks_for_leave(room: HubRoom) -> None:
    room.model.queue.append(Reply(call=("exec_command", CALL)))


@contextmanager
def running(room: HubRoom, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*CODEXD, "run", *room.box.flags, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=room.box.env,
        cwd=room.root,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def at_terminal(room: HubRoom, *arguments: str) -> Iterator[OnTerminal]:
    with on_terminal(
        [*CODEXD, arguments[0], *room.box.flags, *arguments[1:]], room.box.env, room.root
    ) as terminal:
        yield terminal


def held(room: HubRoom, *deltas: str) -> Reply:
    """A turn that is under way as soon as its reply is taken."""
    return room.hold_turn(*deltas)


def begun(room: HubRoom, reply: Reply) -> None:
    eventually(lambda: reply not in room.model.queue, what="a turn")


def let_go(reply: Reply) -> None:
    assert reply.hold is not None
    reply.hold.set()


def test_what_the_agent_says_last_is_all_that_stdout_gets(room: HubRoom, client: Client) -> None:
    inside = room.root / "inside"
    inside.mkdir()
    done = subprocess.run(
        [*CODEXD, "run", "-"],
        input=b"say hello\n",
        capture_output=True,
        env=room.box.env,
        cwd=inside,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, world\n", b"")
    # The agent works where it was called, and the thread goes on under its short name.
    (thread,) = client.threads.list(limit=1)
    assert thread["cwd"] == str(inside)
    again = room.box.run("run", "--thread", thread["id"][-8:], "again")
    assert (again.returncode, again.stdout) == (0, "Hello, world\n")
    assert len(client.threads.get(thread["id"])["turns"]) == 2


def test_each_notification_is_a_line(room: HubRoom) -> None:
    schema = room.root / "schema.json"
    schema.write_text('{"type": "object", "properties": {}, "additionalProperties": false}')
    done = room.box.run("run", "--json", "--output-schema", str(schema), "go")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [told[0]["method"], told[-1]["method"]] == ["turn/started", "turn/completed"]
    assert "item/agentMessage/delta" in [message["method"] for message in told]
    assert room.model.requests[-1]["text"]["format"]["schema"]["type"] == "object"


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [([], 5, "nobody is here to give leave"), (["--yes"], 0, "$ true ("), (["--no"], 0, "declin")],
)
def test_leave_without_a_terminal(room: HubRoom, flags: list[str], code: int, told: str) -> None:
    asks_for_leave(room)
    done = room.box.run("run", *flags, "go")
    assert (done.returncode, done.stdout) == (code, "Hello, world\n")
    assert told in done.stderr


class Cut:
    """The deltas of a model that hangs up."""

    def __iter__(self) -> Iterator[str]:
        raise OSError


def test_a_turn_that_fails(room: HubRoom) -> None:
    reply = Reply()
    reply.deltas = Cut()  # type: ignore[assignment]
    room.model.queue.append(reply)
    done = room.box.run("run", "go")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the turn failed: " in done.stderr
    nowhere = "01a21452-9060-7d42-b479-0d90ce0cdda3"
    unknown = room.box.run("run", "--thread", nowhere, "go")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert nowhere in unknown.stderr


def test_the_time_is_over(room: HubRoom, client: Client) -> None:
    reply = held(room, "half")
    done = room.box.run("run", "--timeout", "3", "go")
    assert (done.returncode, done.stdout) == (4, "half\n")
    assert "the time is over" in done.stderr
    assert client.status()["hub"]["runningTurns"] == 0
    let_go(reply)


def test_a_server_that_dies_ends_the_turn_and_the_next_goes_on(room: HubRoom) -> None:
    reply = held(room, "half")
    with running(room, "--json", "go") as process:
        assert process.stdout is not None
        while b"half" not in process.stdout.readline():
            assert process.poll() is None
        old = room.kill_child()
        out, err = process.communicate(timeout=60)
    let_go(reply)
    last = json.loads(out.splitlines()[-1])
    assert (process.returncode, last["params"]["turn"]["status"]) == (4, "interrupted")
    assert b"the server ended by signal 9" in err
    thread = err.split(b"--thread ")[1].split()[0].decode()
    room.box.wait_ready(other_than=old)
    done = room.box.run("run", "--thread", thread, "go on")
    assert (done.returncode, done.stdout) == (0, "Hello, world\n")


def kill_plugin(room: HubRoom) -> None:
    plugin = room.box.plugin()
    plugin.kill()
    plugin.wait(10)
    eventually(lambda: room.box.plugin().is_running())


def test_it_goes_on_over_a_death_of_the_plugin(room: HubRoom) -> None:
    reply = held(room, "all of it")
    with at_terminal(room, "run", "go") as terminal:
        terminal.shows("all of it")
        kill_plugin(room)
        let_go(reply)
        assert terminal.ends() == 0
    assert "the daemon has hung up" in terminal.text
    assert terminal.text.count("all of it") == 1


def test_what_was_not_heard_is_told_at_the_end(room: HubRoom) -> None:
    reply = held(room, "all")
    with running(room, "--json", "go") as process:
        assert process.stdout is not None
        while b"/delta" not in process.stdout.readline():
            assert process.poll() is None
        kill_plugin(room)
        let_go(reply)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    last = json.loads(out.splitlines()[-1])
    assert last["method"] == "turn/completed"
    assert last["params"]["turn"]["items"][-1]["text"] == "all"


class Nobody:
    """Watches a turn; ``told`` is what codexd itself says."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def heard(self, notification: dict[str, Any]) -> None:
        del notification

    def tell(self, text: str) -> None:
        self.told.append(text)

    def refused(self, approval: Approval) -> None:
        del approval


class Silent(Client):
    """Runs a turn that tells nothing, as one that takes up another prompt, until it is cut."""

    def __init__(self) -> None:
        super().__init__(socket_path="/nowhere")
        self.interrupted = threading.Event()

    def status(self) -> dict[str, Any]:
        return {"hub": {"ready": True}}

    def approvals(self, *, thread: str | None = None) -> list[Approval]:
        del thread
        return []

    def run(
        self, *_: Any, on_start: Callable[[str], None] | None = None, **__: Any
    ) -> FinishedTurn:
        assert on_start is not None
        on_start("u")
        os.kill(os.getpid(), signal.SIGINT)
        assert self.interrupted.wait(30)
        return FinishedTurn(turn_id="u", status="interrupted")

    def interrupt(self, thread: str, turn_id: str) -> None:
        assert (thread, turn_id) == ("t", "u")
        self.interrupted.set()


def test_a_turn_that_tells_nothing_is_interrupted() -> None:
    client = Silent()
    driver = TurnDriver(client, client, Nobody(), AnswerAll("decline"), daemon_lives=lambda: True)
    assert driver.run(Order("go", "t", None, None, None)).status == "interrupted"


def test_a_turn_is_interrupted_also_where_nobody_can_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, nobody = Silent(), Nobody()
    driver = TurnDriver(client, client, nobody, AnswerAll("decline"), daemon_lives=lambda: True)

    def tell(text: str) -> None:
        raise Unwritable(text)

    monkeypatch.setattr(nobody, "tell", tell)
    with pytest.raises(Unwritable):
        driver.run(Order("go", "t", None, None, None))
    driver.abandon()
    assert client.interrupted.is_set()


READY = Answer("200 OK", '{"hub": {"ready": true}}')
THREAD = Answer("201 Created", '{"threadId": "t", "sessionId": "s"}')
HANGS_UP = Answer("200 OK", "", is_cut=True)


@pytest.mark.parametrize(
    ("order", "answers", "end"),
    [
        # The thread is its own: its turn is the one that was asked for.
        (
            None,
            [
                THREAD,
                HANGS_UP,
                Answer("200 OK", '{"turns": [{"id": "u"}]}'),
                Answer("200 OK", '{"turnId": "u", "status": "completed"}'),
            ],
            "completed",
        ),
        (None, [THREAD, HANGS_UP, Answer("200 OK", '{"turns": []}')], None),
        # On that of others it may be anybody's.
        ("t", [HANGS_UP], None),
        # A thread without a turn may be asked for twice, and a status as often as one likes.
        (None, [HANGS_UP, THREAD, HANGS_UP, Answer("200 OK", '{"turns": []}')], None),
    ],
)
def test_a_daemon_that_hangs_up_before_it_said_that_the_turn_runs(
    order: str | None, answers: list[Answer], end: str | None
) -> None:
    with short_directory() as directory:
        daemon = ScriptedDaemon(directory, [READY, *answers])
        client = Client(socket_path=daemon.path)
        driver = TurnDriver(
            client, client, Nobody(), AnswerAll("decline"), daemon_lives=lambda: True
        )
        turn = Order("go", order, "/", None, None)
        if end is None:
            with pytest.raises(TurnUnknown, match="thread t"):
                driver.run(turn)
        else:
            assert driver.run(turn).status == end
            assert driver.was_broken
        assert len(daemon.asked) == len(answers) + 1


@pytest.mark.parametrize(
    ("answers", "is_run_by_exec"),
    [
        ([READY, READY], True),
        # The turn was asked for, and may run.
        ([READY, READY, THREAD, HANGS_UP, Answer("200 OK", '{"turns": []}')], False),
    ],
)
def test_a_daemon_that_goes_before_the_turn_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[Answer], is_run_by_exec: bool
) -> None:
    codex = tmp_path / "codex"
    codex.write_text("#!/bin/sh\ncat > /dev/null\n")
    codex.chmod(0o755)
    with short_directory() as directory:
        client = Client(socket_path=ScriptedDaemon(directory, answers).path)
        monkeypatch.setattr("codexd.cli.run.client_of", lambda _: client)
        monkeypatch.setattr("codexd.cli.run.running_client", lambda *_, **__: client)
        monkeypatch.setattr("codexd.cli.run.runs", lambda _: False)
        where = ["--repo-root", str(tmp_path), "--server-command", str(codex)]
        result = CliRunner().invoke(cli_run, ["go", "--fallback", "exec", *where])
    assert ("`codex exec` runs it instead" in result.stderr) == is_run_by_exec
    if is_run_by_exec:
        assert result.exception is None
    else:
        assert isinstance(result.exception, TurnUnknown)


def test_who_reads_no_more_ends_the_turn(room: HubRoom, client: Client) -> None:
    reply = held(room, "half")
    with running(room, "--json", "go") as process:
        assert process.stdout is not None
        process.stdout.readline()
        begun(room, reply)
        process.stdout.close()
        process.stdout = None
        let_go(reply)
        assert process.wait(30) == 1
    eventually(lambda: client.status()["hub"]["runningTurns"] == 0)


def test_a_turn_on_a_terminal(room: HubRoom) -> None:
    room.model.queue.append(Reply(deltas=["\x1b[2Jone ", "表格"]))
    with at_terminal(room, "run", "go") as terminal:
        assert terminal.ends() == 0
    assert "one 表格\n" in terminal.text
    assert "\x1b[2J" not in terminal.text
    assert "goes on" in terminal.text


def test_leave_is_asked_for_on_the_terminal(room: HubRoom) -> None:
    asks_for_leave(room)
    with at_terminal(room, "run", "go") as terminal:
        shown = terminal.shows("[n] no")
        assert "true" in shown
        assert "why" in shown
        terminal.type("what\n")
        terminal.shows("what\n[y] yes")
        terminal.type("y\n")
        assert terminal.ends() == 0
    assert "\x1b[36m$ true (" in terminal.text
    assert "Hello, world\n" in terminal.text


def test_ctrl_c_where_leave_is_asked_for(room: HubRoom) -> None:
    asks_for_leave(room)
    with at_terminal(room, "run", "go") as terminal:
        terminal.shows("[n] no")
        terminal.type("\x03")
        assert terminal.ends() == 4
    assert room.box.run("approvals").stdout == ""


def test_leave_is_given_from_another_terminal(room: HubRoom) -> None:
    asks_for_leave(room)
    with at_terminal(room, "run", "go") as terminal:
        terminal.shows("[n] no")
        id_, _, kind, thread, what = room.box.run("approvals").stdout.rstrip().split("\t")
        assert (kind, len(thread)) == ("commandExecution", 36)
        assert "true" in what
        shown = room.box.run("approvals", "show", id_[-6:]).stdout
        typed = "codexd", "approvals", "accept", *room.box.flags, id_[:3]
        told = {"COMP_WORDS": " ".join(typed), "COMP_CWORD": str(len(typed) - 1)}
        asked = {**room.box.env, **told, "_CODEXD_COMPLETE": "bash_complete"}
        offered = subprocess.run(CODEXD, env=asked, cwd=room.root, capture_output=True, timeout=30)
        assert offered.stdout.decode() == f"plain,{id_}\n"
        assert "why" in shown
        done = room.box.run("approvals", "accept", id_[-6:])
        assert done.stdout.startswith(f"Accepted {id_}")
        assert terminal.ends() == 0
    assert "not asked any more" in terminal.text
    assert room.box.run("approvals", "list").stdout == ""
    late = room.box.run("approvals", "decline", id_)
    assert (late.returncode, late.stderr.count("\n")) == (1, 1)


def test_ctrl_c_interrupts_the_turn(room: HubRoom, client: Client) -> None:
    reply = held(room, "half")
    with at_terminal(room, "run", "go") as terminal:
        terminal.shows("half")
        terminal.type("\x03")
        assert terminal.ends() == 4
    assert "half\n" in terminal.text.replace("^C", "")
    assert client.status()["hub"]["runningTurns"] == 0
    let_go(reply)


def test_ctrl_c_twice_leaves_at_once(room: HubRoom, client: Client) -> None:
    reply = held(room, "half")
    with at_terminal(room, "run", "go") as terminal:
        terminal.shows("half")
        os.kill(room.child_pid, signal.SIGSTOP)
        try:
            terminal.type("\x03")
            terminal.shows("interrupted")
            terminal.type("\x03")
            assert terminal.ends() == 4
        finally:
            os.kill(room.child_pid, signal.SIGCONT)
    let_go(reply)
    eventually(lambda: client.status()["hub"]["runningTurns"] == 0)


def test_lists_on_a_terminal_are_as_wide_as_it_is(room: HubRoom) -> None:
    title = "表格" * 40
    assert room.box.run("run", title).returncode == 0
    for noun in ("sessions", "threads"):
        with at_terminal(room, noun) as terminal:
            assert terminal.ends() == 0
        row = terminal.text.splitlines()[1]
        assert "表格" in row
        short = re.sub(r"\x1b\[[0-9;]*m", "", row).split()[0]
        done = room.box.run(noun, "show", short, "--json")
        assert done.returncode == 0, (row, done.stderr)
        shown = json.loads(done.stdout)
        assert title in (shown.get("title"), shown.get("preview"))
        assert "…" in row


def test_a_turn_waits_for_its_server_and_is_not_begun_behind_ones_back(room: HubRoom) -> None:
    asked = len(room.model.requests)
    room.control("stop")
    try:
        left = room.box.run("run", "--timeout", "2", "go")
        listed = room.box.run("sessions")
    finally:
        with running(room, "go") as process:
            assert process.stderr is not None
            assert b"the server is waited for: it is stopped" in process.stderr.readline()
            room.control("start")
            out, _ = process.communicate(timeout=60)
    assert (left.returncode, "had not begun" in left.stderr) == (4, True)
    assert listed.returncode == 0
    assert (process.returncode, out) == (0, b"Hello, world\n")
    assert len(room.model.requests) == asked + 1


@pytest.mark.parametrize(("columns", "term"), [(120, "xterm"), (40, "dumb")])
def test_lists_of_any_width_and_without_colours(room: HubRoom, columns: int, term: str) -> None:
    assert room.box.run("run", "go").returncode == 0
    command = [*CODEXD, "threads", *room.box.flags]
    with on_terminal(command, room.box.env, room.root, columns, term) as terminal:
        assert terminal.ends() == 0
    assert ("\x1b" in terminal.text) == (term == "xterm")
    assert max(cells(harmless(line)) for line in terminal.text.splitlines()) <= columns


def test_sessions_are_opened_and_closed(room: HubRoom) -> None:
    flags = ["--metadata", "job=1", "--purpose", "worker"]
    made = room.box.run("sessions", "open", *flags).stdout.strip()
    shown = room.box.run("sessions", "show", made).stdout
    assert ["job", "1"] in [line.split() for line in shown.splitlines()]
    assert made in room.box.run("sessions", "--purpose", "worker").stdout
    assert room.box.run("sessions", "close", made[-6:]).stdout == f"{made}\n"
    lines = room.box.run("sessions", "list", "--status", "closed").stdout.splitlines()
    assert made in [line.split("\t")[0] for line in lines]
    # Whichever tests were here before, there are two now.
    assert room.box.run("sessions", "open").returncode == 0
    wrong = room.box.run("sessions", "close", "session-")
    assert (wrong.returncode, "may be any of" in wrong.stderr) == (1, True)


def test_sessions_of_a_daemon_that_says_nothing(
    room: HubRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codexd.cli.nouns.client_of.__kwdefaults__", {"timeout_s": 0.5})
    known = room.box.read("session-registry.json") or {}
    plugin = room.box.plugin()
    plugin.suspend()
    try:
        result = CliRunner().invoke(cli_sessions, ["list", "--repo-root", str(room.root)])
    finally:
        plugin.resume()
    assert result.exit_code == 0
    assert "has said nothing for too long" in result.stderr
    assert len(result.stdout.splitlines()) == len(known["sessions"])


def test_a_thread_as_it_was(room: HubRoom) -> None:
    assert room.box.run("run", "as it was").returncode == 0
    done = room.box.run("threads", "-n", "1")
    (line,) = done.stdout.splitlines()
    shown = room.box.run("threads", "show", line.split("\t")[0]).stdout
    assert "Hello, world" in shown
    documents: dict[str, Any] = json.loads(room.box.run("threads", "--json").stdout)
    assert documents["threads"][0]["id"] == line.split("\t")[0]


@pytest.mark.parametrize(
    ("script", "timeout_s", "code"),
    [
        ('read line; test "$line" = hello', None, 0),
        ("exit 3", None, 1),
        ("kill -INT $$", None, 4),
        ("exec sleep 60", 0.2, 4),
    ],
)
def test_how_codex_exec_ends(
    tmp_path: Path, script: str, timeout_s: float | None, code: int
) -> None:
    codex = tmp_path / "codex"
    codex.write_text(f"#!/bin/sh\n{script}\n")
    codex.chmod(0o755)
    config = resolve({"server_command": str(codex)}, {}, cwd=str(tmp_path))
    order = ExecOrder("hello\n", str(tmp_path), None, None, False, None)
    assert run_exec(config, order, timeout_s) == code


def test_without_a_daemon(tmp_path: Path, room: HubRoom) -> None:
    nowhere = ["--state-dir", str(tmp_path / "state")]
    plain = room.box.run("run", *nowhere, "go", flags=False)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert "codexd start" in plain.stderr
    listed = room.box.run("sessions", *nowhere, flags=False)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "session-registry.json" in listed.stderr
    fallback = room.box.run("run", *nowhere, "--fallback", "exec", "go", flags=False)
    assert (fallback.returncode, fallback.stdout) == (0, "Hello, world\n")
    assert "`codex exec` runs it instead" in fallback.stderr
