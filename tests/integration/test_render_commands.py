"""`codexd render-…` as a user runs them."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from pathlib import Path

import pytest

from codexd.config import resolve
from codexd.rendering import render_circus_ini, render_plist, render_systemd

HOME = "/home/some one"


def codexd(*args: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BAA_")}
    return subprocess.run(
        [sys.executable, "-m", "codexd", *args],
        cwd=cwd,
        env={**environ, "HOME": HOME, "LC_ALL": "C"},
        capture_output=True,
        timeout=60,
    )


def test_they_print_what_the_functions_render(tmp_path: Path) -> None:
    config = resolve({"node_id": "né\udcff"}, {}, cwd=str(tmp_path))
    done = codexd("render-circus", "--node-id", "né\udcff", cwd=tmp_path)
    assert done.stdout.decode() == render_circus_ini(config)

    config = resolve({"node_id": "né"}, {}, cwd=str(tmp_path))
    done = codexd("render-plist", "--node-id", "né", cwd=tmp_path)
    assert done.stdout.decode() == render_plist(config, home=HOME)
    done = codexd("render-systemd", "--node-id", "né", cwd=tmp_path)
    assert done.stdout.decode() == render_systemd(config, home=HOME)
    assert list(tmp_path.iterdir()) == []


def test_their_options_are_taken(tmp_path: Path) -> None:
    options = ["--label", "org.x", "--home", "/h", "--program", "bin/codexd"]
    done = codexd("render-plist", *options, cwd=tmp_path)
    parsed = plistlib.loads(done.stdout)
    assert parsed["Label"] == "org.x"
    assert parsed["EnvironmentVariables"]["HOME"] == "/h"
    assert parsed["ProgramArguments"] == [f"{tmp_path}/bin/codexd", "start"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["render-plist", "--node-id", "a\x01b"], b"BAA_NODE_ID"),
        (["render-plist", "--label", "a/b"], b"--label"),
        (["render-systemd", "--program", "/it's"], b"--program"),
        (["render-circus", "--mode", "none"], b'"none"'),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(
    tmp_path: Path, args: list[str], named: bytes
) -> None:
    done = codexd(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert named in done.stderr
