"""What the system tells of directories, and what wakes nobody."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codexd.platform.directory_watch import watch_directories

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def changes(tmp_path: Path, act: Callable[[Path], object]) -> bool:
    """Whether anything is told of ``act`` on the directory."""
    directory = tmp_path / "above" / "dir"
    directory.mkdir(parents=True)
    (directory / "file").write_text("x")

    async def play() -> bool:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        watch = watch_directories(loop, [str(directory)], told.set)
        assert watch is not None
        assert watch.look()
        with open(directory / "file", "a") as log:
            act(directory)
            log.write("a line")
            log.flush()
            # A pipe is seen by the same selector, after what was told before.
            read, write = os.pipe()
            seen = asyncio.Event()
            loop.add_reader(read, seen.set)
            os.write(write, b"x")
            await seen.wait()
            was_told = told.is_set()
            loop.remove_reader(read)
            os.close(read)
            os.close(write)
            watch.close()
            watch.close()
        return was_told

    return asyncio.run(play())


@pytest.mark.parametrize(
    "act",
    [
        lambda d: (d / "file").unlink(),
        lambda d: (d / "file").rename(d / "other"),
        lambda d: (d / "new").symlink_to("file"),
        lambda d: (d / "file").write_text("another's"),
        lambda d: (d / "file").chmod(0o644),
        lambda d: [(d / "file").unlink(), d.rmdir()],
        lambda d: d.rename(d.parent / "away"),
        lambda d: d.parent.rename(d.parent.parent / "away"),
    ],
    ids=["gone", "renamed", "new", "written", "mode", "taken", "moved", "moved above"],
)
def test_what_somebody_does_is_told(tmp_path: Path, act: Callable[[Path], object]) -> None:
    assert changes(tmp_path, act)


def test_what_is_read_or_written_to_an_open_log_is_not(tmp_path: Path) -> None:
    assert not changes(tmp_path, lambda d: (d / "file").read_text())


def test_what_is_not_there_is_watched_as_soon_as_it_is(tmp_path: Path) -> None:
    async def play() -> None:
        told = asyncio.Event()
        directory = tmp_path / "later"
        watch = watch_directories(asyncio.get_running_loop(), [str(directory)], told.set)
        assert watch is not None
        assert not watch.look()
        directory.mkdir()
        assert watch.look()
        (directory / "file").touch()
        await asyncio.wait_for(told.wait(), 10)
        watch.close()

    asyncio.run(play())


def test_it_says_whether_anything_can_have_changed_between_two_looks(tmp_path: Path) -> None:
    async def play() -> None:
        told = asyncio.Event()
        directory = tmp_path / "dir"
        directory.mkdir()
        watch = watch_directories(asyncio.get_running_loop(), [str(directory)], told.set)
        assert watch is not None
        looks = []
        for _ in range(3):
            assert watch.look()
            looks.append(watch.is_still)
        assert looks == [False, True, True]
        (directory / "file").touch()
        await asyncio.wait_for(told.wait(), 10)
        assert (watch.look(), watch.is_still) == (True, False)
        assert (watch.look(), watch.is_still) == (True, True)
        # Another directory at the path, as after a mount(8), of which nothing is told.
        watch._read = lambda: None  # type: ignore[attr-defined]
        directory.rename(tmp_path / "old")
        directory.mkdir()
        assert (watch.look(), watch.is_still) == (True, False)
        watch.close()

    asyncio.run(play())
