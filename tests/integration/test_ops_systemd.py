"""systemd itself reads the rendered unit: no words of ours about its quoting are taken for true."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.config import resolve
from codexd.rendering import render_systemd

SYSTEMD = Path("/lib/systemd/systemd")
pytestmark = pytest.mark.skipif(
    not SYSTEMD.exists() or not shutil.which("setpriv"), reason="systemd is not installed"
)
NOBODY = 65534


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that the user whom systemd runs as may read."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def dump(home: Path, unit: str) -> str:
    """What systemd made of ``unit``, as its test mode prints it."""
    path = home / "systemd/user/codexd.service"
    path.parent.mkdir(parents=True)
    path.write_text(unit)
    command = [str(SYSTEMD), "--test", "--user", "--unit=codexd.service", "--log-target=console"]
    if os.getuid() == 0:
        # systemd refuses its test mode to root.
        for place in (home, *home.rglob("*")):
            os.chown(place, NOBODY, NOBODY)
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command = ["setpriv", *user, *command]
    environ = {**os.environ, **dict.fromkeys(("HOME", "XDG_CONFIG_HOME"), str(home))}
    done = subprocess.run(
        command,
        env={**environ, "XDG_RUNTIME_DIR": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout[done.stdout.index("-> Unit codexd.service") :]


def test_systemd_reads_every_value_as_it_was_meant(home: Path) -> None:
    program = home / "a $HOME 100% é" / "codexd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    node = "\"'\\ %h $x ${y}\n\t#;é"
    flags = {"node_id": node, "repo_root": "/tmp/a b%h \\", "server_args": ("a b", "$HOME")}
    words = [str(program), "$HOME", "a\"b\\c'%h"]
    dumped = dump(home, render_systemd(resolve(flags, {}, cwd="/"), home="/home/x", program=words))
    assert f"Environment: BAA_NODE_ID={node}\n" in dumped
    assert "Environment: BAA_CODEXD_SERVER_CWD=/tmp/a b%h \\\n" in dumped
    assert 'Environment: BAA_CODEXD_SERVER_ARGS=["a b", "$HOME"]\n' in dumped
    assert "WorkingDirectory: /tmp/a b%h \\\n" in dumped
    # systemd prints the words in C quotes.
    assert (
        rf'''Command Line: "{home}/a \$HOME 100% é/codexd" "\$HOME" "a\"b\\c'%h" start''' in dumped
    )
    for line in ("Type: notify", "Restart: on-failure", "TimeoutStopSec: 45s", "WatchdogSec: 30s"):
        assert line in dumped
