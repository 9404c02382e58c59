"""What `codexd start` says to people before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.cli.options import CliError
from codexd.cli.start import start_detached
from codexd.cli.start_words import running_pid, tell_what_comes
from codexd.config import Config, resolve
from codexd.platform import lock
from codexd.rendering import render_circus_ini


def config_of(root: Path, **flags: str) -> Config:
    return resolve({"repo_root": str(root), **flags}, {}, cwd="/")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Config]:
    """A daemon, which is this process."""
    config = config_of(tmp_path, server_command="a 'b' $(x)", approval_command="say é\t")
    os.makedirs(config.runtime.runtime_dir)
    Path(config.runtime.circus_ini_path).write_text(render_circus_ini(config))
    lock.acquire(config.runtime.lock_path)
    yield config
    lock.release(config.runtime.lock_path)


def test_with_the_same_settings_it_is_that_daemon(daemon: Config) -> None:
    assert running_pid(daemon) == os.getpid()


@pytest.mark.usefixtures("daemon")
def test_what_differs_is_told(tmp_path: Path) -> None:
    with pytest.raises(CliError) as told:
        running_pid(config_of(tmp_path, server_command="codex", approval_command="say é\t"))
    text = str(told.value)
    assert f"as pid {os.getpid()}, with other settings" in text
    assert '(--server-command is "a \'b\' $(x)" there and "codex" here): stop it' in text


@pytest.mark.usefixtures("daemon")
def test_of_many_that_differ_some_are_told(tmp_path: Path) -> None:
    names = ("health_misses", "log_backups", "session_keep", "restart_limit", "child_nofile")
    with pytest.raises(CliError, match="; and 2 more"):
        running_pid(config_of(tmp_path, node_id="x", **dict.fromkeys(names, "77")))


def test_where_it_is_not_known_what_runs_nothing_is_said(daemon: Config, tmp_path: Path) -> None:
    assert running_pid(config_of(tmp_path / "elsewhere")) is None
    os.unlink(daemon.runtime.circus_ini_path)
    assert running_pid(daemon) is None


@pytest.mark.parametrize(
    ("flags", "is_there", "said"),
    [
        ({}, False, ["makes state in", "runs codex app-server in"]),
        ({}, True, ["goes on with state in"]),
        ({"server_strategy": "external", "server_endpoint": "ws://h:1"}, False, ["on ws://h:1"]),
    ],
)
def test_what_comes_is_told_before_it_does(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    is_there: bool,
    said: list[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    config = config_of(tmp_path / "repo", **flags)
    if is_there:
        os.makedirs(config.paths.state_dir)
    tell_what_comes(config)
    told = capsys.readouterr().err
    assert all(text in told for text in [str(tmp_path), *said])
    assert os.path.isdir(tmp_path / "repo") is is_there


def test_whoever_does_not_wait_is_told_of_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Process:
        pid = 4711

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: Process())
    monkeypatch.setattr("codexd.supervisor.readiness.wait_for_process", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_detached(resolve({"repo_root": str(tmp_path)}, {}, cwd="/"))
    told = "codexd: codexd (pid 4711) goes on starting; `codexd stop` ends it\n"
    assert capsys.readouterr().err == told
