"""The circus watcher of the child.

Circus cannot be told in its ini which watcher class to use, so the before_start hook turns the
watcher it made into this one. It adds what circus lacks: exact arguments, pipes, a parent-death
signal, a restart that waits in a crash loop, and no twin on a reload.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from circus.exc import ConflictError
from circus.process import Process
from tornado import gen

from codexd.child.command import Program
from codexd.child.control import ChildControl
from codexd.child.family import Family
from codexd.child.inheritance import become_child
from codexd.circus_ext.channel import Channel
from codexd.circus_ext.patient import PatientWatcher
from codexd.circus_ext.spawning import CannotSpawn, told_apart
from codexd.platform.parent import end_with_parent


class AppServerProcess(Process):  # type: ignore[misc]
    """The child, started without a shell, a launcher or a template in between."""

    def format_args(self, sockets_fds: Any = None) -> list[str]:
        """The argument list, byte for byte, unless an operator set another through circus."""
        watcher: AppServerWatcher = self.watcher
        if watcher.cmd_was_set:
            parts: list[str] = super().format_args(sockets_fds)
            if parts[:1] == [watcher.configured_cmd]:
                # Only the arguments were set: the command is still the configured one.
                parts[0] = self._take_configured_program()
        else:
            parts = [self._take_configured_program(), *watcher.configured_args]
        self.argv = parts
        return parts

    def _take_configured_program(self) -> str:
        program: Program = self.watcher.configured_program()
        self.env = program.environ
        return program.path

    def spawn(self) -> None:
        """Start the process, with pipes of its own.

        Raises:
            CannotSpawn: the process cannot be started.
        """
        with told_apart():
            self.watcher.control.new_pipes()
            self._supervisor = os.getpid()
            super().spawn()

    def _get_stdin_socket_fd(self) -> int:
        # Circus calls this in the forked child, last before exec, and makes what it returns
        # file descriptor 0: the one place for what must happen there.
        pipes = self.watcher.control.pipes
        os.dup2(pipes.stdout, 1)
        os.dup2(pipes.stderr, 2)
        # SIGKILL, not SIGTERM: a server that outlives its daemon to finish a turn would keep
        # the next one from its threads.
        end_with_parent(self._supervisor, signal.SIGKILL)
        become_child(None if "nofile" in self.rlimits else self.watcher.files)
        if self.watcher.stdin_is_null:
            return os.open(os.devnull, os.O_RDONLY)
        return int(pipes.stdin)


class AppServerWatcher(PatientWatcher):
    """Watches one child. The attributes below are set by :func:`codexd.circus_ext.hooks.adopt`."""

    control: ChildControl
    family: Family
    files: tuple[int, int]
    configured_program: Callable[[], Program]
    configured_args: list[str]
    configured_cmd: str
    configured_command: str
    stdin_is_null: bool
    drains: bool
    channel: Channel

    @property
    def _process_class(self) -> type[AppServerProcess]:
        return AppServerProcess

    @property
    def cmd_was_set(self) -> bool:
        """Whether an operator replaced the command or the arguments (`circusctl set`)."""
        return bool(self.cmd != self.configured_cmd or self.args)

    # -- starting ----------------------------------------------------------------------------

    def spawn_process(self, recovery_wid: Any = None) -> Any:
        """As circus, but only when the next child may start; a failure to start ends nothing."""
        if not self.control.may_start:
            return True
        before = set(self.processes)
        try:
            started = super().spawn_process(recovery_wid)
        except CannotSpawn as error:
            self.control.spawn_failed(str(error))
            return True
        for pid in set(self.processes) - before:
            process = self.processes[pid]
            command = process.argv[0] if self.cmd_was_set else self.configured_command
            self.control.spawned(pid, command, process.argv, self.working_dir)
        return started

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

    def reap_process(self, pid: int, status: int | None = None) -> None:
        """As circus, but the end is told even if circus cannot look at the dead process.

        It needs a file descriptor for that, and has already let go of the process by then.
        """
        is_ours = pid in self.processes
        try:
            super().reap_process(pid, status)
        except OSError:
            if is_ours:
                code = None if status is None else os.waitstatus_to_exitcode(status)
                message = {"process_pid": pid, "time": time.time(), "exit_code": code}
                self.notify_event("reap", message)

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
        self.control.restore_pipes()

    def is_alone(self) -> bool:
        """Whether the child has brought about nobody, as far as was seen."""
        return self.family.size <= len(self.processes)

    def notify_event(self, topic: str, msg: dict[str, Any]) -> None:
        """As circus; the child's end is taken from here, before the next one starts."""
        super().notify_event(topic, msg)
        if topic == "reap":
            self.family.end(msg["process_pid"])
            self.control.ended(msg["process_pid"], msg["exit_code"])
