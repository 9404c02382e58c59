"""The one place where what happened becomes state and events."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, Protocol

from codexd.child.steps import Step
from codexd.clock import from_epoch, now_iso
from codexd.config import Server
from codexd.contracts import (
    ChildState,
    ChildStatus,
    DaemonState,
    Event,
    EventLevel,
    SessionRecord,
)
from codexd.records.open_approvals import TURN_ENDS, OpenApprovals

# What is known of a child before anything is.
_UNHEARD_OF: dict[str, Any] = {
    "pid": None,
    "started_at": None,
    "exited_at": None,
    "exit_code": None,
    "signal": None,
    "last_error": None,
    "ready": False,
    "ready_at": None,
    "restarts": 0,
    "next_restart_at": None,
}
# Where there is a process, ours or not, that can answer.
_THERE: tuple[ChildStatus, ...] = ("running", "external")

# Signals that a program brings upon itself.
_OWN_FAULTS = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}


class State(Protocol):
    """What the recorder needs of the state store."""

    daemon: DaemonState

    def update_daemon(self, **changes: Any) -> None: ...
    def update_child(self, **changes: Any) -> None: ...
    def put_session(self, record: SessionRecord) -> None: ...


class Events(Protocol):
    """What the recorder needs of the event log."""

    def record(
        self, level: EventLevel, type: str, message: str, detail: dict[str, Any] | None = None
    ) -> Event | None: ...


class Recorder:
    """Applies facts to the store and the event log.

    ``recorded`` is the number of the newest step that is in the event log already: steps up to
    it only mend the state, which may have been written later than the log. ``last_end`` is the
    detail of the newest ``child.exited``, ``approvals`` are those that were open before.
    """

    def __init__(
        self,
        state: State,
        events: Events,
        *,
        recorded: int = 0,
        last_end: Mapping[str, Any] | None = None,
        approvals: OpenApprovals | None = None,
    ) -> None:
        self._state = state
        self._events = events
        self.recorded = recorded
        self._last_end = last_end or {}
        self._approvals = approvals or OpenApprovals()

    @property
    def child(self) -> ChildState:
        """The child as recorded."""
        return self._state.daemon.child

    def event(
        self, level: EventLevel, type_: str, message: str, detail: dict[str, Any] | None = None
    ) -> None:
        """Record an event that changes no state."""
        if type_ in TURN_ENDS:
            for approval in self._approvals.end(detail):
                message_ = "An approval was resolved."
                detail_ = {**approval, "reason": "turn-ended"}
                self._events.record("info", "approval.resolved", message_, detail_)
        self._approvals.heard(type_, detail)
        self._events.record(level, type_, message, detail)

    def session(self, record: SessionRecord) -> None:
        """Record a session as it is now."""
        self._state.put_session(record)

    # -- the daemon --------------------------------------------------------------------------

    def daemon_started(self, pid: int, server: Server) -> None:
        """A daemon begins: forget what the last one knew of its child."""
        now = now_iso()
        self._state.update_daemon(
            started=True, started_at=now, stopped_at=None, updated_at=now, pid=pid
        )
        self._state.update_child(
            strategy=server.child_strategy,
            mode=server.mode,
            endpoint=server.endpoint,
            status="idle",
            command=server.child_command,
            args=server.child_args,
            cwd=server.child_cwd,
            **_UNHEARD_OF,
        )
        detail = {"endpoint": server.endpoint, "strategy": server.child_strategy, "pid": pid}
        self.event("info", "daemon.started", f"codexd started in {server.mode} mode.", detail)

    def daemon_stopped(self, *, found: bool = False) -> None:
        """The daemon ends; a child that is still believed in is not any more.

        ``found``: it ended earlier, and could not record it itself.
        """
        child = self.child
        if child.status == "external":
            self._release()
        elif child.status in ("running", "starting"):
            self._change("stopped", pid=None, exited_at=now_iso(), ready=False, ready_at=None)
        elif child.next_restart_at is not None:
            self._call_off()
        now = now_iso()
        self._state.update_daemon(started=False, stopped_at=now, updated_at=now, pid=None)
        # The reference's message, also for one that was killed: others look for it.
        detail = {"foundAtStart": True} if found else None
        self.event("info", "daemon.stopped", "codexd stopped.", detail)

    def _release(self) -> None:
        self._change("idle", exited_at=now_iso(), ready=False)

    # -- what circusd did --------------------------------------------------------------------

    def replay(self, steps: list[Step]) -> None:
        """Record steps of a circusd that is gone; it, or the one after it, had no child at all."""
        if steps and self.child.status == "external":
            self._release()
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        """Record one step of the supervision."""
        is_new = step.number > self.recorded
        getattr(self, f"_{step.kind}")(step, is_new)
        self.recorded = max(self.recorded, step.number)

    def _change(self, status: ChildStatus, **changes: Any) -> None:
        self._state.update_child(status=status, **changes)

    def _spawned(self, step: Step, is_new: bool) -> None:
        if not is_new and self.child.pid == step.pid and self.child.ready:
            return
        self._change(
            "running",
            **{
                **_UNHEARD_OF,
                "pid": step.pid,
                "command": step.command,
                "args": step.args or [],
                "cwd": step.cwd,
                "started_at": from_epoch(step.at),
                "restarts": step.attempt - 1,
            },
        )
        if is_new:
            detail = {
                "command": step.command,
                "args": step.args,
                "pid": step.pid,
                "step": step.number,
            }
            self.event("info", "child.started", f"Started Codex child process {step.pid}.", detail)
            if step.promoted:
                message = f"The spare, process {step.pid}, took the place of the child."
                self.event(
                    "info", "child.promoted", message, {"pid": step.pid, "step": step.number}
                )

    def _spawn_failed(self, step: Step, is_new: bool) -> None:
        self._change(
            "failed",
            pid=None,
            ready=False,
            exited_at=from_epoch(step.at),
            exit_code=None,
            signal=None,
            last_error=step.error,
        )
        if is_new:
            self.event("error", "child.spawn.failed", step.error or "", {"step": step.number})

    def _ended(self, step: Step, is_new: bool) -> None:
        code, signame = split_exit(step.code)
        well = step.asked or step.code == 0
        how, reason = _how_it_ended(code, signame), self._reason(step, signame)
        self._change(
            "stopped" if well else "failed",
            pid=None,
            ready=False,
            exited_at=from_epoch(step.at),
            exit_code=code,
            signal=signame,
            last_error=None if well else f"Child exited{how}{f': {reason}' if reason else '.'}",
        )
        if is_new:
            detail = {"code": code, "signal": signame, "pid": step.pid, "step": step.number}
            if reason and not well:
                detail["reason"] = reason
            self._last_end = detail
            message = f"Codex child exited{'' if code == 0 else how}."
            self.event("info" if well else "error", "child.exited", message, detail)

    def _reason(self, step: Step, signame: str | None) -> str | None:
        """What the child said last, unless it was someone else who ended it."""
        if signame is not None and signame not in _OWN_FAULTS:
            return None
        was_told = self._last_end.get("step") == step.number
        return step.error or (self._last_end.get("reason") if was_told else None)

    def _waiting(self, step: Step, is_new: bool) -> None:
        if step.delay_ms:
            self._change(
                "failed",
                next_restart_at=from_epoch(step.at + step.delay_ms / 1000),
                last_error=self.child.last_error
                or f"The child ended {step.attempt} times in a row.",
            )
        if is_new:
            when = f"in {step.delay_ms} ms" if step.delay_ms else "at once"
            detail = {"attempt": step.attempt, "delayMs": step.delay_ms, "step": step.number}
            self.event("warn", "child.restarting", f"The child is started again {when}.", detail)

    def _gave_up(self, step: Step, is_new: bool) -> None:
        reason = (
            f"Gave up after {step.attempt} failures in a row; `codexd restart` tries once more."
        )
        self._change("failed", next_restart_at=None, last_error=reason)
        if is_new:
            detail = {"attempt": step.attempt, "step": step.number}
            self.event("error", "child.abandoned", reason, detail)

    def _stopped(self, step: Step, is_new: bool) -> None:
        if self.child.next_restart_at is None:
            return
        self._call_off()
        if is_new:
            self.event(
                "info", "child.stopped", "The restart was called off.", {"step": step.number}
            )

    def _call_off(self) -> None:
        """Nothing is waited for any more: the record is that of the last end again."""
        if self.child.exit_code == 0:
            self._change("stopped", next_restart_at=None, last_error=None)
        else:
            self._state.update_child(next_restart_at=None)

    def lost_with_daemon(self, after: int) -> None:
        """circusd died and took the child with it; how the child ended nobody saw.

        ``after`` is the number of circusd's last step; this end counts as the one after it, so
        that it is recorded once however often it is found out.
        """
        pid = self.child.pid
        is_new = after + 1 > self.recorded
        reason = "The daemon was killed, and the child with it."
        self._change("failed", pid=None, ready=False, exited_at=now_iso(), last_error=reason)
        if is_new:
            detail = {"code": None, "signal": None, "pid": pid, "step": after + 1}
            self.event("error", "child.exited", reason, detail)
            self.recorded = after + 1

    # -- what the plugin saw -----------------------------------------------------------------

    def starting(self) -> None:
        """A child is about to be started."""
        self._change("starting", next_restart_at=None)

    def cannot_spawn(self, reason: str) -> None:
        """The child cannot be started; circus was not even asked."""
        self._change("failed", pid=None, exited_at=now_iso(), last_error=reason)
        self.event("error", "child.spawn.failed", reason)

    def ready(self, detail: dict[str, Any]) -> None:
        """The handshake is done. ``detail`` goes into the event."""
        if self.child.ready or self.child.status not in _THERE:
            return
        self._state.update_child(ready=True, ready_at=now_iso(), last_error=None)
        self.event("info", "child.ready", "The child answers.", detail)

    def not_ready(self, reason: str, *, unhealthy: bool = False) -> None:
        """The child is there but does not answer."""
        if self.child.status in _THERE and (self.child.ready or unhealthy):
            self._state.update_child(ready=False, last_error=reason)
        if unhealthy:
            self.event("error", "child.unhealthy", reason, {"pid": self.child.pid})

    def link_lost(self, reason: str) -> None:
        """The connection is gone, and the child may live."""
        self.not_ready(reason)
        if self.child.status in _THERE:
            self.event("warn", "link.lost", reason, {"pid": self.child.pid, "reason": reason})

    def refused(self, reason: str) -> None:
        """The child is there and does not let codexd in."""
        if self.child.status in _THERE:
            self._state.update_child(ready=False, last_error=reason)
        self.event("error", "link.refused", reason, {"pid": self.child.pid})

    def external(self, endpoint: str) -> None:
        """There is no child of ours, only an endpoint to watch."""
        self._change(
            "external",
            **{**_UNHEARD_OF, "started_at": now_iso()},
        )
        self.event("info", "child.external", f"codexd is pointing at external endpoint {endpoint}.")


def _how_it_ended(code: int | None, signame: str | None) -> str:
    if signame is not None:
        return f" after {signame}"
    return " in a way nobody saw" if code is None else f" with code {code}"


def split_exit(code: int | None) -> tuple[int | None, str | None]:
    """circus's exit code (negative: a signal) as (exit code, name of the signal)."""
    if code is None or code >= 0:
        return code, None
    try:
        return None, signal.Signals(-code).name
    except ValueError:
        return None, f"SIG{-code}"
