"""Whether a service could run, and whether it does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.client import service
from codexd.client.service import closed_directories, find_obstacle, wait_for_service
from codexd.config import Config, resolve
from codexd.contracts import ChildState
from codexd.daemons import membership
from codexd.platform import lock
from codexd.store.blank import blank_daemon
from codexd.store.files import pretty, write_atomic

NOBODY = 2**22 + 1


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return resolve({"repo_root": str(tmp_path), "server_command": "/bin/sh"}, {}, cwd="/")


@contextlib.contextmanager
def running(config: Config, child: ChildState | None = None) -> Iterator[None]:
    """This process is the daemon of ``config``."""
    Path(config.paths.state_dir).mkdir(parents=True, exist_ok=True)
    lock.acquire(config.runtime.lock_path)
    state = blank_daemon(config.server)
    state.started, state.pid = True, os.getpid()
    state.child = child or state.child
    write_atomic(config.paths.daemon_state_path, pretty(state))
    try:
        yield
    finally:
        lock.release(config.runtime.lock_path)


def child(**facts: object) -> ChildState:
    known = {"strategy": "spawn", "mode": "app-server", "endpoint": "stdio://x", **facts}
    return ChildState(**known)  # type: ignore[arg-type]


def test_nothing_is_in_the_way_of_a_service_that_can_run(config: Config) -> None:
    assert find_obstacle(config, {"HOME": "/nowhere"}, None) is None


def test_a_codex_home_that_is_not_there_is_in_the_way(tmp_path: Path) -> None:
    flags = {"repo_root": str(tmp_path), "server_command": "/bin/sh"}
    config = resolve(flags, {}, cwd="/")
    environ = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path / "none")}
    said = find_obstacle(config, environ, None)
    assert said is not None
    assert f'CODEX_HOME "{tmp_path}/none" is no directory' in said
    (tmp_path / "none").mkdir()
    assert find_obstacle(config, environ, None) is None


def test_a_daemon_is_in_the_way_unless_it_is_the_service_itself(config: Config) -> None:
    with running(config):
        assert find_obstacle(config, {}, os.getpid()) is None
        for other in (None, NOBODY):
            said = find_obstacle(config, {}, other) or ""
            assert f"pid {os.getpid()}" in said
            assert f"--state-dir {config.paths.state_root_dir}" in said


def test_one_on_the_same_codex_home_is_in_the_way(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    other = resolve({"repo_root": str(tmp_path / "other")}, {}, cwd="/")
    membership.enter(other, environ)
    try:
        # The list leaves out whoever asks.
        monkeypatch.setattr(os, "getpid", lambda: NOBODY)
        said = find_obstacle(config, environ, None) or ""
        assert f"codexd stop --state-dir {tmp_path}/other/state" in said
        monkeypatch.undo()
    finally:
        membership.leave(other.paths.state_dir, environ)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"server_command": "no-such"}, "PATH of the service: /bin"),
        ({"server_cwd": "/no/such"}, '"/no/such" does not exist'),
        ({"server_endpoint": "tcp://x"}, '"tcp://x"'),
        ({"hub_listen": "0.0.0.0:80"}, "--hub-allow-plaintext"),
    ],
)
def test_a_configuration_that_cannot_be(tmp_path: Path, flags: dict[str, str], said: str) -> None:
    config = resolve({"repo_root": str(tmp_path), **flags}, {}, cwd="/")
    assert said in (find_obstacle(config, {"PATH": "/bin"}, None) or "")


def test_directories_that_macos_closes() -> None:
    flags = {"repo_root": "/Users/me/Documents/repo", "logs_dir": "/Volumes/disk/logs"}
    config = resolve({**flags, "state_dir": "/Users/me/Documentsx", "server_cwd": "/"}, {}, cwd="/")
    closed = ["/Users/me/Documents/repo", "/Volumes/disk/logs/codexd"]
    assert closed_directories(config.paths, config.server.child_cwd, "/Users/me") == closed


@pytest.mark.parametrize(
    ("repo", "child_cwd", "closed"),
    [
        ("/Users/me/Library/Mobile Documents/x", "/", 3),
        ("/Users/me/code", "/", 0),
        ("/Users/me/code", "/Users/me/Desktop", 1),
    ],
)
def test_each_place_that_macos_closes_is_told_once(repo: str, child_cwd: str, closed: int) -> None:
    paths = resolve({"repo_root": repo}, {}, cwd="/").paths
    assert len(closed_directories(paths, child_cwd, "/Users/me")) == closed


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (child(status="running", ready=True), None),
        (child(status="external"), None),
        (child(mode="exec", status="stopped"), None),
        (child(status="failed", last_error="Oh!", next_restart_at="soon"), "does not: Oh!"),
    ],
)
def test_a_service_is_up_or_says_why_not(
    config: Config, state: ChildState, said: str | None
) -> None:
    with running(config, state):
        found = wait_for_service(config, os.getpid, lambda: False, patience_s=20)
    assert (found is None) if said is None else (said in (found or ""))


def test_a_daemon_that_is_not_the_service_does_not_count(config: Config) -> None:
    with running(config, child(status="running", ready=True)):
        assert wait_for_service(config, lambda: NOBODY, lambda: False, patience_s=0) is not None
        assert wait_for_service(config, lambda: None, lambda: True, patience_s=60) is not None


def test_a_server_that_never_gets_ready_is_told_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_POLL_S", 0.001)
    config = resolve({"repo_root": str(tmp_path), "ready_timeout_ms": "1"}, {}, cwd="/")
    with running(config, child(status="running")):
        found = wait_for_service(config, os.getpid, lambda: False, patience_s=0)
    assert found == "The daemon runs, but its server is running and not ready."
