"""Which daemon a command or a program means, wherever it is called."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexd.client.find import DaemonPlace, NoPlace, SeveralDaemons, find_daemon, own_config
from codexd.config import Config, resolve
from codexd.daemons import listing
from codexd.platform import lock
from codexd.platform.process import identify
from codexd.settings import SettingError
from codexd.settings_ini import encode_settings

NOBODY = 2**22 + 1


class World:
    """A home with repositories, and daemons in them that are this very process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {
            "HOME": str(root),
            "XDG_STATE_HOME": str(root / "xdg"),
            "XDG_CONFIG_HOME": str(root / "config"),
        }
        self.configs: list[Config] = []

    def config(self, repo: str, **flags: str) -> Config:
        return resolve({"repo_root": str(self.root / repo), **flags}, {}, cwd="/")

    def leave_behind(self, repo: str, **flags: str) -> Config:
        """What a daemon leaves that has ended."""
        config = self.config(repo, **flags)
        Path(config.paths.repo_root).mkdir(parents=True, exist_ok=True)
        state = Path(config.paths.state_dir)
        state.mkdir(parents=True)
        identity = {"daemonId": "d", "nodeId": "n", "repoRoot": config.paths.repo_root}
        (state / "identity.json").write_text(json.dumps({**identity, "createdAt": ""}))
        return config

    def run(self, repo: str, *, is_listed: bool = True, has_ini: bool = True, **flags: str) -> Any:
        """A daemon that runs: its lock, its circus.ini, its place on the list."""
        config = self.leave_behind(repo, **flags)
        self.configs.append(config)
        lock.acquire(config.runtime.lock_path)
        if has_ini:
            ini = Path(config.runtime.circus_ini_path)
            ini.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{name} = {value}" for name, value in encode_settings(config).items()]
            ini.write_text("\n".join(["[plugin:codexd]", *lines]))
        if is_listed:
            self.list(config)
        return config

    def list(self, config: Config) -> listing.ListedDaemon:
        entry = listing.make_entry(config, None)
        assert entry is not None
        listing.enter(entry, self.environ)
        return entry

    def find(self, cwd: str, **told: str) -> DaemonPlace:
        place = self.root / cwd
        place.mkdir(parents=True, exist_ok=True)
        return find_daemon(environ=self.environ, cwd=str(place), **told)

    def clean_up(self) -> None:
        for config in self.configs:
            lock.release(config.runtime.lock_path)
            shutil.rmtree(config.runtime.runtime_dir, ignore_errors=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.clean_up()


def test_the_working_directorys_daemon_with_what_it_was_told(world: World) -> None:
    own = world.run("a", is_listed=False, logs_dir=str(world.root / "l"), node_id="told")
    world.run("b")
    for cwd in ("a", "a/x/y"):
        place = world.find(cwd)
        assert place.config == own
        assert place.process == identify(os.getpid())
        assert not place.is_only_one
    assert place.logs_dir == str(world.root / "l/codexd")
    assert (place.state_dir, place.repo_root) == (own.paths.state_dir, own.paths.repo_root)
    assert place.hub_socket_path == own.runtime.hub_socket_path


def test_one_that_is_down_is_still_the_one_of_its_directory(world: World) -> None:
    down = world.leave_behind("a")
    world.run("b")
    for cwd in ("a", "a/x/y"):
        place = world.find(cwd)
        assert (place.config, place.process) == (down, None)


def test_the_nearest_one_above_counts(world: World) -> None:
    world.leave_behind("a")
    inner = world.leave_behind("a/b")
    assert world.find("a/b/c").config == inner


def test_from_elsewhere_it_is_the_only_one_that_runs(world: World) -> None:
    own = world.run("a", node_id="told")
    place = world.find("elsewhere")
    assert (place.config, place.is_only_one, place.faults) == (own, True, ())


def test_a_value_that_cannot_be_used_is_told_wherever_the_daemon_is(world: World) -> None:
    world.run("a")
    world.environ["BAA_CODEXD_MODE"] = "typo"
    for cwd in ("a", "elsewhere"):
        with pytest.raises(SettingError, match="typo"):
            world.find(cwd)


def test_where_there_is_none_it_is_the_working_directorys(world: World) -> None:
    world.environ["BAA_NODE_ID"] = "told"
    place = world.find("here")
    assert place.process is None
    assert place.state_dir == str(world.root / "here/state/codexd")
    assert place.config.node_id == "told"


def test_of_several_each_is_named_as_it_can_be_called(world: World) -> None:
    world.run("a b")
    world.run("c", state_dir=str(world.root / "s1"))
    world.run("c", state_dir=str(world.root / "s2"))
    with pytest.raises(SeveralDaemons) as caught:
        world.find("elsewhere")
    text = str(caught.value)
    assert "3 daemons run" in text
    assert f"--repo-root '{world.root}/a b' (pid {os.getpid()})" in text
    assert f"--state-dir {world.root}/s1 " in text
    assert f"--state-dir {world.root}/s2 " in text
    assert "\n" not in text
    assert len(caught.value.daemons) == 3
    # What it says works.
    assert world.find("elsewhere", repo_root=str(world.root / "a b")).process is not None
    found = world.find("elsewhere", state_dir=str(world.root / "s1"))
    assert found.repo_root == str(world.root / "c")
    with pytest.raises(SeveralDaemons, match="2 daemons run"):
        world.find("elsewhere", repo_root=str(world.root / "c"))


@pytest.mark.parametrize("is_stale", [False, True])
def test_a_daemon_whose_state_is_elsewhere_is_that_of_its_repository(
    world: World, is_stale: bool
) -> None:
    if is_stale:
        world.leave_behind("a")
    own = world.run("a", state_dir=str(world.root / "s"), logs_dir=str(world.root / "l"))
    world.run("b")
    assert world.find("a").config == own
    assert world.find("a/x").config == own
    (world.root / "link").symlink_to(world.root / "a")
    for repo in ("a", "link"):
        assert world.find("x", repo_root=str(world.root / repo)).config == own
    assert world.find("x", repo_root=str(world.root / "c")).process is None


def test_the_settings_file_says_where_a_repositorys_daemon_is(world: World) -> None:
    file = world.root / "config/codexd/codexd.toml"
    file.parent.mkdir(parents=True)
    repo = world.root / "a"
    state, logs = world.root / "s", world.root / "l"
    file.write_text(f'[repo."{repo}"]\nstate_dir = "{state}"\nlogs_dir = "{logs}"\n')
    world.leave_behind("a", state_dir=str(state))
    world.run("b")
    place = world.find("a/x")
    assert (place.state_dir, place.logs_dir) == (f"{state}/codexd", f"{logs}/codexd")
    assert (place.repo_root, place.process) == (str(repo), None)


def test_what_names_the_repository_in_the_settings_file_counts(world: World) -> None:
    file = world.root / "config/codexd/codexd.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'repo_root = "{world.root}/a"\n')
    world.run("b")
    assert world.find("x").state_dir == str(world.root / "a/state/codexd")


def test_a_named_state_directory_is_that_of_its_own_repository(world: World) -> None:
    state = str(world.root / "s")
    down = world.leave_behind("a", state_dir=state)
    world.run("b")
    for told in ({"state_dir": state}, {}):
        if not told:
            world.environ["BAA_STATE_DIR"] = state
        place = world.find("x", **told)
        assert (place.config, place.process) == (down, None)
    assert world.find("x", repo_root=str(world.root / "c")).repo_root == str(world.root / "c")
    # Where the repository is gone, there is nothing better than what was told.
    (world.root / "a").rmdir()
    assert world.find("x").repo_root == str(world.root / "x")


def test_logs_that_are_named_are_read_where_they_are(world: World) -> None:
    own = world.run("a")
    logs = str(world.root / "copy")
    place = world.find("a", logs_dir=logs)
    assert place.config.paths.structured_event_log_path == f"{logs}/codexd/events.jsonl"
    assert place.state_dir == own.paths.state_dir
    place = world.find("x", logs_dir=logs)
    assert (place.process, place.logs_dir) == (None, f"{logs}/codexd")
    # What a shell has for all its programs says nothing of a daemon that runs.
    world.environ["BAA_LOGS_DIR"] = logs
    assert world.find("x").config == own


def test_without_a_readable_ini_the_list_tells(world: World) -> None:
    own = world.run("a", has_ini=False, logs_dir=str(world.root / "l"), node_id="told")
    for cwd in ("a", "elsewhere"):
        place = world.find(cwd)
        assert (place.logs_dir, place.config.node_id) == (own.paths.logs_dir, "told")
    listing.leave(world.list(own), world.environ)
    assert world.find("a").process is not None


def test_a_path_that_is_no_text_is_found_by_its_socket(world: World) -> None:
    own = world.run(os.fsdecode(b"\xff"))
    (entry,) = listing.running(world.environ)
    assert "\N{REPLACEMENT CHARACTER}" in entry.state_dir
    assert own_config(entry) == own


def make_state_dir(place: Path) -> Path:
    state = place / "state/codexd"
    state.mkdir(parents=True)
    (state / "identity.json").write_text("{}")
    return state


@pytest.mark.parametrize("what", ["bare", "link", "file", "root-link", "odd-identity"])
def test_what_is_no_state_directory_is_passed_over(world: World, what: str) -> None:
    own = world.run("a")
    place = world.root / "p"
    place.mkdir()
    real = make_state_dir(world.root / "real")
    if what == "bare":
        # As ~/.local has it, for the list itself.
        (place / "state/codexd/daemons").mkdir(parents=True)
    elif what == "link":
        (place / "state").mkdir()
        (place / "state/codexd").symlink_to(real)
    elif what == "root-link":
        (place / "state").symlink_to(real.parent)
    elif what == "file":
        (place / "state").write_text("")
    else:
        (place / "state/codexd/identity.json").mkdir(parents=True)
    assert world.find("p/x").config == own


def test_another_users_above_is_passed_over_and_here_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = make_state_dir(world.root / "a")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert world.find("a/x").state_dir == str(world.root / "a/x/state/codexd")
    assert world.find("a").state_dir == str(theirs)


def test_what_may_not_be_looked_at_is_another_users(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.run("a")
    theirs = make_state_dir(world.root / "b")
    real = os.lstat

    def closed(path: str, **options: Any) -> os.stat_result:
        if str(path).startswith(str(theirs)):
            raise PermissionError(13, "Permission denied", path)
        return real(path, **options)

    monkeypatch.setattr(os, "lstat", closed)
    assert world.find("b").state_dir == str(theirs)
    assert world.find("b/x").config == own


def test_one_whose_state_directory_was_taken_away_is_still_that_of_its_directory(
    world: World,
) -> None:
    own = world.run("a", is_listed=False)
    world.run("b")
    shutil.rmtree(own.paths.state_root_dir)
    place = world.find("a")
    assert (place.state_dir, place.process) == (own.paths.state_dir, identify(os.getpid()))


def test_another_users_file_on_the_list_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run("a")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    place = world.find("x")
    assert place.process is None
    assert "belongs to another user" in place.faults[0]


def test_a_pid_that_was_given_to_another_is_not_believed(world: World) -> None:
    entry = world.list(world.config("a"))
    listing.enter(
        msgspec.structs.replace(entry, daemon=msgspec.structs.replace(entry.daemon, token="x")),
        world.environ,
    )
    assert world.find("x").process is None


def test_a_list_that_cannot_be_read_is_told_only_where_it_counts(world: World) -> None:
    world.leave_behind("a")
    place = world.root / "xdg/codexd"
    place.mkdir(parents=True)
    (place / "daemons").write_text("a file in the way")
    assert world.find("a").faults == ()
    (fault,) = world.find("x").faults
    assert f"{place}/daemons cannot be read: Not a directory" in fault
    (place / "daemons").unlink()
    own = world.run("b")
    (place / "daemons/odd.json").write_bytes(b"\xff{")
    (place / "daemons/pipe.json").mkdir()
    found = world.find("x")
    assert found.config == own
    assert len(found.faults) == 2
    world.run("c")
    with pytest.raises(SeveralDaemons, match=r"pipe\.json"):
        world.find("x")


def test_without_a_working_directory_there_is_still_the_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    with pytest.raises(NoPlace, match="working directory is gone"):
        find_daemon(environ=world.environ)
    own = world.run("a")
    assert find_daemon(environ=world.environ).config == own
    assert find_daemon(environ=world.environ, repo_root=own.paths.repo_root).config == own
    with contextlib.suppress(NoPlace):
        find_daemon(environ=world.environ, state_dir="relative")
        pytest.fail("a relative path leads nowhere")
