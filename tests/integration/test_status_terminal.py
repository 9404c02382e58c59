"""`codexd status` and `codexd start` as people see them, on terminals of several kinds."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import CODEXD, DaemonBox, daemon_box
from tests.support.screen import screen
from tests.support.stub import STUB, stub_flags
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


def test_a_dumb_terminal_gets_words_alone(box: DaemonBox) -> None:
    box.env["TERM"] = "dumb"
    code, said = _on_a_terminal(box, "status", "--repo-root", str(box.root))
    assert code == 0
    assert "codexd of ~: ready\r\n" in said
    assert "\x1b" not in said


def test_a_pipe_gets_a_line_for_every_change(box: DaemonBox, tmp_path: Path) -> None:
    before = box.wait_ready()
    line = box.run("status").stdout
    words = [*CODEXD, "status", "--watch", *box.flags]
    out = tmp_path / "out"
    with out.open("wb") as file:
        watching = subprocess.Popen(words, env=box.env, cwd=box.root, stdout=file)
    try:
        eventually(lambda: out.read_text() == line, what="the line of now")
        box.order("stop")
        eventually(lambda: " child=stopped " in out.read_text(), what="a line of the change")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    finally:
        watching.kill()
        watching.wait()
        box.order("start")
    assert all(text.startswith("identity=") for text in out.read_text().splitlines())
    box.wait_ready(other_than=before["pid"])


def test_who_types_codexd_is_told_all_of_it(tmp_path: Path) -> None:
    """In a place without a daemon, a second time, with other settings, and at its end."""
    root = tmp_path / "fresh"
    root.mkdir()
    with daemon_box(root) as box:
        with screen(tmp_path / "tmux.sock", 120, 40) as made:
            argv = ["-IS", STUB, "app-server"]
            box.env["BAA_CODEXD_SERVER_COMMAND"] = sys.executable
            box.env["BAA_CODEXD_SERVER_ARGS"] = json.dumps(argv)
            line = f"trap : INT; {shlex.join(CODEXD)}; sleep 60"
            made.start(["sh", "-c", line], box.env, box.root)
            shown = " ".join(made.shows("codexd: attach with: codex --remote unix://").split())
            assert "codexd: no daemon runs here: this starts one for" in shown
            assert "codexd: it makes state in" in shown
            assert shown.index("no daemon runs here") < shown.index("identity=")
            state = box.read("daemon-state.json")
            assert state is not None
            box.adopt(state["pid"])

            code, said = _on_a_terminal(box, "start")
            assert code == 0
            assert said.startswith(
                f"codexd already runs on {box.state_dir}, as pid {state['pid']}.\r\ncodexd: attach"
            )
            code, said = _on_a_terminal(box, "start", "--node-id", "other", "--health-misses=9")
            assert code == 1
            assert f"as pid {state['pid']}, with other settings" in said
            assert '--node-id is "mini-main" there and "other" here' in said
            assert '--health-misses is "3" there and "9" here' in said
            # What is no terminal is refused as ever.
            refused = box.run("start")
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "already runs on" in refused.stderr
            made.press("C-c")
            made.shows("codexd stopped after SIGINT")
        box.wait_for_nobody()


def _on_a_terminal(box: DaemonBox, *words: str) -> tuple[int, str]:
    """How a command ends on a terminal, and what it says there."""
    command = ["script", "-qec", shlex.join([*CODEXD, *words]), "/dev/null"]
    done = subprocess.run(
        command,
        env=box.env,
        cwd=box.root,
        timeout=60,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return done.returncode, done.stdout.decode()
