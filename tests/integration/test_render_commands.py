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


def codexd(*args: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    # Nothing of the shell that runs this suite: what it sets would be in the service.
    environ = {"HOME": HOME, "LC_ALL": "C", "PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [sys.executable, "-m", "codexd", *args],
        cwd=cwd,
        env=environ,
        umask=0o027,
        capture_output=True,
        timeout=60,
    )


def test_they_print_what_the_functions_render(tmp_path: Path) -> None:
    config = resolve({"node_id": "né\udcff"}, {}, cwd=str(tmp_path))
    done = codexd("render-circus", "--node-id", "né\udcff", cwd=tmp_path)
    assert done.stdout.decode() == render_circus_ini(config)

    config = resolve({"node_id": "né"}, {}, cwd=str(tmp_path))
    done = codexd("render-plist", "--node-id", "né", cwd=tmp_path)
    assert done.stdout.decode() == render_plist(config, home=HOME, umask=0o027)
    done = codexd("render-systemd", "--node-id", "né", cwd=tmp_path)
    assert done.stdout.decode() == render_systemd(config, home=HOME, umask=0o027)
    assert list(tmp_path.iterdir()) == []


def test_their_options_are_taken(tmp_path: Path) -> None:
    options = ["--label", "org.x", "--home", "/h", "--program", "bin/codexd"]
    options += ["--process-type", "Standard"]
    done = codexd("render-plist", *options, cwd=tmp_path)
    parsed = plistlib.loads(done.stdout)
    assert (parsed["Label"], parsed["ProcessType"]) == ("org.x", "Standard")
    assert parsed["EnvironmentVariables"]["HOME"] == "/h"
    assert parsed["ProgramArguments"] == [f"{tmp_path}/bin/codexd", "start"]


def test_what_the_shell_sets_for_the_server_goes_with_it(tmp_path: Path) -> None:
    shell = {"CODEX_HOME": "my codex", "HTTPS_PROXY": "http://proxy:3128", "EDITOR": "vi"}
    for command in ("render-plist", "render-systemd"):
        done = codexd(command, cwd=tmp_path, **shell)
        assert f"{tmp_path}/my codex".encode() in done.stdout
        assert b"http://proxy:3128" in done.stdout
        assert b"EDITOR" not in done.stdout
        assert done.stderr == b""


def test_the_settings_file_and_what_was_given_over_it_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('log_backups = 9\nrestart_limit = 3\nnode_id = "x"\n')
    done = codexd("render-plist", "--config", "mine.toml", "--log-backups", "5", cwd=tmp_path)
    environment = plistlib.loads(done.stdout)["EnvironmentVariables"]
    assert environment["BAA_CODEXD_CONFIG"] == f"{tmp_path}/mine.toml"
    # 5 is the default, and not what the file says.
    assert environment["BAA_CODEXD_LOG_BACKUPS"] == "5"
    assert environment["BAA_CODEXD_RESTART_LIMIT"] == "3"
    done = codexd("render-systemd", cwd=tmp_path, BAA_CODEXD_CONFIG="mine.toml")
    assert f"BAA_CODEXD_CONFIG={tmp_path}/mine.toml" in done.stdout.decode()


def test_a_secret_is_named_and_never_written(tmp_path: Path) -> None:
    shell = {"OPENAI_API_KEY": "sk-hush", "ALL_PROXY": "socks5://me:hush@proxy"}
    for command in ("render-plist", "render-systemd"):
        done = codexd(command, cwd=tmp_path, **shell)
        assert b"hush" not in done.stdout
        (line,) = done.stderr.decode().splitlines()
        assert "OPENAI_API_KEY, ALL_PROXY" in line
        assert "sk-hush" not in line


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
