"""`codexd top` in a terminal, on a dumb one and into a pipe; `codexd tui`."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.codex import codex_path
from tests.support.daemon import CODEXD
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.screen import Screen, screen
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

_NUMBERS = itertools.count()
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    made = make_room()
    client = made.client("editor")
    client.start_turn(client.start_thread(), "数据库迁移, please")
    client.notification("turn/completed")
    return made


@pytest.fixture
def terminal(room: HubRoom) -> Iterator[Screen]:
    # A tmux that was told to end still has its socket for a while.
    with screen(room.root / f"tmux-{next(_NUMBERS)}.sock") as made:
        yield made


def _start(room: HubRoom, terminal: Screen, size: tuple[int, int]) -> None:
    env = {**room.box.env, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    terminal.start([*CODEXD, "top", *room.box.flags], env, room.root, size=size)


@needs_tmux
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_it_shows_all_that_goes_on(room: HubRoom, terminal: Screen, size: tuple[int, int]) -> None:
    _start(room, terminal, size)
    terminal.shows("数据库迁移, please")
    # There are rates and shares once it has looked twice.
    shown = eventually(
        lambda: text if re.search(r"messages/s \d", text := terminal.text()) else None,
        what="a rate",
    )
    lines = shown.rstrip("\n").split("\n")
    assert len(lines) == size[1]
    assert re.match(r"codexd \S+  mini-main  /tmp/hub-\S+ +\d\d:\d\d:\d\d$", lines[0])
    assert re.match(rf"server    ready  pid {room.child_pid}  codex \d\S+  up \d+", lines[1])
    assert lines[2].startswith("hub       1 client  0 turns  0 approvals  0 requests  messages/s")
    assert re.match(r"restarts  \d+ in a day  ", lines[3])
    for name in ("codexd", "codexd's plugin", "codex app-server"):
        assert re.search(rf"^ *\d+ +\d+\.\d +\d+ MiB  {name}$", shown, re.MULTILINE), name
    assert re.search(
        r"^> \w{6}    done \d+\w +editor      数据库迁移, please$", shown, re.MULTILINE
    )
    assert re.search(r"^\d\d:\d\d:\d\d  turn.completed        A turn was completed.$", shown, re.M)
    assert lines[-1].startswith("q quit  r restart when idle")


@needs_tmux
def test_a_session_is_looked_into_and_the_size_changes(room: HubRoom, terminal: Screen) -> None:
    _start(room, terminal, (80, 24))
    terminal.shows("done")
    terminal.press("Enter")
    terminal.shows("> 数据库迁移, please\nHello, world")
    terminal.resize(50, 12)
    eventually(lambda: len(terminal.text().rstrip("\n").split("\n")) == 12)
    terminal.shows("Hello, world")
    terminal.press("Escape")
    terminal.shows("EVENTS")
    terminal.press("?")
    terminal.shows("quit; the daemon goes on")


@needs_tmux
def test_the_server_is_restarted_once_no_turn_runs(room: HubRoom, terminal: Screen) -> None:
    client, held = room.clients[0], room.hold_turn("working")
    thread_id = client.start_thread()
    client.start_turn(thread_id)
    client.notification("item/agentMessage/delta", threadId=thread_id)
    before = room.child_pid
    _start(room, terminal, (80, 24))
    terminal.shows(f"pid {before}")
    terminal.press("r")
    terminal.shows("Press r again")
    terminal.press("r")
    terminal.shows("restarted as soon as no turn runs")
    terminal.shows("runs ")
    assert room.child_pid == before
    assert held.hold is not None
    held.hold.set()
    terminal.shows("The server was restarted.")
    terminal.shows(f"pid {room.box.wait_ready(other_than=before)['pid']}")
    terminal.shows("it was asked to end")


@needs_tmux
@pytest.mark.parametrize("way", ["q", "C-c", "kill", "stop"])
def test_the_terminal_is_left_as_it_was(room: HubRoom, terminal: Screen, way: str) -> None:
    env = {**room.box.env, "TERM": "xterm-256color", "PS1": "prompt$ "}
    terminal.start(["bash", "--norc", "--noprofile", "-i"], env, room.root, size=(80, 24))
    terminal.shows("prompt$")
    top = " ".join([*CODEXD, "top", *room.box.flags])
    terminal.press(f"stty -g > before; {top}; echo ended $?", "Enter")
    terminal.shows("EVENTS")
    assert terminal.is_alternate()
    if way == "kill":
        _top_of(room).terminate()
    elif way == "stop":
        terminal.press("C-z")
        terminal.shows("Stopped")
        assert not terminal.is_alternate()
        terminal.press("stty -g > stopped", "Enter", "fg", "Enter")
        terminal.shows("EVENTS")
        assert terminal.is_alternate()
        terminal.press("q")
        eventually(lambda: not terminal.is_alternate())
        assert _read(room, "stopped") == _read(room, "before")
        return
    else:
        terminal.press(way)
    terminal.shows("prompt$ ")
    eventually(lambda: not terminal.is_alternate())
    if way == "q":
        terminal.shows("ended 0")
    terminal.press("stty -g > after", "Enter")
    assert eventually(lambda: _read(room, "after")) == _read(room, "before")


def _read(room: HubRoom, name: str) -> str:
    path = room.root / name
    return path.read_text() if path.exists() else ""


def _top_of(room: HubRoom) -> psutil.Process:
    flags = ["top", *room.box.flags]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-len(flags) :] == flags:
                return process
    raise AssertionError("no top runs")


def test_into_a_pipe_it_prints_what_changes(room: HubRoom) -> None:
    with subprocess.Popen(
        [*CODEXD, "top", *room.box.flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=room.box.env,
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline().decode()
            assert re.match(r"status \S+Z daemon=running child=running ready=yes pid=\d+ ", first)
            client = room.client("pipe")
            while "client.connected" not in (line := process.stdout.readline().decode()):
                assert line
            assert re.match(r"\d+ \S+Z info client.connected A client connected.$", line)
            client.close()
            while "client.disconnected" not in (line := process.stdout.readline().decode()):
                assert line
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()


def test_it_ends_when_nobody_reads_any_more(room: HubRoom) -> None:
    with subprocess.Popen(
        [*CODEXD, "top", *room.box.flags], stdout=subprocess.PIPE, env=room.box.env
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline()
            process.stdout.close()
            assert process.wait(10) == 0
        finally:
            process.kill()


@needs_tmux
def test_a_dumb_terminal_gets_lines(room: HubRoom, terminal: Screen) -> None:
    # tmux has a TERM of its own for what it starts.
    command = ["env", "TERM=dumb", *CODEXD, "top", *room.box.flags]
    terminal.start(command, room.box.env, room.root, size=(120, 40))
    terminal.shows("daemon=running child=running ready=yes")
    assert not terminal.is_alternate()


# -- codexd tui --------------------------------------------------------------------------------


@needs_tmux
def test_the_vendors_ui_comes_up_on_the_daemon(room: HubRoom, terminal: Screen) -> None:
    # Nothing but what a shell needs: the bundled codex serves.
    env = {**room.box.env, "TERM": "xterm-256color", "PATH": "/usr/bin:/bin"}
    room.model.default = lambda: Reply(deltas=["From ", "the hub."])
    terminal.start([*CODEXD, "tui", *room.box.flags, "--no-alt-screen"], env, room.root)
    terminal.shows("mock default")
    terminal.enter("a question", "From the hub.")


def _tui(room: HubRoom, *words: str, path: str) -> subprocess.CompletedProcess[str]:
    env = {**room.box.env, "PATH": path}
    command = [sys.executable, "-m", "codexd", "tui", *room.box.flags, *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=60)


def _codex(directory: Path, *, help_: str) -> str:
    directory.mkdir()
    program = directory / "codex"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = --help ]; then echo "{help_}"; exit; fi\necho "$PWD" "$@"\n'
    )
    program.chmod(0o755)
    return str(directory)


def test_the_codex_on_path_gets_the_arguments_as_they_are(room: HubRoom, tmp_path: Path) -> None:
    path = _codex(tmp_path / "new", help_="  --remote <ADDR>")
    old = _codex(tmp_path / "old", help_="  --other")
    done = _tui(room, "-m", "x", "--repo-root", "y", path=f"{path}:/usr/bin:/bin")
    socket = room.box.config.runtime.hub_socket_path
    assert done.stdout == f"/ --remote unix://{socket} -m x --repo-root y\n"
    # One that is too old is passed over for the bundled one.
    done = _tui(room, "--version", path=f"{old}:/usr/bin:/bin")
    real = subprocess.run([codex_path(), "--version"], capture_output=True, text=True)
    assert done.stdout == real.stdout, done.stderr


def test_no_daemon_is_told_in_a_line(room: HubRoom, tmp_path: Path) -> None:
    command = [*CODEXD, "tui", "--repo-root", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**room.box.env, "HOME": str(tmp_path)}
    )
    assert done.returncode == 1
    state = os.path.join(os.path.realpath(tmp_path), "state/codexd")
    assert done.stderr == f"codexd: No daemon runs on {state}: start it with `codexd start`.\n"


# -- the last one, for it ends the daemon ------------------------------------------------------


@needs_tmux
def test_it_stays_while_the_daemon_goes_down_and_comes_back(
    room: HubRoom, terminal: Screen
) -> None:
    room.forget_clients()
    assert room.box.stop() == 0
    _start(room, terminal, (80, 24))
    terminal.shows("No daemon runs on")
    room.box.start()
    pid = room.child_pid
    terminal.shows(f"ready  pid {pid}")
    terminal.shows("daemon.started")
    os.kill(pid, signal.SIGKILL)
    terminal.shows(f"ready  pid {room.box.wait_ready(other_than=pid)['pid']}")
    terminal.shows("killed by SIGKILL")
    # A plugin that died takes the stream of events with it.
    room.box.plugin().kill()
    terminal.shows("plugin.restarted")
    assert room.box.stop() == 0
    terminal.shows("No daemon runs on")
    terminal.press("q")
    eventually(lambda: not terminal.is_alternate())
