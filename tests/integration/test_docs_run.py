"""The commands of the documentation, run as they stand: all blocks that are not marked.

Those of the tutorial that speak HTTP are run by test_api_curl.py, with what happens meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_api_curl import blocks as of_the_tutorial
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.pages import ROOT, Block, all_blocks, blocks_of

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not all(map(shutil.which, ("curl", "git"))), reason="curl or git is not installed"
    ),
]

ELSEWHERE = {
    text
    for heading in ("A turn from curl", "An approval from another terminal")
    for text in of_the_tutorial(heading)
}
# Its commands are those of README.md, which tests/unit/test_docs_chinese.py holds.
BLOCKS = [
    block
    for block in all_blocks()
    if block.not_run is None and block.text not in ELSEWHERE and block.page.name != "README.zh.md"
]
BIN = Path(sys.executable).parent
# The thread that the pages go on with.
THREAD = "7a21c9"

# What goes on for ever has done its part once it has said something.
HEARD = """
import subprocess, sys
told = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
line = told.stdout.readline()
told.terminate() if line else None
told.communicate()
sys.exit(0 if line else told.returncode or 1)
"""
STAND_IN = """#!/bin/sh
case " $* " in
    {forever}) exec {python} -c '{heard}' {command} "$@" ;;
esac
exec {command} "$@"
"""


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    made = make_room("--hub-listen", "127.0.0.1:0")
    for directory in ("ops", ".venv/bin", "somewhere/else"):
        (made.root / directory).mkdir(parents=True)
    for name in ("ops/codexd", ".venv/bin/codexd"):
        stand_in(made.root / name, f"{BIN}/codexd", '*" -f "* | *" --watch "* | *" top "*')
    stand_in(made.root / ".venv/bin/curl", shutil.which("curl") or "", '*" -N "*')
    (made.root / ".venv/bin/codexd-codex").symlink_to(BIN / "codexd-codex")
    (made.root / "verdict.json").write_text('{"type": "object"}')
    subprocess.run(["git", "init", "-q", str(made.root)], check=True, timeout=20)
    (made.root / ".gitignore").write_text("*\n!mended\n")
    (made.root / "mended").write_text("")
    subprocess.run(["git", "add", "-A"], cwd=made.root, check=True, timeout=20)
    (made.root / "mended").write_text("a change\n")
    return made


def stand_in(path: Path, command: str, forever: str) -> None:
    path.write_text(
        STAND_IN.format(forever=forever, heard=HEARD, command=command, python=sys.executable)
    )
    path.chmod(0o755)


def thread_of(room: HubRoom) -> str:
    """A thread with a turn, which the pages may go on with."""
    listed = room.box.run("threads").stdout.split()
    if not listed:
        assert room.box.run("run", "Say hello.").returncode == 0
        listed = room.box.run("threads").stdout.split()
    return str(listed[0])


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_it_runs(room: HubRoom, block: Block) -> None:
    if room.box.process is None or room.box.process.poll() is not None:
        room.box.start()
    room.box.wait_ready()
    text = block.text
    if THREAD in text:
        text = text.replace(THREAD, thread_of(room))
    env = {**room.box.env, "PATH": f"{room.root}/.venv/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", text],
        cwd=room.root,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_program_runs(room: HubRoom) -> None:
    """The one of the page for those who write programs."""
    page = ROOT / "docs/how-to/for-program-authors.md"
    (program,) = blocks_of(page, page.read_text(), "python")
    if room.box.process is None or room.box.process.poll() is not None:
        room.box.start()
    room.box.wait_ready()
    done = subprocess.run(
        [sys.executable, "-c", program.text],
        cwd=room.root,
        env=room.box.env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.startswith("completed Hello, world\n"), done.stderr
