"""How a server is started: exact arguments, pipes, a parent-death signal."""

from __future__ import annotations

import os
import signal
from typing import Any

from circus.process import Process

from codexd.child.command import Program
from codexd.child.inheritance import become_child
from codexd.circus_ext.spawning import told_apart
from codexd.platform.parent import end_with_parent


class AppServerProcess(Process):  # type: ignore[misc]
    """A server, started without a shell, a launcher or a template in between.

    Its watcher is that of the child, or of the spare.
    """

    def format_args(self, sockets_fds: Any = None) -> list[str]:
        """The argument list, byte for byte, unless an operator set another through circus."""
        watcher = self.watcher
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
            self._pipes = self.watcher.new_pipes()
            self._supervisor = os.getpid()
            super().spawn()

    def _get_stdin_socket_fd(self) -> int:
        # Circus calls this in the forked child, last before exec, and makes what it returns
        # file descriptor 0: the one place for what must happen there.
        pipes = self._pipes
        os.dup2(pipes.stdout, 1)
        os.dup2(pipes.stderr, 2)
        # SIGKILL, not SIGTERM: a server that outlives its daemon to finish a turn would keep
        # the next one from its threads.
        end_with_parent(self._supervisor, signal.SIGKILL)
        become_child(None if "nofile" in self.rlimits else self.watcher.files)
        if self.watcher.stdin_is_null:
            return os.open(os.devnull, os.O_RDONLY)
        return int(pipes.stdin)
