"""`codexd status` as people see it, on terminals of several kinds and sizes."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import CODEXD, DaemonBox, daemon_box
from tests.support.screen import screen
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonBox]:
    with daemon_box(tmp_path_factory.mktemp("block") / "repo", *stub_flags()) as box:
        box.start()
        yield box
        box.stop_cleanly()


def command(box: DaemonBox, *words: str) -> str:
    """A line of a shell, which says how the command ended and then stays."""
    line = shlex.join([*CODEXD, "status", "--repo-root", str(box.root), *words])
    return f"trap : INT; {line}; echo ended $?; sleep 60"


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_it_fits_the_terminal(box: DaemonBox, tmp_path: Path, columns: int, rows: int) -> None:
    with screen(tmp_path / "tmux.sock", columns, rows) as made:
        made.start(["sh", "-c", command(box)], box.env, box.root)
        shown = made.shows("ended 0")
    assert box.process is not None
    head, server, *_ = shown.splitlines()
    assert head == "codexd of ~: ready"
    assert server.startswith("  server    ")
    assert f"pid {box.wait_ready()['pid']}, up " in server
    assert f"pid {box.process.pid}, up " in shown
    assert "codex --remote" in shown
    assert "identity=" in shown


def test_watch_shows_what_changes_and_ends_cleanly(box: DaemonBox, tmp_path: Path) -> None:
    before = box.wait_ready()
    with screen(tmp_path / "tmux.sock", 80, 24) as made:
        made.start(["sh", "-c", command(box, "--watch")], box.env, box.root)
        made.shows(f"pid {before['pid']}, up ")
        os.kill(before["pid"], signal.SIGKILL)
        after = box.wait_ready(other_than=before["pid"])
        shown = made.shows(f"pid {after['pid']}, up ")
        assert f"pid {before['pid']}" not in shown
        assert "restarts" in shown
        assert "it was killed by signal 9" in " ".join(shown.split())
        made.press("C-c")
        # What was seen last is still there.
        assert f"pid {after['pid']}, up " in made.shows("ended 0")


def test_a_dumb_terminal_gets_words_alone(box: DaemonBox, tmp_path: Path) -> None:
    out = tmp_path / "typescript"
    inner = f"TERM=dumb {shlex.join([*CODEXD, 'status', '--repo-root', str(box.root)])}"
    done = subprocess.run(
        ["script", "-qec", inner, str(out)],
        env=box.env,
        cwd=box.root,
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0
    assert b"codexd of ~: ready\r\n" in done.stdout
    assert b"\x1b" not in done.stdout


def test_a_pipe_gets_a_line_for_every_change(box: DaemonBox, tmp_path: Path) -> None:
    before = box.wait_ready()
    line = box.run("status").stdout
    words = [*CODEXD, "status", "--watch", *box.flags]
    out = tmp_path / "out"
    with out.open("wb") as file:
        watching = subprocess.Popen(words, env=box.env, cwd=box.root, stdout=file)
    try:
        eventually(lambda: out.read_text() == line, what="the line of now")
        assert box.run("ctl", "stop", "codex-app-server").returncode == 0
        eventually(lambda: " child=stopped " in out.read_text(), what="a line of the change")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    finally:
        watching.kill()
        watching.wait()
        assert box.run("ctl", "start", "codex-app-server").returncode == 0
    assert all(text.startswith("identity=") for text in out.read_text().splitlines())
    box.wait_ready(other_than=before["pid"])
