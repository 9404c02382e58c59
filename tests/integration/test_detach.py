"""`codexd start --detach` and `codexd stop`, on the real codex."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox

pytestmark = pytest.mark.real


def detach(box: DaemonBox, *flags: str) -> psutil.Process:
    """Run `codexd start --detach`; the daemon, which is up."""
    done = box.run("start", "--detach", *flags)
    state = box.read("daemon-state.json")
    assert state is not None
    daemon = box.adopt(state["pid"])
    box.note_processes()
    assert (done.returncode, done.stderr) == (0, "")
    assert " daemon=running child=running " in done.stdout
    return daemon


def test_it_returns_when_the_child_is_ready_and_stop_ends_it(make_box: MakeBox) -> None:
    box = make_box()
    daemon = detach(box)
    child = box.child()
    assert child is not None
    assert child["ready"]
    # Nothing ties it to the terminal that it was started in.
    assert os.getsid(daemon.pid) == daemon.pid
    log = box.logs_dir / "daemon.log"
    assert log.stat().st_mode & 0o777 == 0o600
    files = {os.path.realpath(f"/proc/{daemon.pid}/fd/{number}") for number in (0, 1, 2)}
    if sys.platform == "linux":
        assert files == {os.devnull, str(log)}

    done = box.run("stop")
    assert (done.returncode, done.stdout, done.stderr) == (0, "codexd stopped\n", "")
    box.wait_for_nobody()
    state = box.read("daemon-state.json")
    assert state is not None
    assert (state["started"], state["child"]["status"]) == (False, "stopped")
    # An order, and no signal.
    assert "codexd stopped" in log.read_text("utf-8").splitlines()

    again = box.run("stop")
    assert (again.returncode, again.stdout) == (0, "codexd is not running\n")


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (
            ("--server-command", "no-such-program"),
            1,
            'The server command "no-such-program" is not on PATH: '
            "install it, or name another with --server-command.",
        ),
        (
            ("--server-cwd", "/no/such/place"),
            2,
            'The server working directory "/no/such/place" does not exist: '
            "create it, or name another with --server-cwd.",
        ),
    ],
)
def test_it_says_why_it_cannot_run(
    make_box: MakeBox, flags: tuple[str, ...], code: int, reason: str
) -> None:
    box = make_box()
    done = box.run("start", "--detach", *flags)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines() == [f"codexd: {reason}"]
    box.wait_for_nobody()


def test_it_says_why_the_child_is_not_ready_and_keeps_trying(make_box: MakeBox) -> None:
    box = make_box()
    code = "raise SystemExit(3)"
    flags = ("--server-command", sys.executable, "--server-arg=-c", f"--server-arg={code}")
    done = box.run("start", "--detach", *flags)
    state = box.read("daemon-state.json")
    assert state is not None
    box.adopt(state["pid"])
    box.note_processes()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "codexd: The server is not ready: Child exited with code 3. "
        f"codexd (pid {state['pid']}) keeps trying; `codexd stop` ends it."
    ]
    assert psutil.pid_exists(state["pid"])
    assert box.run("stop").returncode == 0
    box.wait_for_nobody()


def test_two_at_once_make_one_daemon(make_box: MakeBox) -> None:
    box = make_box()
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: box.run("start", "--detach"), range(2)))
    state = box.read("daemon-state.json")
    assert state is not None
    daemon = box.adopt(state["pid"])
    box.note_processes()
    won, lost = sorted(both, key=lambda done: done.returncode)
    assert (won.returncode, won.stderr) == (0, "")
    assert (lost.returncode, lost.stdout) == (1, "")
    (line,) = lost.stderr.splitlines()
    assert f"already runs on {box.state_dir}, as pid {daemon.pid}:" in line
    assert len(box.events("child.started")) == 1
    assert box.run("stop").returncode == 0
    box.wait_for_nobody()
