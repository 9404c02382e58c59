"""A daemon that is found wherever a command is called."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

from tests.conftest import MakeBox
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.stub import stub_flags
from tests.support.waiting import eventually


def call(box: DaemonBox, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command that is told nothing but its working directory."""
    return subprocess.run(
        [*CODEXD, *words],
        capture_output=True,
        text=True,
        env=box.env,
        cwd=cwd,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def on_a_terminal(box: DaemonBox, cwd: Path, *words: str) -> str:
    """What a command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {**box.env, "COLUMNS": "80"}
    process = subprocess.Popen(
        [*CODEXD, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    except OSError:
        pass  # Linux's way to say that nobody is there any more
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return b"".join(pieces).decode().replace("\r\n", "\n")


def test_from_anywhere_while_it_is_the_only_one_and_by_name_among_two(make_box: MakeBox) -> None:
    first = make_box(*stub_flags(), name="first", env={"BAA_NODE_ID": "the-first"})
    first.flags += ["--logs-dir", str(first.root / "own-logs")]
    first.start()
    del first.env["BAA_NODE_ID"]
    elsewhere = first.root.parent / "elsewhere"
    elsewhere.mkdir()

    line = call(first, elsewhere, "status").stdout
    assert " node=the-first daemon=running " in line
    assert f"logs_dir={first.root}/own-logs/codexd" in line
    assert line.count("\n") == 1
    assert call(first, elsewhere, "status", "--check").returncode == 0
    assert "child.ready" in call(first, elsewhere, "events").stdout
    assert "codex-app-server: active" in call(first, elsewhere, "ctl", "status").stdout
    request = '{"id":1,"method":"initialize","params":{"clientInfo":{"name":"t","version":"1"}}}\n'
    attached = subprocess.run(
        [*CODEXD, "attach"], input=request, capture_output=True, text=True, env=first.env,
        cwd=elsewhere, timeout=60,
    )  # fmt: skip
    assert json.loads(attached.stdout.splitlines()[0])["id"] == 1

    second = make_box(*stub_flags(), name="second")
    second.env["XDG_STATE_HOME"] = first.env["XDG_STATE_HOME"]
    second.start()
    for words in (("status",), ("stop",), ("events",), ("attach",)):
        refused = call(first, elsewhere, *words)
        assert (refused.returncode, refused.stdout) == (1, "")
        (told,) = refused.stderr.splitlines()
        assert f"--repo-root {first.root} " in told
        assert f"--repo-root {second.root} " in told
    listed = json.loads(call(first, elsewhere, "daemons", "--json").stdout)["daemons"]
    assert [(d["repoRoot"], d["state"]) for d in listed] == [
        (str(first.root), "ready"),
        (str(second.root), "ready"),
    ]
    table = on_a_terminal(first, elsewhere, "daemons")
    assert max(map(len, table.splitlines())) <= 80
    assert str(listed[0]["pid"]) in table

    inside = second.root / "src/deep"
    inside.mkdir(parents=True)
    assert call(first, inside, "stop").returncode == 0
    second.wait_for_nobody()
    # It stays that directory's, and is down.
    assert " daemon=stopped " in call(first, inside, "status").stdout
    assert call(first, inside, "status", "--check").returncode == 3
    told = on_a_terminal(first, elsewhere, "stop")
    assert f"codexd: the daemon of {first.root} (pid " in told
    first.wait_for_nobody()
    assert "No codexd runs" in call(first, elsewhere, "daemons").stdout
    assert "daemon=stopped" in call(first, elsewhere, "status").stdout


def test_a_second_one_is_refused_by_name_also_from_another_list_and_not_after_sigkill(
    make_box: MakeBox,
) -> None:
    first = make_box(*stub_flags(), name="first")
    process = first.start()
    second = make_box(*stub_flags(), name="second")
    link = second.root / "link"
    link.symlink_to(first.codex_home)
    second.env["CODEX_HOME"] = str(link)
    refused = second.run("start", "--detach")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert f"codexd (pid {process.pid}, on {first.state_dir}) serves" in line
    assert f" already, for {first.root}: " in line
    assert f"codexd stop --state-dir {first.root}/state" in line
    external = make_box("--server-strategy", "external", name="third", env=second.env)
    external.flags += ["--server-endpoint", f"unix://{external.root}/none.sock"]
    external.start(wait=False)
    eventually(lambda: external.events("daemon.started"), what="a daemon that serves no home")
    external.stop_cleanly()
    first.note_processes()
    process.kill()
    process.wait(10)
    second.start()
    second.stop_cleanly()
