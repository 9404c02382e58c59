"""What `codexd status` shows is the daemon's, whatever the shell it is asked from was told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.cli.status import status_document, status_line
from codexd.client import live as live_module
from codexd.client.ini import read_ini
from codexd.client.live import look
from codexd.config import Config, resolve
from codexd.platform import lock
from codexd.records.records import open_as_daemon
from codexd.rendering import render_circus_ini
from codexd.store.snapshot import read_snapshot


def config_of(root: Path, **flags: str) -> Config:
    return resolve({"repo_root": str(root), **flags}, {}, cwd="/")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Config]:
    """A daemon (this process) that was told other things than those who ask for it."""
    config = config_of(
        tmp_path,
        mode="exec",
        server_endpoint="unix:///run/x y.sock",
        server_strategy="external",
        server_command="a 'b' $(circus.x)",
        node_id="node 7",
        logs_dir=str(tmp_path / "elsewhere"),
        event_cache_size="7",
    )
    os.makedirs(config.runtime.runtime_dir)
    Path(config.runtime.circus_ini_path).write_text(render_circus_ini(config))
    lock.acquire(config.runtime.lock_path)
    with open_as_daemon(config) as records:
        records.recorder.daemon_started(os.getpid(), config.server)
    yield config
    lock.release(config.runtime.lock_path)


def shown(config: Config) -> tuple[Config, str]:
    snapshot = read_snapshot(config)
    live = look(config, snapshot.daemon)
    document = status_document(snapshot, live)
    assert document["config"] == live.config
    return live.config, status_line(snapshot, live)


def test_it_is_all_that_the_daemon_was_told(daemon: Config, tmp_path: Path) -> None:
    config, line = shown(config_of(tmp_path))
    assert config == daemon
    assert "daemon=running" in line
    assert " strategy=external mode=exec endpoint=unix:///run/x y.sock " in line
    assert f" logs_dir={tmp_path}/elsewhere/codexd " in line


def test_without_its_ini_the_record_tells_what_it_has(daemon: Config, tmp_path: Path) -> None:
    os.unlink(daemon.runtime.circus_ini_path)
    asked = config_of(tmp_path, event_cache_size="3")
    config, line = shown(asked)
    assert " strategy=external mode=exec endpoint=unix:///run/x y.sock " in line
    assert config.event_cache_size == 3


def test_an_older_ini_is_not_believed_against_the_record(daemon: Config, tmp_path: Path) -> None:
    older = config_of(tmp_path, server_endpoint="ws://127.0.0.1:1")
    Path(daemon.runtime.circus_ini_path).write_text(render_circus_ini(older))
    assert shown(config_of(tmp_path))[0].server.endpoint == daemon.server.endpoint


def test_where_no_daemon_runs_it_is_what_the_caller_was_told(
    daemon: Config, tmp_path: Path
) -> None:
    lock.release(daemon.runtime.lock_path)
    asked = config_of(tmp_path, server_endpoint="ws://127.0.0.1:1")
    config, line = shown(asked)
    assert config == asked
    assert " daemon=stopped " in line
    assert " endpoint=ws://127.0.0.1:1 " in line


@pytest.mark.parametrize(
    "pid", [os.getpid(), 1 << 22, None, "7"], ids=["ours", "none", "null", "text"]
)
def test_a_child_that_a_full_disk_kept_off_the_files_is_the_one_that_the_hub_tells_of(
    daemon: Config, monkeypatch: pytest.MonkeyPatch, pid: object
) -> None:
    hub = {"childPid": pid, "ready": True, "server": "up"}
    monkeypatch.setattr(live_module, "ask_hub", lambda _: hub)
    snapshot = read_snapshot(daemon)
    live = look(daemon, snapshot.daemon)
    is_there = pid == os.getpid()
    assert live.details["childPid"] == (pid if is_there else None)
    assert (live.daemon.child.status == "running") is is_there
    assert live.daemon.child.pid == (pid if is_there else None)


def test_what_the_server_says_of_its_files_is_a_remark_in_one_line(
    daemon: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = {"configFaults": ["Using defaults.\n\x1b[1m/c:1"], "server": "up"}
    monkeypatch.setattr(live_module, "ask_hub", lambda _: hub)
    live = look(daemon, read_snapshot(daemon).daemon)
    assert "codexd: the server says: Using defaults. [1m/c:1" in live.remarks


def test_odd_inis_are_none(daemon: Config, tmp_path: Path) -> None:
    path = tmp_path / "odd.ini"
    assert read_ini(str(path)) is None
    for text in (
        "",
        "[plugin:codexd]\nmode = sometimes\n",
        "[circus]\nmode = exec\n",
    ):
        path.write_text(text)
        assert read_ini(str(path)) is None
    path.unlink()
    os.mkfifo(path)
    assert read_ini(str(path)) is None
    path.unlink()
    path.symlink_to(daemon.runtime.circus_ini_path)
    assert read_ini(str(path)) is None
    path.unlink()
    path.mkdir()
    assert read_ini(str(path)) is None
    assert read_ini(daemon.runtime.circus_ini_path) == daemon
