"""What circusd knows of the child beyond circus: its pipes, its history, its next try."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from codexd.child import pipes as child_io
from codexd.child import steps as supervision
from codexd.child.backoff import Backoff
from codexd.child.command import executable_identity
from codexd.child.pipes import ChildPipes
from codexd.child.steps import Step, StepKind
from codexd.config import Config
from codexd.encoding import encode_json
from codexd.platform.process import end_group_members, identify

# A daemon that is killed may have published this many steps that are not in its file; their
# numbers are not used again, or the event log would take new steps for those.
_MAX_UNSAVED = 100

Publish = Callable[[str, dict[str, Any]], None]


class ChildControl:
    """Keeps watcher.json and decides when the next child may start.

    ``publish(topic, message)`` sends a message on circus's event stream, ``call_later(seconds,
    callback)`` sets a timer and returns a handle with ``cancel()``.
    """

    def __init__(
        self,
        config: Config,
        publish: Publish,
        call_later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self.config = config
        self._publish = publish
        self._call_later = call_later
        self._path = supervision.path_of(config)
        self._record = supervision.load(self._path)
        daemon = identify(os.getpid())
        # Circus makes the watcher anew (`circusctl reloadconfig`) within one daemon.
        self._spawns = self._record.spawns if self._record.daemon == daemon else 0
        self._record.daemon = daemon
        self._record.child = None
        self._record.begin = self._number = self._record.last_number + _MAX_UNSAVED
        policy = config.policy
        self._backoff = Backoff(
            policy.restart_backoff_ms, policy.restart_backoff_max_ms, policy.restart_limit
        )
        self._held: list[ChildPipes] = []
        self._asked: set[int] = set()
        self._condemned: int | None = None
        self._ready = False
        self._spawned_at = 0.0
        self._timer: Any = None
        self._wake: Callable[[], None] | None = None
        self.spawn_error: OSError | None = None
        self._save()

    # -- pipes -------------------------------------------------------------------------------

    @property
    def pipes(self) -> ChildPipes:
        """The pipes of the present generation."""
        return self._held[-1]

    def new_pipes(self) -> None:
        """Open the pipes of the next generation, and let go of those that were read to the end.

        Raises:
            OSError: they cannot be made.
        """
        runtime_dir = self.config.runtime.runtime_dir
        present = set(child_io.generations(runtime_dir))
        for pipes in [held for held in self._held if held.generation not in present]:
            self._held.remove(pipes)
            pipes.close()
        self._record.generation += 1
        self._held.append(ChildPipes.create(runtime_dir, self._record.generation))

    def restore_pipes(self) -> None:
        """See that the pipes of the child that runs have their names.

        Raises:
            OSError: the names cannot be made.
        """
        if self._record.child is not None and self._held:
            self.pipes.name_again(self.config.runtime.runtime_dir)

    # -- what happened -----------------------------------------------------------------------

    def spawned(self, pid: int, command: str, argv: list[str], cwd: str) -> None:
        """circus started the child: ``argv`` as it was executed, ``command`` as it was told."""
        self._spawned_at = time.time()
        self._spawns += 1
        self._ready = False
        self._asked.clear()
        self._condemned = None
        self._record.child = identify(pid)
        self._record.executable = executable_identity(argv[0])
        self._step(
            "spawned", attempt=self._spawns, pid=pid, command=command, args=argv[1:], cwd=cwd
        )

    def spawn_failed(self, error: OSError, wake: Callable[[], None]) -> None:
        """circus could not start the child; ``wake`` is called for the next try."""
        self._step("spawn_failed", error=describe(error), save=False)
        # Nothing wakes circus for a process that never was, so even the first try has a timer.
        self._wait(wake, at_least_ms=self.config.policy.restart_backoff_ms)
        self._save()

    def asked(self, pid: int, signum: int) -> None:
        """codexd or an operator sends the child a signal."""
        if pid != self._condemned:
            self._asked.add(signum)

    def condemn(self, pid: int) -> None:
        """The child is unhealthy: what it is sent from now on is no operator's wish."""
        self._condemned = pid

    def is_condemned(self, pid: int) -> bool:
        """Whether the child is being replaced because it is unhealthy."""
        return pid == self._condemned

    def became_ready(self, pid: int) -> None:
        """The plugin says that the child answers."""
        if self._record.child is not None and self._record.child.pid == pid:
            self._ready = True

    def ended(self, pid: int, code: int | None, wake: Callable[[], None]) -> None:
        """circus reaped the child; ``wake`` is called when the next may start.

        With a delay, the restart waits: see :attr:`waiting`.
        """
        end_group_members(pid)
        asked = bool(self._asked) if not code else -code in self._asked
        self._record.child = None
        self._step("ended", pid=pid, code=code, asked=asked, save=False)
        if asked:
            self._backoff.reset()
        elif not self._wants_restart(code):
            self._rest(wake)
        else:
            if self._ready and self._was_well():
                self._backoff.reset()
            self._wait(wake)
        if self.waiting:
            # Else the next child starts in this same pass, and its record holds this end too.
            self._save()

    def stopped(self) -> None:
        """An operator (or the daemon's own end) stopped the watcher."""
        self.release()
        self._step("stopped")

    # -- when the next may start -------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether the next child must not start yet."""
        return self._wake is not None

    @property
    def retries(self) -> bool:
        """Whether a timer is set for the next try."""
        return self._timer is not None

    def release(self) -> None:
        """Forget the crash loop: an operator's word counts at once."""
        self._disarm()
        self._backoff.reset()

    def _wants_restart(self, code: int | None) -> bool:
        policy = self.config.policy.restart
        return policy == "always" or (policy == "on-failure" and code != 0)

    def _was_well(self) -> bool:
        return (time.time() - self._spawned_at) * 1000 >= self.config.policy.restart_reset_ms

    def _wait(self, wake: Callable[[], None], at_least_ms: int = 0) -> None:
        delay_ms = self._backoff.failed()
        if delay_ms is None:
            self._step("gave_up", attempt=self._backoff.failures, save=False)
            self._rest(wake)
            return
        delay_ms = max(delay_ms, at_least_ms)
        if delay_ms:
            self._rest(wake)
            self._timer = self._call_later(delay_ms / 1000, self._due)
        # Without a delay circus starts the next child in this same pass.
        self._step("waiting", attempt=self._backoff.failures, delay_ms=delay_ms, save=False)

    def _rest(self, wake: Callable[[], None]) -> None:
        self._disarm()
        self._wake = wake

    def _due(self) -> None:
        wake, self._wake, self._timer = self._wake, None, None
        if wake is not None:
            wake()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._wake = None

    # -- the file ----------------------------------------------------------------------------

    def _step(self, kind: StepKind, *, save: bool = True, **facts: Any) -> None:
        self._number += 1
        step = Step(
            number=self._number,
            kind=kind,
            at=time.time(),
            generation=self._record.generation,
            **facts,
        )
        self._record.steps.append(step)
        if save:
            self._save()
        self._publish("step", msgspec.json.decode(encode_json(step)))

    def _save(self) -> None:
        try:
            supervision.save(self._path, self._record)
        except OSError:
            # A full disk must not keep a child from starting; the event stream carries the
            # step, and the next save writes it too.
            return


def describe(error: OSError) -> str:
    """One line for a failed spawn."""
    if error.errno is None:
        return str(error)
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}"
