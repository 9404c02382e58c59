from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codexd.platform import lock
from codexd.platform.claim import Claim
from codexd.platform.filelock import FileLock
from tests.support.memory import fill, small_disk
from tests.support.odd import ODD, Victim, as_somebody, put

HOLD = "from codexd.platform import lock; import sys; lock.acquire(sys.argv[1]); print(); input()"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "daemon.lock")


def hold(path: str) -> subprocess.Popen[bytes]:
    """Another process that has the lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


def test_the_holder_is_named_and_a_second_one_refused(path: str) -> None:
    holder = hold(path)
    try:
        with pytest.raises(lock.LockedElsewhere) as caught:
            lock.acquire(path)
        assert caught.value.holder == holder.pid
        found = lock.living_holder(path)
        assert found is not None
        assert found.pid == holder.pid
        assert not lock.is_held(path)
    finally:
        holder.communicate()


def test_the_kernel_gives_it_back_when_the_holder_is_killed(path: str) -> None:
    holder = hold(path)
    holder.kill()
    holder.communicate()
    assert lock.living_holder(path) is None
    lock.acquire(path)
    lock.acquire(path)
    found = lock.living_holder(path)
    assert found is not None
    assert found.pid == os.getpid()
    lock.release(path)
    assert lock.living_holder(path) is None
    assert Path(path).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"pid": "x"}', b"[" * 100_000])
def test_a_lock_that_says_nonsense_names_nobody(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    assert lock.read_holder(path) is None
    assert lock.living_holder(path) is None


def test_the_lock_is_for_its_owner_alone(path: str) -> None:
    lock.acquire(path)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    lock.release(path)


def second_start(path: str) -> str:
    """What another process hears that wants the lock."""
    code = (
        "from codexd.platform import lock; import sys\n"
        "try: lock.acquire(sys.argv[1]); print('taken')\n"
        "except lock.LockedElsewhere as error: print('held by', error.holder)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS's claim is a file elsewhere")
@pytest.mark.parametrize("how", ["the file", "the directory", "another file"])
def test_a_lock_that_is_taken_away_lets_nobody_in(tmp_path: Path, how: str) -> None:
    place = tmp_path / "state"
    place.mkdir()
    path = str(place / "daemon.lock")
    lock.acquire(path)
    try:
        if how == "the directory":
            shutil.rmtree(place)
            place.mkdir()
        else:
            os.unlink(path)
        if how == "another file":
            Path(path).touch()
        # At no moment: not before the holder has noticed, not after.
        assert second_start(path) == f"held by {os.getpid()}"
        found = lock.living_holder(path)
        assert found is not None
        assert found.pid == os.getpid()
        lock.keep(path)
        holder = lock.read_holder(path)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert second_start(path) == f"held by {os.getpid()}"
    finally:
        lock.release(path)
    assert second_start(path) == "taken"


def test_one_who_knows_no_claims_is_seen_at_the_next_look(path: str) -> None:
    lock.acquire(path)
    try:
        os.unlink(path)
        other = FileLock(path)
        assert other.acquire(0)
        with pytest.raises(lock.LockedElsewhere):
            lock.keep(path)
        other.release()
        lock.keep(path)
    finally:
        lock.release(path)


def test_another_spelling_of_the_path_is_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    holder = hold(str(tmp_path / "real" / "daemon.lock"))
    try:
        os.unlink(tmp_path / "real" / "daemon.lock")
        with pytest.raises(lock.LockedElsewhere):
            lock.acquire(str(tmp_path / "link" / "daemon.lock"))
    finally:
        holder.communicate()


@pytest.mark.parametrize("kind", ODD)
def test_what_stands_in_place_of_the_lock_is_set_aside(tmp_path: Path, kind: str) -> None:
    victim = Victim(tmp_path / "victim")
    path = tmp_path / "state" / "daemon.lock"
    path.parent.mkdir()
    put(kind, path, victim)
    assert lock.living_holder(str(path)) is None
    lock.acquire(str(path))
    lock.release(str(path))
    victim.check()
    assert any(name.startswith("daemon.lock.bad-") for name in os.listdir(path.parent))


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size_kib=64):
        path = str(disk / "daemon.lock")
        fill(disk)
        lock.acquire(path)
        assert lock.read_holder(path) is None
        found = lock.living_holder(path)
        assert found is not None
        assert found.pid == os.getpid()
        (disk / "filler").unlink()
        lock.keep(path)
        assert lock.read_holder(path) == found
        lock.release(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace is Linux's")
def test_a_name_that_another_user_took_keeps_nobody_out(path: str) -> None:
    claim = Claim(path)
    ready, done = os.pipe(), os.pipe()

    def squat() -> None:
        with socket.socket(socket.AF_UNIX) as squatter:
            squatter.bind(f"\0{claim._name}")
            squatter.listen()
            os.write(ready[1], b"x")
            os.read(done[0], 1)

    thread = threading.Thread(target=as_somebody, args=(squat,))
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    thread.start()
    try:
        os.read(ready[0], 1)
        assert claim.holder() is None
        lock.acquire(path)
        lock.release(path)
    finally:
        os.write(done[1], b"x")
        thread.join(10)
        for descriptor in (*ready, *done):
            os.close(descriptor)


def test_one_writer_at_a_time(path: str) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.acquire(0)
    assert not second.acquire(0)
    assert not second.acquire(0.03)
    first.release()
    assert second.acquire(0)
    second.release()
    second.release()
