"""Another user's daemon is told as such; a file's owner alone proves nothing."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from codexd.cli.start import start
from codexd.cli.status import print_status
from codexd.client.errors import DaemonError
from codexd.client.owner import check_owner, foreign_owner
from codexd.config import Config
from codexd.platform import lock
from tests.support.memory import config_at

# Nobody here is this user, and so it has no name.
STRANGER = 54_321


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_at(tmp_path)
    os.makedirs(config.paths.state_dir)
    return config


def be(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr("codexd.client.owner.os.geteuid", lambda: uid)


def test_ones_own_is_ones_own(config: Config) -> None:
    check_owner(config.paths, config.runtime)
    lock.acquire(config.runtime.lock_path)
    check_owner(config.paths, config.runtime)
    lock.release(config.runtime.lock_path)


def test_the_process_tells_whose_daemon_it_is(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.acquire(config.runtime.lock_path)
    try:
        be(monkeypatch, STRANGER)
        me = pwd.getpwuid(os.getuid()).pw_name
        with pytest.raises(DaemonError, match=f"belongs to {me}: run this as that user"):
            check_owner(config.paths, config.runtime)
        with pytest.raises(DaemonError, match=me):
            check_owner(config.paths, config.runtime, root_may=True)
    finally:
        lock.release(config.runtime.lock_path)


def test_root_may_look_and_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock.acquire(config.runtime.lock_path)
    try:
        be(monkeypatch, 0)
        monkeypatch.setattr("codexd.client.owner._is_all_ours", lambda *_: False)
        monkeypatch.setattr("codexd.client.owner._user_of", lambda _pid: STRANGER)
        check_owner(config.paths, config.runtime, root_may=True)
        print_status(config, as_json=False)
        line, remark = capsys.readouterr().out.splitlines()
        assert "daemon=" in line
        assert f"belongs to user {STRANGER}" in remark
        with pytest.raises(DaemonError):
            check_owner(config.paths, config.runtime)
    finally:
        lock.release(config.runtime.lock_path)


def test_a_daemon_of_ours_on_files_of_others_is_ours(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A volume of a container, say: the files bear the number of a user outside.
    lock.acquire(config.runtime.lock_path)
    monkeypatch.setattr("codexd.client.owner._is_all_ours", lambda *_: False)
    assert psutil.Process().uids().effective == os.geteuid()
    assert foreign_owner(config.paths, config.runtime) is None
    lock.release(config.runtime.lock_path)


def test_nobody_starts_on_another_users_daemon(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.acquire(config.runtime.lock_path)
    try:
        monkeypatch.setattr("codexd.client.owner._is_all_ours", lambda *_: False)
        monkeypatch.setattr("codexd.client.owner._user_of", lambda _pid: STRANGER)
        monkeypatch.setattr("codexd.client.owner.os.geteuid", lambda: STRANGER + 1)
        result = CliRunner().invoke(start, ["--repo-root", config.paths.repo_root])
        assert isinstance(result.exception, DaemonError)
        assert f"belongs to user {STRANGER}: run this as that user" in str(result.exception)
    finally:
        lock.release(config.runtime.lock_path)


def test_what_cannot_be_read_is_its_owners(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, STRANGER)
    monkeypatch.setattr("codexd.client.owner.os.access", lambda _path, _mode: False)
    with pytest.raises(DaemonError, match="belongs to"):
        check_owner(config.paths, config.runtime, root_may=True)
