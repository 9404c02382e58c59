"""Opening codexd's own files: nothing but a regular file, never through a link, never waiting."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.platform import files
from codexd.platform.files import (
    NotAFile,
    create_once,
    explain,
    is_aside,
    make_ours,
    make_private_directory,
    open_clearing,
    open_private,
    open_to_read,
    read_own,
    read_users,
    read_whole,
    require_private_directory,
    set_aside_odd,
    write_aside,
)
from tests.support.memory import small_disk
from tests.support.odd import ODD, Victim, as_somebody, immutable, put


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    victim = Victim(tmp_path / "victim")
    yield victim
    victim.check()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "a.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user reaches, as the one for temporary files."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o1777)
        yield Path(place)


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_neither_read_nor_written(path: Path, victim: Victim, kind: str) -> None:
    put(kind, path, victim)
    before = path.lstat()
    for call in (
        lambda: open_to_read(str(path)),
        lambda: read_whole(str(path)),
        lambda: read_own(str(path)),
        lambda: open_private(str(path)),
        lambda: open_private(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        lambda: open_private(str(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC),
    ):
        with pytest.raises(NotAFile, match="Not a regular file"):
            call()
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_set_aside_as_it_is(path: Path, victim: Victim, kind: str) -> None:
    put(kind, path, victim)
    before = path.lstat()
    sentence = set_aside_odd(str(path))
    assert sentence is not None
    assert sentence.startswith("a.json was a")
    (aside,) = path.parent.iterdir()
    assert aside.name.startswith("a.json.bad-")
    assert aside.name in sentence
    assert (aside.lstat().st_ino, aside.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert set_aside_odd(str(path)) is None


@pytest.mark.parametrize("kind", ODD)
def test_a_file_is_written_over_nothing_else(path: Path, victim: Victim, kind: str) -> None:
    put(kind, path, victim)
    write_aside(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    asides = [name for name in os.listdir(path.parent) if name != "a.json"]
    # A directory may hold something; a link, a pipe and a device hold nothing.
    assert len(asides) == (1 if kind == "directory" else 0)


def test_a_leftover_link_is_not_written_through(path: Path, victim: Victim) -> None:
    (path.parent / f".a.json.{os.getpid()}.tmp").symlink_to(victim.file)
    write_aside(str(path), b"new")
    assert os.listdir(path.parent) == ["a.json"]
    assert path.read_bytes() == b"new"


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path, victim: Victim) -> None:
    (tmp_path / "state").symlink_to(victim.directory)
    for name in ("mine", "new"):
        path = str(tmp_path / "state" / name)
        for call in (
            lambda path=path: read_whole(path),
            lambda path=path: open_private(path),
            lambda path=path: write_aside(path, b"new"),
        ):
            with pytest.raises(OSError, match="Not a directory"):
                call()


def test_nothing_is_made_below_a_link(tmp_path: Path, victim: Victim) -> None:
    (tmp_path / "state").symlink_to(victim.directory)
    with pytest.raises(OSError, match="symbolic link"):
        make_private_directory(str(tmp_path / "state" / "codexd"))


def test_a_file_that_others_may_read_becomes_private(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0o666)
    os.close(open_private(str(path)))
    assert mode(path) == 0o600


def test_an_own_file_without_permissions_is_used_all_the_same(shared: Path) -> None:
    def look() -> None:
        place = shared / "own"
        place.mkdir(mode=0o700)
        path = place / "a.json"
        path.write_bytes(b"whole")
        path.chmod(0)
        with pytest.raises(PermissionError):
            read_whole(str(path))
        assert read_own(str(path)) == b"whole"
        assert mode(path) == 0o600

    as_somebody(look)


def test_a_file_of_another_user_stays_as_it_is(shared: Path) -> None:
    path = shared / "roots.json"
    path.write_bytes(b"secret")
    path.chmod(0o600)

    def look() -> None:
        for call in (read_whole, read_own, open_private):
            with pytest.raises(PermissionError):
                call(str(path))

    as_somebody(look)
    assert mode(path) == 0o600


def test_truncating_comes_after_looking(path: Path) -> None:
    path.write_bytes(b"old")
    descriptor = open_private(str(path), os.O_RDWR | os.O_TRUNC)
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)


def test_a_huge_file_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_BYTES", 10)
    path.write_bytes(b"x" * 11)
    with pytest.raises(NotAFile, match="Too large"):
        read_whole(str(path))


def test_what_cannot_be_changed_is_told_and_left_whole(path: Path) -> None:
    path.write_bytes(b"whole")
    with immutable(path) as done:
        if not done:
            pytest.skip("no file can be made immutable here")
        with pytest.raises(PermissionError):
            write_aside(str(path), b"new")
        with pytest.raises(PermissionError):
            open_private(str(path))
        assert read_whole(str(path)) == b"whole"
    assert os.listdir(path.parent) == ["a.json"]


# -- directories -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "directory"])
def test_no_mode_is_changed_through_a_link(tmp_path: Path, victim: Victim, kind: str) -> None:
    place = tmp_path / "run"
    put(kind, place, victim)
    with pytest.raises(NotADirectoryError, match="is a"):
        make_ours(str(place))


def test_a_directory_gets_the_right_mode(tmp_path: Path) -> None:
    place = tmp_path / "run"
    for before in (0o777, 0o000, 0o755):
        make_ours(str(place))
        assert mode(place) == 0o700
        place.chmod(before)
    make_ours(str(place))
    assert mode(place) == 0o700


def test_a_directory_of_another_user_is_left_as_it_is(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    place = tmp_path / "run"
    place.mkdir(mode=0o755)
    os.chown(place, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to someone else"):
        make_ours(str(place), only_ours=True)
    with pytest.raises(PermissionError, match="belongs to someone else"):
        require_private_directory(str(place))
    assert mode(place) == 0o755


def test_a_place_that_others_can_change_is_not_private(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    place = parent / "run"
    place.mkdir(parents=True, mode=0o700)
    parent.chmod(0o755)
    require_private_directory(str(place))
    place.chmod(0o722)
    with pytest.raises(PermissionError, match="writable by others"):
        require_private_directory(str(place))
    place.chmod(0o700)
    # With the sticky bit nobody can rename what is not theirs.
    parent.chmod(0o1777)
    require_private_directory(str(place))
    parent.chmod(0o777)
    with pytest.raises(PermissionError, match="writable by others"):
        require_private_directory(str(place))


def test_what_is_no_directory_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError) as caught:
        require_private_directory(str(tmp_path / "run"))
    assert explain(caught.value) == f"is a symbolic link: {tmp_path / 'run'}"


def test_a_place_below_another_users_directory_is_not_private(shared: Path) -> None:
    (shared / "theirs").mkdir()
    os.chmod(shared / "theirs", 0o1777)
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(shared / "theirs", 54321, 54321)

    def look() -> None:
        place = shared / "theirs" / "run"
        place.mkdir(mode=0o700)
        with pytest.raises(PermissionError, match="belongs to someone else"):
            require_private_directory(str(place))

    as_somebody(look)


# -- telling -----------------------------------------------------------------------------------


def test_a_full_disk_is_named_with_the_path(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size_kib=64):
        with pytest.raises(OSError, match="No space left") as caught:
            write_aside(str(disk / "a.json"), b"x" * 100_000)
        assert explain(caught.value) == (
            f"No space left on device: the disk at {disk}, for {disk / 'a.json'}"
        )
        assert os.listdir(disk) == []


def test_other_errors_name_the_path() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/x/y")
    assert explain(error) == "Permission denied: /x/y"
    assert explain(OSError("a sentence of our own.")) == "a sentence of our own."


# -- made once, and made where something is in the way ------------------------------------------


def test_of_two_that_make_a_file_one_is_told_so(path: Path) -> None:
    assert create_once(str(path), b"first")
    assert not create_once(str(path), b"second")
    assert path.read_bytes() == b"first"
    assert mode(path) == 0o600


@pytest.mark.parametrize("kind", ODD)
def test_a_file_is_not_made_once_where_anything_is(path: Path, victim: Victim, kind: str) -> None:
    put(kind, path, victim)
    before = path.lstat()
    assert not create_once(str(path), b"x")
    assert path.lstat().st_ino == before.st_ino


def test_a_file_that_cannot_be_made_is_not_taken_for_one_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        create_once(str(tmp_path / "gone" / "a"))


def test_on_a_full_disk_nothing_is_left_of_a_file_that_is_made_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size_kib=64):
        with pytest.raises(OSError, match="No space"):
            create_once(str(disk / "a"), b"x" * (200 << 10))
        assert os.listdir(disk) == []


@pytest.mark.parametrize("kind", ODD)
def test_what_is_in_the_way_is_set_aside(path: Path, victim: Victim, kind: str) -> None:
    put(kind, path, victim)
    os.close(open_clearing(str(path)))
    assert stat.S_ISREG(path.lstat().st_mode)
    (aside,) = [name for name in os.listdir(path.parent) if name != path.name]
    assert is_aside(aside)
    assert not is_aside(path.name)


def test_what_can_be_opened_is_not_set_aside(path: Path) -> None:
    path.write_bytes(b"x")
    os.close(open_clearing(str(path)))
    assert os.listdir(path.parent) == [path.name]


def test_who_may_not_open_a_file_sets_it_aside_only_where_told_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Iterator[OSError | int] = iter([PermissionError(1, "no"), 5, PermissionError(1, "no")])

    def fake(_path: str, _flags: int) -> int:
        answer = next(opened)
        if isinstance(answer, OSError):
            raise answer
        return answer

    path.write_bytes(b"theirs")
    monkeypatch.setattr(files, "open_private", fake)
    assert open_clearing(str(path), if_error=(NotAFile, PermissionError)) == 5
    assert not path.exists()
    with pytest.raises(PermissionError):
        open_clearing(str(path))


# -- files of the user's ------------------------------------------------------------------------


def test_of_a_file_of_the_users_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"secret")
    path.symlink_to(tmp_path / "token")
    assert read_users(str(path), 4) == b"secr"


@pytest.mark.parametrize("kind", ["pipe", "directory", "link to a pipe", "device", "nothing"])
def test_what_is_no_file_of_the_users_is_not_waited_for(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind != "nothing":
        fifo = path if kind == "pipe" else path.with_name("fifo")
        os.mkfifo(fifo)
        if fifo != path:
            path.symlink_to(fifo)
    with pytest.raises(FileNotFoundError if kind == "nothing" else NotAFile):
        read_users(str(path), 4)
