"""What the processes of a daemon take of the machine, looked at again and again."""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

import psutil

from codexd.cli.top.shown import Process
from codexd.platform.children import descendants_of

# Who descends from the daemon is looked up so often; what they take, each time.
_FAMILY_S: Final = 3.0
# Circus runs each plugin by this call (circus 0.19, get_plugin_cmd).
_PLUGIN: Final = "plugins.main()"


class _Known(NamedTuple):
    process: psutil.Process
    role: str
    name: str
    # Processor seconds, and when they were read; None before that.
    seconds: float | None
    at: float


class Processes:
    """Of one daemon after the other."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._pids: list[int] = []
        self._asked: tuple[int, int | None] | None = None
        self._looked_at = 0.0

    def read(self, daemon: int | None, server: int | None, now: float) -> list[Process]:
        """The daemon first, then plugin and server, then what they have started."""
        if daemon is None:
            self._asked = None
            return []
        if self._asked != (daemon, server) or now - self._looked_at >= _FAMILY_S:
            self._asked, self._looked_at = (daemon, server), now
            self._pids = [daemon, *descendants_of(daemon)]
        found = [self._read(pid, now) for pid in self._pids]
        self._known = {pid: self._known[pid] for pid in self._pids if pid in self._known}
        order = ("daemon", "plugin", "server", "other")
        return sorted(filter(None, found), key=lambda one: order.index(one.role))

    def _read(self, pid: int, now: float) -> Process | None:
        with contextlib.suppress(psutil.Error):
            known = self._known.get(pid) or self._meet(pid, now)
            with known.process.oneshot():
                times, resident = known.process.cpu_times(), known.process.memory_info().rss
            seconds = float(times.user + times.system)
            cpu = None
            if known.seconds is not None and now > known.at:
                # A pid that was given to another process has begun anew.
                cpu = max(0.0, (seconds - known.seconds) / (now - known.at) * 100)
            self._known[pid] = known._replace(seconds=seconds, at=now)
            return Process(pid, known.role, known.name, cpu, resident)
        self._known.pop(pid, None)
        return None

    def _meet(self, pid: int, now: float) -> _Known:
        process = psutil.Process(pid)
        daemon, server = self._asked or (None, None)
        role = "other"
        if pid == daemon:
            role = "daemon"
        elif pid == server:
            role = "server"
        elif any(_PLUGIN in word for word in process.cmdline()):
            role = "plugin"
        name = {"daemon": "codexd", "plugin": "codexd's plugin"}.get(role)
        if role == "server" and "app-server" in process.cmdline():
            name = "codex app-server"
        return _Known(process, role, name or process.name(), None, now)
