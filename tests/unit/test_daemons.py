"""The list of running daemons, and one daemon a CODEX_HOME."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.config import Config, resolve
from codexd.daemons import homes, listing, membership
from codexd.platform import lock
from codexd.platform.process import ProcessId
from tests.support.waiting import eventually

HOLD = """
import os, sys
from codexd.config import resolve
from codexd.daemons import homes, membership
config = resolve({"repo_root": sys.argv[1]}, {}, cwd="/")
try:
    membership.enter(config, os.environ)
except homes.HomeServed as error:
    sys.exit(str(error))
print("in", flush=True)
sys.stdin.read()
membership.leave(config.paths.state_dir, os.environ)
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "codex").mkdir()
    return {
        "HOME": str(tmp_path),
        "CODEX_HOME": str(tmp_path / "codex"),
        "XDG_STATE_HOME": str(tmp_path / "xdg"),
        "PATH": os.environ["PATH"],
    }


@contextlib.contextmanager
def daemon(repo: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has entered, or has said why not and ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(repo)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def entered(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "in\n"


def refusal(repo: Path, environ: dict[str, str]) -> str:
    with daemon(repo, environ) as process:
        out, errors = process.communicate(timeout=20)
        assert (out, process.returncode) == ("", 1)
        assert errors.count("\n") == 1
        return errors


def config_of(repo: Path, **flags: str) -> Config:
    return resolve({"repo_root": str(repo), **flags}, {}, cwd="/")


def test_a_daemon_is_listed_while_it_lives(tmp_path: Path, environ: dict[str, str]) -> None:
    assert listing.running(environ) == []
    with daemon(tmp_path / "a", environ) as process:
        assert entered(process)
        (listed,) = listing.running(environ)
        assert listed.daemon.pid == process.pid
        assert listed.state_dir == str(tmp_path / "a/state/codexd")
        assert listed.codex_home == os.path.realpath(tmp_path / "codex")
        place = Path(listing.directory(environ))
        (path,) = place.iterdir()
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["hubSocketPath"].endswith("/codexd.sock")
        process.communicate("", timeout=20)
        assert list(place.iterdir()) == []


def test_a_second_one_on_a_codex_home_is_refused_by_name(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    # Another name of the same directory changes nothing.
    (tmp_path / "link").symlink_to(tmp_path / "codex")
    with daemon(tmp_path / "a", environ) as process:
        assert entered(process)
        line = refusal(tmp_path / "b", {**environ, "CODEX_HOME": str(tmp_path / "link")})
        assert f"pid {process.pid}" in line
        assert f"codexd stop --state-dir {tmp_path}/a/state" in line
        assert f"codexd attach --state-dir {tmp_path}/a/state" in line


def test_one_that_is_on_no_list_of_ours_is_refused_too(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with daemon(tmp_path / "a", {**environ, "XDG_STATE_HOME": str(tmp_path / "other")}) as process:
        assert entered(process)
        line = refusal(tmp_path / "b", environ)
        assert str(tmp_path / "codex") in line
        if sys.platform == "linux":
            assert f"kill {process.pid}" in line
    # A whole daemon has its lock open, which says where it is.
    lock = tmp_path / "c/state/codexd/daemon.lock"
    lock.parent.mkdir(parents=True)
    identity = {"daemonId": "x", "nodeId": "n", "repoRoot": "/its/repo", "createdAt": ""}
    (lock.parent / "identity.json").write_text(json.dumps(identity))
    held = os.open(tmp_path / "codex", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with lock.open("w"):
        line = refusal(tmp_path / "b", environ)
        if sys.platform == "linux":
            assert f"codexd (pid {os.getpid()}, on {lock.parent})" in line
            assert "already, for /its/repo: " in line
    os.close(held)


def test_of_many_at_once_one_gets_in(tmp_path: Path, environ: dict[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(daemon(tmp_path / f"r{n}", environ)) for n in range(6)]
        winners = [racer for racer in racers if entered(racer)]
        assert len(winners) == 1
        assert [entry.daemon.pid for entry in listing.running(environ)] == [winners[0].pid]


def test_what_a_killed_daemon_left_is_not_believed_and_is_cleared(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with daemon(tmp_path / "a", environ) as process:
        assert entered(process)
        process.kill()
        process.wait(10)
    place = Path(listing.directory(environ))
    (place / "odd.json").write_bytes(b"\xff{")
    assert listing.running(environ) == []
    with daemon(tmp_path / "b", environ) as process:
        assert entered(process)
        assert [entry.daemon.pid for entry in listing.running(environ)] == [process.pid]
        eventually(lambda: len(list(place.iterdir())) == 1, what="a cleared list")


def test_a_pid_that_was_given_to_another_process_is_not_believed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with daemon(tmp_path / "a", environ) as process:
        assert entered(process)
        (path,) = Path(listing.directory(environ)).iterdir()
        record = json.loads(path.read_text())
        assert ProcessId(record["daemon"]["pid"], "x").pid == process.pid
        record["daemon"]["token"] = "another"
        path.write_text(json.dumps(record))
        assert listing.running(environ) == []


def test_a_list_that_cannot_be_written_keeps_nobody_from_starting(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "xdg").write_text("a file in the way")
    with daemon(tmp_path / "a", environ) as process:
        assert entered(process)
        # The CODEX_HOME is held all the same.
        assert f'CODEX_HOME "{tmp_path}/codex"' in refusal(tmp_path / "b", environ)


def test_a_codex_home_that_is_not_there_is_for_codex_to_tell(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with daemon(tmp_path / "a", {**environ, "CODEX_HOME": str(tmp_path / "none")}) as process:
        assert entered(process)
    assert not (tmp_path / "none").exists()


def test_where_directories_cannot_be_locked_the_list_decides(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    config = config_of(tmp_path / "b")
    membership.enter(config, environ)
    assert len(listing.running(environ)) == 1
    membership.leave(config.paths.state_dir, environ)
    monkeypatch.undo()
    with daemon(tmp_path / "a", environ) as process:
        assert entered(process)
        monkeypatch.setattr(fcntl, "flock", no_locks)
        with pytest.raises(homes.HomeServed, match=str(process.pid)):
            membership.enter(config, environ)


@pytest.mark.parametrize(
    ("flags", "serves"),
    [
        ({}, True),
        ({"server_command": "/opt/wrapper"}, True),
        ({"server_strategy": "external"}, False),
        ({"mode": "exec", "server_command": "sleep"}, False),
        ({"mode": "exec", "server_command": "/opt/codex"}, True),
        ({"server_args": ("-c", "pass")}, False),
    ],
)
def test_which_daemons_serve_a_codex_home(flags: dict[str, str], serves: bool) -> None:
    home = homes.served_home(config_of(Path("/repo"), **flags).server, {"CODEX_HOME": "own"})
    assert home == ("/repo/own" if serves else None)


def test_where_the_list_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listing.directory({"HOME": "/h"}) == "/h/.local/state/codexd/daemons"
    relative = {"HOME": "/h", "XDG_STATE_HOME": "no"}
    assert listing.directory(relative) == "/h/.local/state/codexd/daemons"
    monkeypatch.setattr(sys, "platform", "darwin")
    environ = {"HOME": "/h", "XDG_STATE_HOME": "/x"}
    assert listing.directory(environ) == "/h/Library/Application Support/codexd/daemons"


def test_a_daemon_that_was_taken_off_the_list_puts_itself_back(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    config = config_of(tmp_path / "a")
    membership.keep(config.paths.state_dir, environ)
    assert listing.running(environ) == []
    membership.enter(config, environ)
    before = listing.running(environ)
    place = Path(listing.directory(environ))
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    membership.keep(config.paths.state_dir, environ)
    assert listing.running(environ) == before
    membership.leave(config.paths.state_dir, environ)
    membership.keep(config.paths.state_dir, environ)
    assert listing.running(environ) == []


@pytest.mark.parametrize("was_there", [True, False])
def test_a_codex_home_that_is_made_anew_is_held_too(
    tmp_path: Path, environ: dict[str, str], was_there: bool
) -> None:
    home = tmp_path / "codex"
    if not was_there:
        home.rmdir()
    config = config_of(tmp_path / "a")
    membership.enter(config, environ)
    if was_there:
        home.rename(tmp_path / "moved")
    home.mkdir()
    other = {**environ, "XDG_STATE_HOME": str(tmp_path / "other")}
    membership.keep(config.paths.state_dir, environ)
    membership.keep(config.paths.state_dir, environ)
    assert f'CODEX_HOME "{home}"' in refusal(tmp_path / "b", other)
    membership.leave(config.paths.state_dir, environ)
    with daemon(tmp_path / "b", other) as process:
        assert entered(process)
        # What another has taken meanwhile cannot be had, and is no harm.
        homes.keep(str(home), config.paths.state_dir)
        homes.release(config.paths.state_dir)


def test_a_file_that_cannot_be_looked_at_is_not_cleared(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = config_of(tmp_path / "a"), config_of(tmp_path / "b")
    entries = [listing.make_entry(config, None) for config in (first, second)]
    assert entries[0] is not None
    assert entries[1] is not None
    listing.enter(entries[0], environ)

    def passing(path: str) -> int:
        raise OSError(24, "Too many open files", path)

    monkeypatch.setattr("codexd.daemons.listing.open_to_read", passing)
    listing.enter(entries[1], environ)
    assert len(listing.read_list(environ).faults) == 2
    monkeypatch.undo()
    assert len(listing.running(environ)) == 2


def test_another_users_process_is_told_as_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    said = homes._describe_unlisted(str(tmp_path), os.getpid())
    assert said.startswith(f"A process of {user} (pid {os.getpid()}) ")
    assert "kill" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells there")
def test_who_has_no_such_file_open_does_not_hold_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert lock.flock_holder(str(tmp_path)) == os.getpid()
    # As of a file with the same number on another device.
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    assert lock.flock_holder(str(tmp_path)) is None
    os.close(descriptor)
