"""The directories of a daemon: what is made, what is refused, what is set aside."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from codexd import runtime
from codexd.child.beside import SocketBeside
from codexd.cli.start import tell_whose_place_it_is
from codexd.config import Config
from codexd.platform import lock
from codexd.runtime import UnusableDirectory, make_directories, set_right
from tests.support.codex import short_directory
from tests.support.memory import config_at
from tests.support.odd import ODD, Victim, put


@pytest.fixture
def repo() -> Iterator[Path]:
    """Short, so that the runtime directory is below the state directory."""
    with short_directory() as place:
        (place / "repo").mkdir()
        yield place / "repo"


@pytest.fixture
def config(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    # It is locked by whoever takes over, and there may be several of these tests at once.
    monkeypatch.setenv("CODEX_HOME", str(repo / "home"))
    return config_at(repo)


def names(place: Path) -> list[str]:
    return sorted(os.listdir(place))


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


# -- links that a repository brings ------------------------------------------------------------


@pytest.mark.parametrize("what", ["state", "logs", "state/codexd", "logs/codexd"])
def test_a_directory_that_is_a_link_is_refused(repo: Path, what: str) -> None:
    victim = Victim(repo / "victim")
    link = repo / what
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim.directory)
    config = config_at(repo)
    with pytest.raises(UnusableDirectory) as caught:
        make_directories(config.paths, config.runtime)
    assert f'"{link}' in str(caught.value)
    assert "symbolic link" in str(caught.value)
    assert "--logs-dir" in str(caught.value) or "--state-dir" in str(caught.value)
    victim.check()


def test_a_link_above_the_named_directory_is_refused_in_the_repository_only(repo: Path) -> None:
    (repo / "var").symlink_to(repo.parent)
    inside = config_at(repo, state_dir=str(repo / "var" / "state"))
    with pytest.raises(UnusableDirectory, match="is not followed"):
        make_directories(inside.paths, inside.runtime)
    outside = repo.parent / "elsewhere"
    outside.mkdir()
    (repo.parent / "named").symlink_to(outside)
    config = config_at(repo, state_dir=str(repo.parent / "named"))
    make_directories(config.paths, config.runtime)
    assert (outside / "codexd" / "run").is_dir()


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "directory"])
@pytest.mark.parametrize("name", ["run", "run/io"])
def test_what_stands_in_place_of_the_runtime_directory_is_set_aside(
    repo: Path, kind: str, name: str
) -> None:
    victim = Victim(repo / "victim")
    config = config_at(repo)
    make_directories(config.paths, config.runtime)
    path = Path(config.paths.state_dir, name)
    put(kind, path, victim)
    repairs = make_directories(config.paths, config.runtime) + set_right(
        config.paths, config.runtime
    )
    assert [text.split(" was ")[0] for text in repairs] == [path.name]
    assert any(entry.startswith(f"{path.name}.bad-") for entry in names(path.parent))
    assert mode(config.runtime.runtime_dir) == 0o700
    victim.check()


def test_pipes_of_an_earlier_child_are_not_looked_for_behind_links(
    repo: Path, config: Config
) -> None:
    victim = Victim(repo / "victim")
    make_directories(config.paths, config.runtime)
    io = Path(config.runtime.runtime_dir, "io")
    io.mkdir()
    (io / "1").symlink_to(victim.directory)
    runtime.take_over(config, print)
    assert not io.exists()
    runtime.leave(config.paths, config.runtime)
    victim.check()


# -- every file --------------------------------------------------------------------------------

FILES = (
    *(f"state/codexd/{name}" for name in runtime._STATE_FILES),
    *(f"logs/codexd/{name}" for name in ("events.jsonl", "stdout.log", "stderr.log")),
    *(f"logs/codexd/{name}" for name in ("codexd.log", "daemon.log", "events.jsonl.1")),
    *(f"state/codexd/run/{name}" for name in ("circus.ini", "handshake.json", "family.json")),
    *(f"state/codexd/run/{name}" for name in ("spare-handshake.json", "spare-family.json")),
    *(f"state/codexd/run/{name}" for name in ("circus.sock", "events.sock", "codexd.sock")),
)


@pytest.mark.parametrize("kind", ODD)
def test_whatever_stands_in_place_of_a_file_is_set_aside(
    repo: Path, config: Config, kind: str
) -> None:
    victim = Victim(repo / "victim")
    make_directories(config.paths, config.runtime)
    for file in FILES:
        put(kind, repo / file, victim)
    repairs = set_right(config.paths, config.runtime)
    assert sorted(text.split(" was ")[0] for text in repairs) == sorted(
        os.path.basename(file) for file in FILES
    )
    for file in FILES:
        assert not os.path.lexists(repo / file)
        assert any((repo / file).parent.glob(f"{os.path.basename(file)}.bad-*"))
    assert set_right(config.paths, config.runtime) == []
    victim.check()


def test_what_is_right_stays(repo: Path, config: Config) -> None:
    make_directories(config.paths, config.runtime)
    with socket.socket(socket.AF_UNIX) as serving:
        serving.bind(config.runtime.hub_socket_path)
        for file in FILES:
            if not file.endswith(".sock"):
                (repo / file).touch()
        (repo / "logs/codexd/another.thing").symlink_to("/nowhere")
        assert set_right(config.paths, config.runtime) == []


def test_where_a_spare_is_to_listen_only_its_socket_stays_or_a_link(
    repo: Path, config: Config
) -> None:
    victim = Victim(repo / "victim")
    make_directories(config.paths, config.runtime)
    run = Path(config.runtime.runtime_dir)
    beside = SocketBeside(str(repo / "s"), str(run))
    put("directory", Path(beside.path), victim)
    repairs = set_right(config.paths, config.runtime)
    assert [text.split(" is kept")[0] for text in repairs] == ["spare0.sock was a directory; it"]
    beside.prepare()
    # codex makes a link there, and its socket elsewhere; others have the socket itself there.
    (run / "spare0.sock").symlink_to(repo / "of-spare0")
    with socket.socket(socket.AF_UNIX) as serving:
        serving.bind(str(run / "spare1.sock"))
        assert set_right(config.paths, config.runtime) == []


def test_what_was_set_aside_outlives_the_runtime_directory(config: Config) -> None:
    runtime.make_directories(config.paths, config.runtime)
    runtime.take_over(config, print)
    place = Path(config.runtime.runtime_dir)
    (place / "circus.ini").mkdir()
    (place / "circus.ini" / "mine").touch()
    set_right(config.paths, config.runtime)
    (place / "handshake.json").touch()
    runtime.leave(config.paths, config.runtime)
    (aside,) = place.iterdir()
    assert names(aside) == ["mine"]


def test_leaving_goes_through_no_link(repo: Path, config: Config) -> None:
    victim = Victim(repo / "victim")
    make_directories(config.paths, config.runtime)
    os.rmdir(config.runtime.runtime_dir)
    os.symlink(victim.directory, config.runtime.runtime_dir)
    runtime.leave(config.paths, config.runtime)
    victim.check()


# -- somebody else's ---------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("which", ["the parent", "the directory"])
def test_a_runtime_directory_of_another_user_is_not_used(config: Config, which: str) -> None:
    # As the one in /tmp, but of a user that nobody is.
    place = Path(f"/tmp/codexd-{os.getpid()}-test", "0123456789abcdef")
    moved = msgspec.structs.replace(
        config, runtime=msgspec.structs.replace(config.runtime, runtime_dir=str(place))
    )
    theirs = place.parent if which == "the parent" else place
    try:
        place.mkdir(parents=True, mode=0o755)
        os.chown(theirs, 12345, 12345)
        theirs.chmod(0o755)
        with pytest.raises(UnusableDirectory, match="belongs to someone else"):
            make_directories(moved.paths, moved.runtime)
        assert mode(theirs) == 0o755
    finally:
        shutil.rmtree(place.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("which", ["state", "logs"])
def test_sudo_makes_nothing_where_a_users_daemon_was(
    repo: Path, config: Config, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = repo / which / "codexd"
    theirs.mkdir(parents=True, mode=0o700)
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("SUDO_UID", "12345")
    with pytest.raises(UnusableDirectory, match="is a place of user 12345: run codexd as that"):
        make_directories(config.paths, config.runtime)
    assert list(theirs.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_sudo_makes_nothing_in_a_users_repository(
    repo: Path,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.chown(repo, 12345, 12345)
    monkeypatch.setenv("SUDO_UID", "12345")
    with pytest.raises(UnusableDirectory, match="run codexd as that user"):
        make_directories(config.paths, config.runtime)
    assert list(repo.iterdir()) == []
    tell_whose_place_it_is(config)
    assert capsys.readouterr().err == ""
    # In a container, root is often the only user that there is.
    monkeypatch.delenv("SUDO_UID")
    tell_whose_place_it_is(config)
    assert "is in a place of user 12345" in capsys.readouterr().err
    make_directories(config.paths, config.runtime)
    tell_whose_place_it_is(config)
    assert capsys.readouterr().err == ""


# -- git ---------------------------------------------------------------------------------------


def test_git_sees_nothing_of_it(repo: Path, config: Config) -> None:
    make_directories(config.paths, config.runtime)
    for place in ("logs", "logs/codexd", "state", "state/codexd"):
        assert (repo / place / ".gitignore").read_text() == "*\n"


def test_git_still_sees_what_is_not_ours(repo: Path, config: Config) -> None:
    (repo / "state").mkdir()
    (repo / "state" / "tracked.json").touch()
    (repo / "logs" / "launchd").mkdir(parents=True)
    make_directories(config.paths, config.runtime)
    assert not (repo / "state" / ".gitignore").exists()
    assert (repo / "state" / "codexd" / ".gitignore").exists()
    assert (repo / "logs" / ".gitignore").exists()


@pytest.mark.parametrize("kind", ["a file of the user's", "a link"])
def test_an_ignore_file_that_is_there_stays(repo: Path, config: Config, kind: str) -> None:
    victim = Victim(repo / "victim")
    path = repo / "state" / "codexd" / ".gitignore"
    path.parent.mkdir(parents=True)
    if kind == "a link":
        path.symlink_to(victim.missing)
    else:
        path.write_text("!keep\n")
    make_directories(config.paths, config.runtime)
    assert path.is_symlink() or path.read_text() == "!keep\n"
    victim.check()


def test_directories_elsewhere_get_no_ignore_file(repo: Path) -> None:
    elsewhere = repo.parent / "elsewhere"
    config = config_at(repo, state_dir=str(elsewhere))
    make_directories(config.paths, config.runtime)
    assert names(elsewhere) == ["codexd"]
    assert names(elsewhere / "codexd") == ["run"]


# -- a running daemon --------------------------------------------------------------------------


def test_a_daemon_that_loses_its_directories_makes_them_again(config: Config) -> None:
    make_directories(config.paths, config.runtime)
    runtime.take_over(config, print)
    try:
        shutil.rmtree(config.paths.state_root_dir)
        shutil.rmtree(config.paths.logs_root_dir)
        runtime.keep(config.paths, config.runtime)
        holder = lock.read_holder(config.runtime.lock_path)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert os.path.isdir(config.paths.logs_dir)
    finally:
        runtime.leave(config.paths, config.runtime)


def test_a_directory_that_cannot_be_made_names_the_disk(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(UnusableDirectory, match=r"No space left on device: the disk at /.*, for /"):
        make_directories(config.paths, config.runtime)
