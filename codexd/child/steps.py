"""watcher.json: what circusd did with the child, written by circusd alone.

The plugin may be dead or not yet there when a child starts or ends; what it missed is in here,
numbered, so that nothing is recorded twice or never. The next daemon finds in here what the
last one may have left behind.
"""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from codexd.encoding import UNDECODABLE, decode_json, encode_json
from codexd.platform.files import Stamp, read_whole, stamp, write_aside
from codexd.platform.process import ProcessId

_KEPT = 200

StepKind = Literal["spawned", "spawn_failed", "ended", "waiting", "stopped", "gave_up"]


class Step(msgspec.Struct, rename="camel", kw_only=True):
    """One thing that circusd did or saw. ``at`` is a POSIX time in seconds.

    ``error`` is why a spawn failed; at an end it is what the child said last, where the plugin
    heard it. ``code`` is the exit code, negative for a signal, None where nobody could tell;
    ``asked`` says that codexd or an operator had sent the child a signal. ``attempt`` counts bad
    lives in a row (``waiting``, ``gave_up``) or the children of this daemon (``spawned``).
    ``stopped`` calls off what was waited for; daemons of older versions wrote it after every stop.
    ``promoted``: the process was started before, as a spare.
    """

    number: int
    kind: StepKind
    at: float
    generation: int
    pid: int | None = None
    code: int | None = None
    asked: bool = False
    error: str | None = None
    attempt: int = 0
    delay_ms: int = 0
    command: str | None = None
    args: list[str] | None = None
    cwd: str | None = None
    promoted: bool = False


class Spare(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """The second server that waits; its pipes are those of ``generation``, aside.

    ``socket``: where it listens, on an endpoint that is a socket.
    """

    process: ProcessId
    generation: int
    ready: bool = False
    socket: str | None = None


class Supervision(msgspec.Struct, rename="camel", kw_only=True):
    """The whole file: who supervises, who the child is, and the last steps, oldest first.

    ``begin`` is the number of the last step of the daemon before this one.
    """

    daemon: ProcessId | None = None
    child: ProcessId | None = None
    spare: Spare | None = None
    executable: tuple[str, int, int] | None = None
    generation: int = 0
    begin: int = 0
    steps: list[Step] = []

    @property
    def last_number(self) -> int:
        """The number of the newest step; 0 before the first."""
        return self.steps[-1].number if self.steps else 0

    @property
    def spawns(self) -> int:
        """How many children the daemon has started."""
        own = [step for step in self.steps if step.number > self.begin]
        return max((step.attempt for step in own if step.kind == "spawned"), default=0)

    def first_to_apply(self, daemon_pid: int | None, recorded: int) -> int:
        """The first step that can change the record of the daemon ``daemon_pid``.

        ``recorded`` is the newest step in the event log. Those of that daemon count in any case,
        since its state may be older than the log; those of one before it are history.
        """
        is_its_own = self.daemon is not None and self.daemon.pid == daemon_pid
        return 1 + (min(self.begin, recorded) if is_its_own else recorded)


def path_of(state_dir: str) -> str:
    """Where watcher.json is."""
    return os.path.join(state_dir, "watcher.json")


def load(path: str) -> Supervision:
    """The file, or an empty record where there is none that can be read."""
    try:
        return decode_json(read_whole(path), Supervision)
    except (OSError, *UNDECODABLE):
        return Supervision()


class _Executable(msgspec.Struct):
    executable: tuple[str, int, int] | None = None


class ExecutableOnRecord:
    """What the child was started from; the file is read again only where it was written anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._executable: tuple[str, int, int] | None = None

    def now(self) -> tuple[str, int, int] | None:
        """None where the file does not say, or is not there."""
        found = stamp(self._path)
        if found is None or found != self._stamp:
            self._stamp = found
            try:
                decoded = decode_json(read_whole(self._path), _Executable)
                self._executable = decoded.executable
            except (OSError, *UNDECODABLE):
                self._executable = None
        return self._executable


def save(path: str, record: Supervision) -> None:
    """Write the file aside and rename it.

    Not flushed to the device: after a power cut no process is left for it to tell about.

    Raises:
        OSError: the file cannot be written.
    """
    del record.steps[:-_KEPT]
    write_aside(path, encode_json(record) + b"\n", flush=False)
