"""What the machine of the child's life decides, done: steps recorded, timers set, circus woken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codexd.child.backoff import Backoff
from codexd.child.command import executable_identity, speaks_protocol
from codexd.child.ledger import CallLater, Ledger
from codexd.child.machine import ClearTimer, Effect, Machine, Record, SetTimer, State, Wake
from codexd.child.pipes import ChildPipes, PipeRack
from codexd.config import Server
from codexd.platform.process import end_group_members, identify
from codexd.settings import Policy


class ChildControl:
    """The child as circus's watcher handles it; every decision is the machine's.

    ``call_later(seconds, callback)`` sets a timer and returns a handle with ``cancel()``;
    ``wake()`` has circus start the child.
    """

    def __init__(
        self,
        machine: Machine,
        ledger: Ledger,
        rack: PipeRack,
        call_later: CallLater,
        wake: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._ledger = ledger
        self._rack = rack
        self._call_later = call_later
        self._wake = wake
        self._timer: Any = None

    # -- pipes -------------------------------------------------------------------------------

    @property
    def pipes(self) -> ChildPipes:
        """The pipes of the present generation."""
        return self._rack.present

    def new_pipes(self) -> None:
        """Open the pipes of the next generation.

        Raises:
            OSError: they cannot be made.
        """
        self._rack.add(self._ledger.next_generation())

    def restore_pipes(self) -> None:
        """See that the pipes of the child that runs have their names, and watcher.json is there.

        Those of dead children that were read to the end are let go of.

        Raises:
            OSError: the names cannot be made.
        """
        self._rack.let_go()
        if self._ledger.has_child:
            self._rack.name_again()
        self._ledger.keep()

    @property
    def unsaved(self) -> dict[str, Any] | None:
        """What watcher.json should hold and does not, for a full disk; None where all is well."""
        return self._ledger.unsaved

    # -- what happened -----------------------------------------------------------------------

    @property
    def may_start(self) -> bool:
        """Whether circus may start a child now."""
        return self._machine.may_start

    def start(self) -> None:
        """An operator, or circus at its own start, wants a child."""
        self._do(self._machine.start())

    def spawned(self, pid: int, command: str, argv: list[str], cwd: str) -> None:
        """circus started the child: ``argv`` as it was executed, ``command`` as it was told."""
        self._do(
            self._machine.spawned(pid),
            executable=executable_identity(argv[0]),
            command=command,
            args=argv[1:],
            cwd=cwd,
        )

    @property
    def may_promote(self) -> bool:
        """Whether a spare may be the next child."""
        return self._machine.may_promote

    @property
    def ready_pid(self) -> int | None:
        """The child, if it answers."""
        return self._machine.pid if self._machine.state is State.READY else None

    def promoted(
        self, pid: int, pipes: ChildPipes, command: str, argv: list[str], cwd: str
    ) -> None:
        """The spare is the child now; the rest as :meth:`spawned`."""
        self._rack.take(pipes)
        self._ledger.promoted()
        self._do(
            self._machine.promoted(pid),
            executable=executable_identity(argv[0]),
            command=command,
            args=argv[1:],
            cwd=cwd,
        )

    def spawn_failed(self, error: str, *, is_shortage: bool = False) -> None:
        """circus could not start the child; because the system is short of something, maybe."""
        self._do(self._machine.spawn_failed(error, is_shortage=is_shortage))

    def became_ready(self, pid: int) -> None:
        """The plugin says that the child answers."""
        self._do(self._machine.answers(pid))

    def asked(self, pid: int, signum: int) -> None:
        """codexd or an operator sends the child a signal."""
        self._do(self._machine.signalled(pid, signum))

    def condemn(self, pid: int) -> None:
        """The child is unhealthy: what it is sent from now on is no operator's wish."""
        self._do(self._machine.condemn(pid))

    def is_condemned(self, pid: int) -> bool:
        """Whether the child is being replaced because it is unhealthy."""
        return self._machine.is_condemned(pid)

    def stopping(self) -> None:
        """An operator, or the daemon's own end, wants no child from now on."""
        self._do(self._machine.stop())

    def stopped(self) -> None:
        """circus is through with that."""
        self._do(self._machine.stopped())

    def ended(self, pid: int, code: int | None) -> None:
        """circus reaped a process of its watcher."""
        effects = self._machine.ended(pid, code)
        if effects:
            end_group_members(pid)
        self._do(effects)

    def nobody_wanted(self) -> None:
        """The number of processes is 0: nothing is waited for; the next wish is granted at once."""
        self._do(self._machine.stop() + self._machine.start())

    # -- doing it ----------------------------------------------------------------------------

    def _do(self, effects: list[Effect], **facts: Any) -> None:
        for effect in effects:
            match effect:
                case Record():
                    self._record(effect, facts)
                case SetTimer():
                    self._clear_timer()
                    self._timer = self._call_later(effect.delay_ms / 1000, self._pause_over)
                case ClearTimer():
                    self._clear_timer()
                case Wake():
                    self._wake()
        if not self.may_start:
            # Else the next child starts in this same pass, and its record holds this end too.
            self._ledger.save()
        self._ledger.tell()

    def _record(self, step: Record, facts: dict[str, Any]) -> None:
        if step.kind == "spawned":
            self._ledger.spawned(identify(step.facts["pid"]), **step.facts, **facts)
        elif step.kind == "ended":
            self._ledger.ended(**step.facts)
        else:
            self._ledger.note(step.kind, **step.facts)

    def _pause_over(self) -> None:
        self._timer = None
        # Circus may not start a child after all.
        self._ledger.save()
        self._do(self._machine.pause_over())

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def machine_for(server: Server, policy: Policy, clock: Callable[[], float]) -> Machine:
    """The machine of a child before anything happened."""
    backoff = Backoff(
        policy.restart_backoff_ms,
        policy.restart_backoff_max_ms,
        policy.restart_reset_ms,
        policy.restart_limit,
    )
    return Machine(backoff, policy.restart, speaks=speaks_protocol(server), clock=clock)
