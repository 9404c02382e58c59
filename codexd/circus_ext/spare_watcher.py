"""The circus watcher of the spare: its machine's decisions, done.

A watcher beside the child's, so that circus itself starts, reaps and stops the spare, and
`circusctl` shows it. At a promotion its process goes over to the child's watcher.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from circus import logger
from tornado import gen

from codexd.child.beside import SocketBeside
from codexd.child.command import executable_identity
from codexd.child.ledger import Ledger
from codexd.child.pipes import ChildPipes, aside, remove
from codexd.child.spare import Deed, SpareAction, SpareMachine, SpareState
from codexd.child.steps import Spare
from codexd.child.told import Report
from codexd.circus_ext.server_process import AppServerProcess
from codexd.circus_ext.server_watcher import ServerWatcher
from codexd.circus_ext.spawning import CannotSpawn, told_apart
from codexd.codex_home import codex_home
from codexd.keeper.circusd import WATCHER
from codexd.platform.files import Stamp, stamp_of
from codexd.platform.process import end_group_members, identify

# For so long the server is ready before a spare is started: what it has to resume goes first.
_BEHIND_S = 0.5
# How often it is looked whether what it has read is still so.
_LOOK_S = 2.0
# It has no thread that it could have to finish.
_GRACE_S = 2.0
# What codex reads when it starts; what changes later is only in the next one.
_READ_AT_START = ("config.toml", "auth.json")
# What `circusctl set` may change of the server.
_OPTIONS = ("working_dir", "env", "uid", "gid", "rlimits", "shell", "executable", "umask")


class SpareWatcher(ServerWatcher):
    """Watches one spare. The attributes are set by :func:`codexd.circus_ext.hooks.adopt_spare`."""

    machine: SpareMachine
    ledger: Ledger
    runtime_dir: str
    # Where it listens, and with which arguments; None on stdio, with the server's own.
    beside: SocketBeside | None
    args_at: Callable[[str], list[str]]
    max_age_s: float
    ready_timeout_s: float

    _pipes: ChildPipes | None = None
    _plugin: int | None = None
    _seen: tuple[Any, ...] = ()
    _why = ""
    _behind: tuple[int | None, float] = (None, 0.0)
    _timer: Any = None

    @property
    def _server(self) -> Any:
        return self.arbiter._watchers_names.get(WATCHER)

    # -- starting ----------------------------------------------------------------------------

    def new_pipes(self) -> ChildPipes:
        """Pipes of its own, aside.

        Raises:
            OSError: they cannot be made.
        """
        self._drop_pipes()
        self._pipes = ChildPipes.create(self.runtime_dir, self.ledger.next_aside(), spare=True)
        return self._pipes

    def spawn_process(self, recovery_wid: Any = None) -> Any:
        """As circus, but only when the machine says so and the server is ready."""
        if not self.machine.may_start or not self._is_wanted():
            return True
        before = set(self.processes)
        self._seen, self._plugin, self._why = self._look_at_files(), None, ""
        try:
            self._prepare_socket()
            started = super().spawn_process(recovery_wid)
        except CannotSpawn as error:
            self._tell(None, None, f"it could not be started: {error}")
            self._do(self.machine.spawn_failed())
            return True
        for pid in set(self.processes) - before:
            self._do(self.machine.spawned(pid))
            self._note()
        return started

    def _prepare_socket(self) -> None:
        if self.beside is not None:
            with told_apart():
                self.beside.prepare()
            self.configured_args = self.args_at(self.beside.path)

    def _is_wanted(self) -> bool:
        """Whether the server is ready, has been for a moment, and is what was configured."""
        server = self._server
        ready = None if server is None else server.control.ready_pid
        now = time.monotonic()
        if ready != self._behind[0]:
            self._behind = (ready, now)
            if ready is not None:
                self.loop.call_later(_BEHIND_S, self.look)
        is_over = self.channel.is_over or self.channel.is_draining
        if ready is None or is_over or now - self._behind[1] < _BEHIND_S * 0.9:
            return False
        return self._is_as_configured(server)

    def _is_as_configured(self, server: Any) -> bool:
        if server.cmd_was_set or self.cmd_was_set or server.numprocesses != 1:
            return False
        return all(getattr(server, name, 0) == getattr(self, name, 0) for name in _OPTIONS)

    # -- looking after it --------------------------------------------------------------------

    def look(self) -> None:
        """See that there is one and that it may be used; looks again by itself, while active."""
        if self._timer is not None:
            self.loop.remove_timeout(self._timer)
            self._timer = None
        if not self.is_active():
            return
        self._timer = self.loop.call_later(_LOOK_S, self.look)
        for pid in self.processes:
            self.family.look(pid)
        why = self._why_stale()
        if why:
            self.discard(why)
        elif self._is_wanted() and self.machine.pid is None:
            self._do(self.machine.wanted())

    def _why_stale(self) -> str:
        """Why the present one is not to be used; empty where it is."""
        machine = self.machine
        if machine.pid is None or machine.state is SpareState.ENDING:
            return ""
        server = self._server
        if server is None or not server.is_active() or self.channel.is_over:
            return "the server is stopped"
        if not self._is_as_configured(server):
            return "the server was given other options"
        if self.max_age_s and machine.age_s > self.max_age_s:
            return "it is too old"
        if machine.state is SpareState.STARTED and machine.age_s > self.ready_timeout_s:
            return f"it did not answer within {self.ready_timeout_s:g} s"
        for name, before, now in zip(
            ("the binary", *_READ_AT_START), self._seen, self._look_at_files(), strict=True
        ):
            if now is not None and before != now:
                return f"{name} has changed"
        return ""

    def _look_at_files(self) -> tuple[Any, ...]:
        """What a server that started now would be made of; None for what cannot be told now.

        That passes: files that are being replaced, a process that has no more of them.
        """
        program: tuple[str, int, int] | None = None
        with contextlib.suppress(OSError):
            program = executable_identity(self.configured_program().path)
        home = codex_home(self.env, cwd=self.working_dir)
        return program, *(_version_of(os.path.join(home, name)) for name in _READ_AT_START)

    def heard(self, report: Report) -> None:
        """The plugin tells for which spare it vouches."""
        pid = self.machine.pid
        if pid is not None and self._plugin is None:
            self._plugin = report.plugin
        if pid is not None and report.plugin != self._plugin:
            # Who was introduced to it is gone, and a pipe is introduced once.
            self.discard("the plugin was restarted")
        elif report.spare is not None and report.spare == pid:
            is_new = self.machine.state is SpareState.STARTED
            self._do(self.machine.greeted(pid))
            if is_new:
                self._note()
        elif self.machine.ready_pid is not None or (pid is not None and report.unfit_spare == pid):
            # It may have been vouched for, and not any more, between two words of the plugin.
            self.discard("the plugin does not vouch for it any more")
        if self._server is not None and self._server.control.ready_pid != self._behind[0]:
            self._is_wanted()

    def discard(self, why: str) -> None:
        """The present one is not to be used."""
        if not self._why:
            self._why = why
        self._do(self.machine.stale())

    def give(self) -> tuple[AppServerProcess, ChildPipes] | None:
        """The spare, to be the child from now on; None where there is none that may be used."""
        pid, pipes = self.machine.ready_pid, self._pipes
        process = None if pid is None else self.processes.get(pid)
        if process is None or pipes is None or identify(process.pid) is None:
            self._make_way()
            return None
        report = self.channel.told.fresh(time.monotonic())
        why = self._why_stale()
        if report is None or report.spare != pid:
            why = why or "the plugin does not vouch for it any more"
        why = why or self._come_forth(pipes)
        if why:
            self.discard(why)
            return None
        del self.processes[process.pid]
        self._pipes = None
        self._do(self.machine.promoted())
        return process, pipes

    def _make_way(self) -> None:
        """A fresh server is started now: a spare that hangs where it starts would hold it up.

        With a socket to listen on, codex has one server of a home start at a time (0.163).
        """
        pid = self.machine.pid
        if self.beside is not None and pid is not None and self.machine.state is SpareState.STARTED:
            self.discard("it was still starting when the server ended")
            end_group_members(pid)

    def _come_forth(self, pipes: ChildPipes) -> str:
        """Have its pipes, and its socket, where the server's are; or why that cannot be."""
        try:
            pipes.come_forth(self.runtime_dir)
        except OSError:
            return "its pipes are gone with the runtime directory"
        try:
            if self.beside is not None:
                self.beside.come_forth()
        except OSError as error:
            pipes.go_aside(self.runtime_dir)
            return f"its socket cannot be had at the endpoint: {error.strerror}"
        return ""

    # -- ending ------------------------------------------------------------------------------

    @gen.coroutine
    def _stop(self, close_output_streams: bool = False) -> Any:
        if self._status == "starting":
            # Circus's own first start, which gives up a watcher that it brought no process.
            self._status = "active"
            return
        yield super()._stop(close_output_streams)

    @gen.coroutine
    def _reload(self, graceful: bool = True, sequential: bool = False) -> Any:
        # Circus would start the new one beside the old.
        del graceful, sequential
        yield self._restart()

    def notify_event(self, topic: str, msg: dict[str, Any]) -> None:
        """As circus; the end of the spare is taken from here."""
        super().notify_event(topic, msg)
        if topic == "reap":
            self._ended(msg["process_pid"], msg["exit_code"])

    def _ended(self, pid: int, code: int | None) -> None:
        end_group_members(pid)
        self.family.end(pid)
        why, self._why = self._why, ""
        # Before its pipes go: the plugin reads what it said last.
        self._tell(pid, code, why or None)
        self._do(self.machine.ended(pid))
        self._drop_pipes()
        if self.beside is not None:
            with contextlib.suppress(OSError):
                self.beside.clear()
        self.ledger.note_spare(None)
        self.ledger.save()

    def _drop_pipes(self) -> None:
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            remove(self.runtime_dir, aside(pipes.generation))
            pipes.close()

    # -- doing it ----------------------------------------------------------------------------

    def _note(self) -> None:
        """Have it on record: the next daemon ends what this one may leave behind."""
        pid, pipes = self.machine.pid, self._pipes
        process = None if pid is None else identify(pid)
        if process is None or pipes is None:
            return
        spare = Spare(
            process=process,
            generation=pipes.generation,
            ready=self.machine.ready_pid is not None,
            socket=None if self.beside is None else self.beside.path,
        )
        self.ledger.note_spare(spare)
        self.ledger.save()
        super().notify_event("noted", {"pid": pid})

    def _tell(self, pid: int | None, code: int | None, why: str | None) -> None:
        super().notify_event("ended", {"pid": pid, "code": code, "reason": why})

    def _do(self, deeds: list[Deed]) -> None:
        for deed in deeds:
            if deed.action is SpareAction.WAKE:
                self.loop.add_callback(self.wake)
            elif deed.action is SpareAction.PAUSE:
                self.loop.call_later(deed.delay_ms / 1000, self._pause_over)
            elif deed.action is SpareAction.END:
                self._end()

    def _pause_over(self) -> None:
        self._do(self.machine.pause_over())

    def _end(self) -> None:
        for process in list(self.processes.values()):
            done = self.kill_process(process, graceful_timeout=_GRACE_S)
            self.loop.add_future(done, self._killed)

    def _killed(self, done: Any) -> None:
        if done.exception() is not None:
            logger.error("the spare could not be ended", exc_info=done.exception())


def _version_of(path: str) -> Stamp | str | None:
    """The stamp of a file, or that it is not there; None where that cannot be told."""
    try:
        return stamp_of(os.path.realpath(path, strict=True)) or "no file"
    except FileNotFoundError:
        return "not there"
    except OSError:
        return None
