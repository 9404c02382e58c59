"""The circus watcher of the child.

Circus cannot be told in its ini which watcher class to use, so the before_start hook turns the
watcher it made into this one. It adds what circus lacks: exact arguments, pipes, a parent-death
signal, a restart that waits in a crash loop, and no twin on a reload.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

from circus.exc import ConflictError
from tornado import gen

from codexd.child.control import ChildControl
from codexd.child.pipes import ChildPipes
from codexd.circus_ext.server_watcher import ServerWatcher
from codexd.circus_ext.spare_watcher import SpareWatcher
from codexd.circus_ext.spawning import CannotSpawn
from codexd.keeper.circusd import SPARE


class AppServerWatcher(ServerWatcher):
    """Watches one child. The attributes below are set by :func:`codexd.circus_ext.hooks.adopt`."""

    control: ChildControl
    drains: bool

    # -- starting ----------------------------------------------------------------------------

    def spawn_process(self, recovery_wid: Any = None) -> Any:
        """As circus, but only when the next child may start; a failure to start ends nothing."""
        if not self.control.may_start:
            return True
        if self.control.may_promote and self._promote():
            return True
        before = set(self.processes)
        try:
            started = super().spawn_process(recovery_wid)
        except CannotSpawn as error:
            self.control.spawn_failed(str(error), is_shortage=error.is_shortage)
            return True
        for pid in set(self.processes) - before:
            process = self.processes[pid]
            command = process.argv[0] if self.cmd_was_set else self.configured_command
            self.control.spawned(pid, command, process.argv, self.working_dir)
        return started

    def new_pipes(self) -> ChildPipes:
        """The pipes of the next generation.

        Raises:
            OSError: they cannot be made.
        """
        self.control.new_pipes()
        return self.control.pipes

    @property
    def spare(self) -> SpareWatcher | None:
        """The watcher of the spare, where there is one."""
        found = self.arbiter._watchers_names.get(SPARE)
        return found if isinstance(found, SpareWatcher) else None

    def _promote(self) -> bool:
        """Have the spare in the place of a child that ended by itself; whether there is one."""
        spare = self.spare
        given = None if spare is None else spare.give()
        if spare is None or given is None:
            return False
        process, pipes = given
        process.name, process.watcher = self.name, self
        self.processes[process.pid] = process
        self.family.take_over(spare.family)
        self.control.promoted(
            process.pid, pipes, self.configured_command, process.argv, self.working_dir
        )
        self.notify_event("spawn", {"process_pid": process.pid, "time": process.started})
        return True

    @gen.coroutine
    def _start(self) -> Any:
        if not self.is_stopping() and not self.channel.is_over:
            self.control.start()
        yield super()._start()

    @gen.coroutine
    def _reload(self, graceful: bool = True, sequential: bool = False) -> Any:
        # Circus would start the new process beside the old one, and two app-servers on one
        # CODEX_HOME are in each other's way.
        del graceful, sequential
        yield self._restart()

    def status(self) -> str:
        """As circus; one whose turns end before it does is stopping, whatever circus may do yet."""
        status: str = super().status()
        return "stopping" if status == "active" and self.channel.is_draining else status

    # -- ending ------------------------------------------------------------------------------

    @gen.coroutine
    def _stop(self, close_output_streams: bool = False) -> Any:
        if self._status == "starting":
            # Only circus's own first start says so, before this class is in its place, and where
            # that brings no process it is given up. Here the next try is set.
            self._status = "active"
            return
        self.control.stopping()
        if self.spare is not None:
            # Whoever stops or restarts the server may have changed what nobody here can see.
            self.spare.discard("the server is stopped or restarted on request")
        yield super()._stop(close_output_streams)
        self.control.stopped()

    @gen.coroutine
    def kill_process(
        self, process: Any, stop_signal: Any = None, graceful_timeout: float | None = None
    ) -> Any:
        """As circus, but running turns may end first, within the graceful timeout.

        An operator's `circusctl kill` with another signal is not held up.

        On a stdio endpoint codex 0.163 takes SIGTERM as the end of its turns (measured); on the
        others it would finish them, while new ones begin.
        """
        grace_s = self.graceful_timeout if graceful_timeout is None else graceful_timeout
        is_graceful = stop_signal in (None, self.stop_signal)
        if not is_graceful or self.control.is_condemned(process.pid):
            result = yield super().kill_process(process, stop_signal, grace_s)
            return result
        given = self.channel.time_given
        with contextlib.ExitStack() as stack:
            if given is None:
                stack.enter_context(self.channel.ending(grace_s))
            if self.drains:
                yield self.channel.no_turns([process.pid])
            result = yield super().kill_process(process, stop_signal, self.channel.left_s)
        return result

    @gen.coroutine
    def restart_in_order(self, grace_s: float) -> Any:
        """End the child once its turns have ended, within ``grace_s``, and start another.

        Nothing else that circus does is held up while turns run.
        """
        before = set(self.processes)
        with self.channel.ending(grace_s):
            if self.drains:
                yield self.channel.no_turns(list(before))
            answer = yield self._ordered(lambda: self._restart_once(before))
        return answer

    def _restart_once(self, before: set[int]) -> Any:
        if before and self.processes and not before & set(self.processes):
            # They ended by themselves meanwhile, or by another such order, and another was started.
            return gen.maybe_future({"started": sorted(self.processes)})
        return self.restart()

    @gen.coroutine
    def stop_in_order(self, grace_s: float) -> Any:
        """End the child once its turns have ended, within ``grace_s``; none follows."""
        with self.channel.ending(grace_s):
            if self.drains:
                yield self.channel.no_turns(list(self.processes))
            answer = yield self._ordered(self.stop)
        return answer

    @gen.coroutine
    def start_in_order(self) -> Any:
        """Start the child unless it is there, as soon as no other command of circus runs."""
        answer = yield self._ordered(self.start)
        return answer

    @gen.coroutine
    def _ordered(self, command: Callable[[], Any]) -> Any:
        try:
            answer = yield self.channel.exclusively(command)
        except ConflictError as error:
            return {"failed": str(error)}
        return answer or {}

    def send_signal(self, pid: int, signum: int) -> None:
        """As circus, and notes that the signal was asked for."""
        self.control.asked(pid, signum)
        super().send_signal(pid, signum)
        if signum == self.stop_signal:
            # Stopped (SIGSTOP), it would not hear that it shall end.
            super().send_signal(pid, signal.SIGCONT)

    def send_signal_process(self, process: Any, signum: int, recursive: bool = False) -> None:
        """As circus, and notes that the signal was asked for."""
        self.control.asked(process.pid, signum)
        super().send_signal_process(process, signum, recursive)

    @gen.coroutine
    def replace(self, pid: int, graceful_timeout: float) -> Any:
        """End an unhealthy child; the end counts as a failure and circus starts another."""
        process = self.processes.get(pid)
        if process is not None:
            self.control.condemn(pid)
            yield self.kill_process(process, graceful_timeout=graceful_timeout)
            yield self.manage_processes()

    @gen.coroutine
    def manage_processes(self) -> Any:
        """As circus, but with `numprocesses` 0 the child is also reaped."""
        if not self.numprocesses and self.is_active():
            yield self._end_all()
        yield super().manage_processes()

    @gen.coroutine
    def _end_all(self) -> Any:
        yield self.kill_processes()
        self.reap_processes()
        self.control.nobody_wanted()

    def look_after(self) -> None:
        """Called every second: see that the child has what it needs, and whom it brought about.

        Raises:
            OSError: the names of its pipes cannot be made.
        """
        for pid in self.processes:
            self.family.look(pid)
        if self.spare is not None:
            self.spare.look()
        self.control.restore_pipes()

    def is_alone(self) -> bool:
        """Whether the child has brought about nobody, as far as was seen."""
        return self.family.size == 0

    def notify_event(self, topic: str, msg: dict[str, Any]) -> None:
        """As circus; the child's end is taken from here, before the next one starts."""
        super().notify_event(topic, msg)
        if topic == "reap":
            self.family.end(msg["process_pid"])
            if self.spare is not None and self.spare.beside is not None:
                self.spare.beside.server_ended()
            self.control.ended(msg["process_pid"], msg["exit_code"])
