"""What a service manager shows of the daemon (systemd: the Status line)."""

from __future__ import annotations

import time

from codexd.child.told import Told
from codexd.contracts import DaemonState


def status_text(daemon: DaemonState | None, told: Told, pid: int) -> str:
    """How the daemon ``pid`` does now, in one line."""
    if daemon is None or daemon.pid != pid:
        return "starting"
    child = daemon.child
    if child.status in ("failed", "stopped", "starting", "idle"):
        why = f": {child.last_error}" if child.last_error else ""
        when = f" Next try at {child.next_restart_at}." if child.next_restart_at else ""
        return f"the server is {child.status}{why}{when}"
    report = told.fresh(time.monotonic())
    if report is None:
        return "the plugin does not answer; clients cannot get in"
    if child.mode == "exec":
        return "running"
    if not child.ready:
        why = f": {child.last_error}" if child.last_error else ""
        return f"the server is not ready{why}"
    if report.server != "up":
        return "the server is ready, its threads are being resumed"
    turns = f", {report.turns} turn{'' if report.turns == 1 else 's'} running"
    return "ready" + (turns if report.turns else "")
