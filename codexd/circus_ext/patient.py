"""What both of codexd's watchers do otherwise than circus's own."""

from __future__ import annotations

import os
import time
from typing import Any

from circus import logger
from circus.process import DEAD_OR_ZOMBIE, UNEXISTING
from circus.watcher import Watcher
from tornado import gen

_POLL_S = 0.05
# How soon to try again where the system refused something.
_TROUBLE_RETRY_S = 0.5


class PatientWatcher(Watcher):  # type: ignore[misc]
    """A watcher that is not given up while it has no process, and that sees every end."""

    @gen.coroutine
    def _start(self) -> Any:
        # Circus stops a watcher whose start brought no process. This one waits for its next try.
        if self.is_stopping():
            return
        if self.is_stopped():
            if not self.call_hook("before_start"):
                return
            self._create_redirectors()
            self._status = "active"
            self.notify_event("start", {"time": time.time()})
        self._reap_dead()
        yield self.spawn_processes()

    @gen.coroutine
    def manage_processes(self) -> Any:
        """As circus, but no end goes unseen.

        Circus drops a process that died after its last look without reaping it.
        """
        self._reap_dead()
        yield super().manage_processes()

    def _reap_dead(self) -> None:
        for pid, process in list(self.processes.items()):
            if process.status in (DEAD_OR_ZOMBIE, UNEXISTING):
                self.reap_process(pid)

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
    def remove_expired_processes(self) -> Any:
        """As circus, which drops them without reaping them."""
        before = dict(self.processes)
        yield super().remove_expired_processes()
        for pid in before.keys() - self.processes.keys():
            self.processes[pid] = before[pid]
            self.reap_process(pid)

    @gen.coroutine
    def kill_process(
        self, process: Any, stop_signal: Any = None, graceful_timeout: float | None = None
    ) -> Any:
        """As circus, but it returns when the process has ended, also if another call ends it.

        Circus would go on at once, and wait for that process without letting the other call end it.
        """
        result = yield super().kill_process(process, stop_signal, graceful_timeout)
        while process.stopping and process.is_alive():
            yield gen.sleep(_POLL_S)
        return result

    def wake(self) -> None:
        """The next process may start: have circus do it."""
        self.loop.add_future(self.manage_processes(), self._woken)

    def _woken(self, future: Any) -> None:
        try:
            future.result()
        except OSError as error:
            # No file descriptor is left, say: that passes.
            logger.error("circus could not look at %s: %s", self.name, error)
            self.loop.call_later(_TROUBLE_RETRY_S, self.wake)
