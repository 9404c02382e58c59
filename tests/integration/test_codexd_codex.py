"""`codexd-codex`: codex in everything but `app-server`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

CODEXD_CODEX = [sys.executable, "-c", "from codexd.cli.codex import main; main()"]
HELLO = {
    "id": 1,
    "method": "initialize",
    "params": {"clientInfo": {"name": "ed", "title": "Ed", "version": "1"}},
}
# What it was called with and what it read, byte for byte; and an exit code of its own.
FAKE = """#!/bin/sh
[ "$1" = --version ] && echo "codex-cli 9.8.7" && exit
for word in "$@"; do printf '%s\\0' "$word"; done
cat
echo oops >&2
exit 42
"""


@pytest.fixture
def box(make_box: MakeBox) -> DaemonBox:
    made = make_box(*stub_flags())
    for name, text in (("real", FAKE), ("shims", '#!/bin/sh\nexec codexd-codex "$@"\n')):
        path = made.root / name / "codex"
        path.parent.mkdir()
        path.write_text(text)
        path.chmod(0o755)
    made.env["PATH"] = f"{made.root}/shims:{made.root}/real:{made.env['PATH']}"
    return made


def run(box: DaemonBox, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*CODEXD_CODEX, *args],
        input=stdin,
        capture_output=True,
        env=box.env,
        cwd=box.root,
        timeout=60,
    )


def test_it_is_the_real_codex_with_the_same_words_streams_and_exit_code(box: DaemonBox) -> None:
    words = ["-c", 'a="b c"', "exec", "--json", "$HOME\n", "", "app-server"]
    done = run(box, *words, stdin=b"\xff\x00 input")
    assert done.stdout == b"".join(w.encode() + b"\0" for w in words) + b"\xff\x00 input"
    assert (done.stderr, done.returncode) == (b"oops\n", 42)


def test_its_version_is_that_of_codex(box: DaemonBox) -> None:
    assert run(box, "--version").stdout == b"codex-cli 9.8.7\n"
    # Where codexd itself is named as the binary, tools find the version they look for first.
    assert box.run("--version", flags=False).stdout == "codex-cli 9.8.7 (by codexd 0.1.0)\n"


@pytest.mark.parametrize("words", [("app-server", "--help"), ("app-server", "generate-ts")])
def test_what_is_for_codex_itself_goes_there(box: DaemonBox, words: tuple[str, ...]) -> None:
    assert run(box, *words).returncode == 42


def test_app_server_is_the_daemons_whatever_stands_before_it(box: DaemonBox) -> None:
    box.start()
    hello = json.dumps(HELLO).encode() + b"\n"
    for words in (["-m", "gpt-5", "-s", "read-only", "-a", "never", "-C", "/tmp"], ["-c", "a=b"]):
        done = run(box, *words, "app-server", "--listen", "stdio://", stdin=hello)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [answer for answer in answers if answer.get("id") == 1 and "result" in answer]
        assert done.returncode == 0
    box.stop_cleanly()


def test_a_client_with_another_codex_home_is_told(box: DaemonBox, tmp_path: Path) -> None:
    box.start()
    assert run(box, "app-server").stderr == b""
    box.env["CODEX_HOME"] = str(tmp_path)
    line = (
        f"codexd: the server's CODEX_HOME is {os.path.realpath(box.codex_home)}, not {tmp_path}\n"
    )
    assert run(box, "app-server").stderr == line.encode()
    box.stop_cleanly()


def test_without_a_codex_it_says_so(box: DaemonBox) -> None:
    box.env["BAA_CODEXD_SERVER_COMMAND"] = "codex-none"
    done = run(box, "exec")
    assert done.returncode == 127
    assert done.stderr.count(b"\n") == 1
    assert b'codexd-codex: The server command "codex-none" is not on PATH' in done.stderr


def test_a_shim_that_is_not_known_for_one_does_not_go_round_for_ever(box: DaemonBox) -> None:
    again = Path(box.root, "real/codex")
    command = json.dumps(
        [sys.executable, "-c", "exec('from codex'+'d.cli.codex import main; main()')"]
    )
    again.write_text(
        f"#!{sys.executable}\nimport os, sys\nwords = {command}\n"
        "os.execv(words[0], [*words, *sys.argv[1:]])\n"
    )
    done = run(box, "exec")
    assert done.returncode == 127
    assert b"leads back to codexd-codex" in done.stderr


def test_the_daemon_does_not_start_itself(box: DaemonBox) -> None:
    """`codex` on PATH is a shim: the real one behind it is started, or it is said why none is."""
    refused = box.run("start", "--server-command", f"{box.root}/shims/codex")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "leads back to codexd" in line
    (event,) = box.events("child.spawn.failed")
    assert "leads back to codexd" in event["message"]


def test_a_daemon_that_was_led_to_itself_says_so(box: DaemonBox) -> None:
    words = [sys.executable, "-c", "exec('from codex'+'d.cli.main import main; main()')"]
    hidden = Path(box.root, "hidden")
    lines = ["import os, sys", f"words = {words!r}", "os.execv(words[0], [*words, *sys.argv[1:]])"]
    hidden.write_text("\n".join([f"#!{sys.executable}", *lines]))
    hidden.chmod(0o755)
    box.flags = ["--repo-root", str(box.root), "--server-command", str(hidden)]
    box.start(wait=False)
    log = box.logs_dir / "stderr.log"
    said = "started codexd as its own server"
    eventually(lambda: log.exists() and said in log.read_text(), what="a word of the server")
