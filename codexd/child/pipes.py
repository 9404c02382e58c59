"""The named pipes of each child: RUNTIME/io/GENERATION/{stdin,stdout,stderr}, and two stages.

Every child gets pipes of its own, so that nothing of an old child mixes with a new one's. They
are opened read-write by circusd and by the child itself: stdin then never ends while writers
come and go, and what the child wrote waits in the pipe while nobody reads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from pathlib import Path

import msgspec

from codexd.platform.files import create_once, make_ours, make_private_directory, set_aside_odd
from codexd.platform.pipes import set_pipe_capacity

STREAMS = ("stdin", "stdout", "stderr")
# By way of them goes what a child writes in great amounts, see :mod:`codexd.eventlog.stage`.
# Without splice(2) they would be of no use.
_STAGES = ("stdout-stage", "stderr-stage") if sys.platform == "linux" else ()
# What a child can write while the plugin is away: as much as Linux lets a user have in one pipe.
# On macOS it stays at 8 KiB.
_CAPACITY = 1 << 20

# How soon their names are back after they were taken away; see ChildPipes.name_again. On macOS
# they never are.
NAMED_AGAIN_S = 5.0 if sys.platform == "linux" else 0.0


def io_dir(runtime_dir: str) -> Path:
    """The directory that holds one directory for each generation."""
    return Path(runtime_dir, "io")


def aside(generation: int) -> str:
    """What the directory of a generation is called that is a spare's, and not yet the child's."""
    return f"spare-{generation}"


def pipe_path(runtime_dir: str, generation: int | str, stream: str) -> str:
    """The named pipe of one stream of one generation, or of one that is :func:`aside`."""
    return str(io_dir(runtime_dir) / str(generation) / stream)


def stage_path(runtime_dir: str, generation: int, stream: str) -> str:
    """The named pipe by which much goes from one stream into its log."""
    return pipe_path(runtime_dir, generation, f"{stream}-stage")


def generations(runtime_dir: str) -> list[int]:
    """Every generation whose pipes are still there, oldest first; none that is aside."""
    try:
        names = os.listdir(io_dir(runtime_dir))
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def speaks_first(runtime_dir: str, generation: int | str) -> bool:
    """Whether nobody has written to the stdin of this generation before; says so only once.

    Whoever wrote and died may have left half a line there.
    """
    try:
        return create_once(pipe_path(runtime_dir, generation, "spoken"))
    except OSError:
        return False


def remove(runtime_dir: str, generation: int | str) -> None:
    """Take away the pipes of one generation; what is still in them is lost."""
    place = io_dir(runtime_dir)
    # Nothing is taken away behind a link.
    if not place.is_symlink():
        shutil.rmtree(place / str(generation), ignore_errors=True)


def _make_place(runtime_dir: str, generation: int | str) -> Path:
    """An empty directory for the pipes of one generation."""
    place = io_dir(runtime_dir)
    make_private_directory(runtime_dir)
    set_aside_odd(str(place), is_right=stat.S_ISDIR)
    make_ours(str(place))
    remove(runtime_dir, generation)
    make_ours(str(place / str(generation)))
    return place / str(generation)


class ChildPipes(msgspec.Struct):
    """The pipes of one generation, held open read-write; ``stages`` for codexd alone."""

    generation: int
    stdin: int
    stdout: int
    stderr: int
    stages: tuple[int, ...]

    @classmethod
    def create(cls, runtime_dir: str, generation: int, *, spare: bool = False) -> ChildPipes:
        """Make and open the pipes; those of a ``spare`` are aside.

        Raises:
            OSError: they cannot be made.
        """
        directory = _make_place(runtime_dir, aside(generation) if spare else generation)
        opened: list[int] = []
        try:
            for name in (*STREAMS, *_STAGES):
                path = directory / name
                os.mkfifo(path, 0o600)
                opened.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
                if name in STREAMS:
                    set_pipe_capacity(opened[-1], _CAPACITY)
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        stdin, stdout, stderr, *stages = opened
        return cls(generation, stdin, stdout, stderr, tuple(stages))

    def come_forth(self, runtime_dir: str) -> None:
        """The spare whose pipes these are is the child from now on.

        Raises:
            OSError: they are not where they were.
        """
        place = io_dir(runtime_dir)
        os.rename(place / aside(self.generation), place / str(self.generation))

    def go_aside(self, runtime_dir: str) -> None:
        """It is not after all."""
        place = io_dir(runtime_dir)
        with contextlib.suppress(OSError):
            os.rename(place / str(self.generation), place / aside(self.generation))

    def name_again(self, runtime_dir: str) -> None:
        """Where the names of the pipes were taken away, let them lead to the pipes again.

        Linux only, by way of /proc; elsewhere a plugin that is restarted does not find them,
        and has the child replaced.

        Raises:
            OSError: the names cannot be made.
        """
        place = io_dir(runtime_dir)
        is_there = (place / str(self.generation)).exists() and not place.is_symlink()
        if is_there or sys.platform != "linux":
            return
        directory = _make_place(runtime_dir, self.generation)
        pipes = [self.stdin, self.stdout, self.stderr, *self.stages]
        for name, descriptor in zip((*STREAMS, *_STAGES), pipes, strict=True):
            os.symlink(f"/proc/{os.getpid()}/fd/{descriptor}", directory / name)
        speaks_first(runtime_dir, self.generation)

    def close(self) -> None:
        """Let go of the pipes."""
        for descriptor in (self.stdin, self.stdout, self.stderr, *self.stages):
            with contextlib.suppress(OSError):
                os.close(descriptor)


class PipeRack:
    """The pipes of the children that circusd holds open: the present one's, and unread ones."""

    def __init__(self, runtime_dir: str) -> None:
        self._runtime_dir = runtime_dir
        self._held: list[ChildPipes] = []

    @property
    def present(self) -> ChildPipes:
        """The pipes of the newest generation."""
        return self._held[-1]

    def add(self, generation: int) -> None:
        """Open the pipes of a generation, and let go of those that were read to the end.

        Raises:
            OSError: they cannot be made.
        """
        self.take(ChildPipes.create(self._runtime_dir, generation))

    def take(self, pipes: ChildPipes) -> None:
        """Hold the pipes of a child that was a spare until now; the rest as :meth:`add`."""
        self._held.append(pipes)
        self.let_go()

    def let_go(self) -> None:
        """Close the pipes of earlier children that were read to the end."""
        unread = set(generations(self._runtime_dir))
        for pipes in [held for held in self._held[:-1] if held.generation not in unread]:
            self._held.remove(pipes)
            pipes.close()

    def name_again(self) -> None:
        """See that the present pipes have their names.

        Raises:
            OSError: the names cannot be made.
        """
        if self._held:
            self.present.name_again(self._runtime_dir)
