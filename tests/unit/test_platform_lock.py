from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codexd.platform import lock

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
