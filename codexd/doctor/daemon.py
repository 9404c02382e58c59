"""The daemon, its hub, its plugin and its server: do they run, and why did they end."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any, Final

from codexd.client.circus import running_turns
from codexd.client.errors import DaemonError
from codexd.clock import now_iso, to_epoch
from codexd.contracts import Event
from codexd.daemons.listing import read_list
from codexd.doctor.finding import Finding, failed, ok, warn
from codexd.doctor.scene import Scene
from codexd.eventlog.reader import events_with
from codexd.listener_settings import check_settings
from codexd.platform.limits import STARTERS_LIMIT
from codexd.platform.process import is_alive
from codexd.store.scaffold import describe_scaffold, find_scaffold
from codexd.store.snapshot import read_daemon

# A crash of the last day is worth a look; an older one is history.
_RECENT_S: Final = 86_400.0
_SKEW_S: Final = 60.0
# Before codexd was: a machine whose battery is flat wakes up in 1970.
_FIRST_POSSIBLE: Final = 1_735_689_600.0
_FEW_FILES: Final = 1_024
# Of the open files that it may have: above, clients are refused soon.
_NEARLY_ALL: Final = 0.8


def settings(scene: Scene) -> Finding:
    """codexd.toml, flags and environment can be read."""
    if scene.faults:
        where = "" if scene.process else " What follows goes by the rest."
        return failed(f"{' '.join(scene.faults)}{where}", "codexd config --show-origin")
    try:
        check_settings(scene.config.policy)
    except OSError as error:
        return failed(str(error), "codexd config --show-origin")
    if scene.settings_path is None:
        return ok("There is no codexd.toml; flags, environment and defaults hold.")
    return ok(f"{scene.settings_path} can be read.")


def listing(scene: Scene) -> Finding:
    """The list of running daemons, by which commands find them."""
    found = read_list(scene.environ)
    if found.faults:
        return warn(" ".join(found.faults), "remove it; a daemon that runs writes its own anew")
    others = [entry for entry in found.daemons if entry.daemon != scene.process]
    detail = f"{len(others)} other daemons of yours run" if others else "No other daemon runs"
    return ok(f"{detail}.")


def daemon(scene: Scene) -> Finding:
    """Whether it runs and answers, and if not, whether it was ended in order."""
    config, child = scene.config, scene.supervised.child
    scaffold = find_scaffold(config.paths, ours=child.pid if child else None).daemon
    if scene.process is not None:
        return _ask_daemon(scene, scene.process.pid)
    if scaffold is not None:
        return failed(describe_scaffold(config.paths, scaffold), f"kill {scaffold.pid}")
    lost = [remark.removeprefix("codexd: ") for remark in scene.live.remarks if "lives" in remark]
    if lost:
        return failed(" ".join(lost), "codexd start")
    recorded = read_daemon(config.paths)
    if recorded is not None and recorded.started:
        return failed(
            f"The daemon (pid {recorded.pid}) ended without a word, after "
            f"{recorded.updated_at}: it was killed, or the machine went down.",
            "codexd start",
        )
    return warn(f"No daemon runs for {config.paths.repo_root}.", "codexd start")


def _ask_daemon(scene: Scene, pid: int) -> Finding:
    try:
        running_turns(scene.config.runtime)
    except DaemonError as error:
        # One that hangs replaces nothing and cannot be stopped in order.
        return failed(
            f"The daemon (pid {pid}) runs and does not answer. {error}",
            f"kill -CONT {pid}; and if it stays so: kill -9 {pid}; codexd start",
        )
    return ok(f"The daemon of {scene.config.paths.repo_root} runs as pid {pid}.")


def hub(scene: Scene) -> Finding:
    """Whether codexd.sock answers, and every socket that it is to be on is served."""
    path = scene.config.runtime.hub_socket_path
    if scene.process is None:
        return ok("No daemon runs, and so no hub.")
    if scene.hub is None:
        return failed(
            f"Nobody answers on {path}; the daemon replaces a plugin that hangs.",
            "codexd stop --now && codexd start, if it stays so; its log is "
            f"{scene.config.paths.logs_dir}/codexd.log",
        )
    unserved = scene.hub.get("unservedSockets")
    if isinstance(unserved, list) and unserved:
        reasons = [str(entry.get("reason")) for entry in unserved if isinstance(entry, dict)]
        return failed(" ".join(reasons), "end what is in the way; the hub then takes its place")
    clients = scene.hub.get("clients")
    return ok(f"The hub answers on {path}{f', {clients} clients' if clients else ''}.")


def plugin(scene: Scene) -> Finding:
    """Whether the process that serves clients and keeps the record lives."""
    if scene.process is None:
        return ok("No daemon runs, and so no plugin.")
    if scene.writer is None or not is_alive(scene.writer):
        return failed(
            "The plugin is gone; the daemon starts another within a few seconds.",
            f"tail {scene.config.paths.logs_dir}/codexd.log, if it stays so",
        )
    return ok(f"The plugin runs as pid {scene.writer.pid}.")


def server(scene: Scene) -> Finding:
    """Whether the server is up and ready."""
    if scene.process is None:
        return ok("No daemon runs, and so no server.")
    child, health = scene.live.daemon.child, scene.live.details["health"]
    if child.status == "failed":
        then = f" Its next try is at {child.next_restart_at}." if child.next_restart_at else ""
        return failed(f"{child.last_error or 'The server failed.'}{then}", "codexd logs stderr")
    if isinstance(health, dict) and health.get("misses"):
        return warn(
            f"The server has missed {health['misses']} health checks; it last answered at "
            f"{health['lastAnswerAt']}.",
            "codexd restart --now, if it hangs",
        )
    if scene.live.up or (scene.hub is not None and scene.hub.get("ready")):
        return ok(f"The server is {child.status} and ready.")
    if child.status == "stopped":
        return warn("The server was stopped.", "codexd restart")
    return failed(
        f"The server is {child.status} and not ready on {scene.config.server.endpoint}.",
        "codexd events -n 20",
    )


def crash(scene: Scene) -> Finding:
    """The newest end of a server that nobody asked for, and why."""
    event = _newest_crash(scene.config.paths.structured_event_log_path)
    if event is None:
        return ok("No server has crashed, as far as the events go back.")
    detail = f"The newest crash was at {event.created_at}: {_why(event)}"
    at = to_epoch(event.created_at)
    if at is None or time.time() - at > _RECENT_S:
        return ok(detail)
    return warn(detail, "codexd logs stderr; codexd events -n 50")


def _newest_crash(path: str) -> Event | None:
    for event in events_with(path, "child.exited"):
        if event.type == "child.exited" and event.level == "error":
            return event
    return None


def _why(event: Event) -> str:
    detail: dict[str, Any] = event.detail or {}
    reason = detail.get("reason")
    signal = detail.get("signal")
    if signal == "SIGKILL":
        return "SIGKILL: somebody killed it, or the machine ran out of memory."
    if signal is None and detail.get("code") is None:
        return event.message
    how = f"signal {signal}" if signal else f"exit code {detail.get('code')}"
    said = (
        "".join(filter(str.isprintable, reason)) if isinstance(reason, str) else "it said nothing"
    )
    return f"{how}, {said}" if said.endswith((".", "!", "?")) else f"{how}, {said}."


def clock(scene: Scene) -> Finding:
    """The clock goes forward, and the disk's agrees with it."""
    now, paths = time.time(), scene.config.paths
    mend = "set the clock: timedatectl set-ntp true (Linux), sudo sntp -sS time.apple.com (macOS)"
    if now < _FIRST_POSSIBLE:
        return failed(f"The clock says {now_iso()}: no certificate is valid then.", mend)
    recorded = read_daemon(paths)
    written = to_epoch(recorded.updated_at) if recorded is not None else None
    for what, at in (
        (f"daemon-state.json of {paths.state_dir} says that it", written),
        (f"{paths.daemon_state_path}, by its time,", _changed_at(paths.daemon_state_path)),
        (f"{paths.structured_event_log_path}", _changed_at(paths.structured_event_log_path)),
    ):
        if at is not None and at - now > _SKEW_S:
            ahead = f"{at - now:.0f} s from now"
            return warn(f"{what} was written {ahead}: the clock was set back.", mend)
    on_disk = _changed_at(paths.daemon_state_path)
    if scene.process and written and on_disk and abs(on_disk - written) > _SKEW_S:
        apart = f"{abs(on_disk - written):.0f} s"
        return warn(f"The clock and that of the disk at {paths.state_dir} are {apart} apart.", mend)
    return ok(f"The clock says {now_iso()}, and no file is from the future.")


def _changed_at(path: str) -> float | None:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None


def open_files(scene: Scene) -> Finding:
    """How many files the daemon may have open, and has."""
    mend = "ulimit -Hn in the shell that starts codexd; LimitNOFILE= of the unit; --child-nofile"
    if scene.process is None:
        hard = STARTERS_LIMIT[1]
        if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
            return warn(f"A daemon of this shell may have {hard} open files.", mend)
        return ok(f"A daemon of this shell may have {_count(hard)} open files.")
    import psutil

    about = []
    for name, process in (("daemon", scene.process), ("plugin", scene.writer)):
        if not is_alive(process) or process is None:
            continue
        try:
            used = psutil.Process(process.pid).num_fds()
            limit = _limit_of(process.pid)
        except psutil.Error:
            continue
        about.append(f"the {name} has {used} of {_count(limit)}")
        is_infinite = limit in (None, resource.RLIM_INFINITY)
        if (
            limit is not None
            and not is_infinite
            and (limit < _FEW_FILES or used > limit * _NEARLY_ALL)
        ):
            return warn(f"Of open files {about[-1]}.", mend)
    return ok(f"Of open files {', '.join(about) or 'nothing can be told'}.")


def _limit_of(pid: int) -> int | None:
    """The soft limit of another process; None where the system does not tell (macOS)."""
    if sys.platform != "linux":
        return None
    import psutil

    return int(psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0])


def _count(limit: int | None) -> str:
    if limit is None:
        return "as many as it may"
    return "any number of" if limit == resource.RLIM_INFINITY else str(limit)
