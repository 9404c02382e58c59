"""What really runs, looked up: records are only believed where the process proves them."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from codexd.child import family
from codexd.child import steps as supervision
from codexd.child.command import binary_changed
from codexd.client.http import ask_hub
from codexd.client.ini import read_ini
from codexd.client.owner import belongs_to, foreign_owner
from codexd.config import Config
from codexd.contracts import ChildState, DaemonState
from codexd.platform import lock
from codexd.platform.process import ProcessId, identify, is_alive
from codexd.store.scaffold import NOBODY, describe_scaffold, find_scaffold

_POLL_S = 0.02


class Live(msgspec.Struct, kw_only=True):
    """``daemon`` is the record with every claim taken back that no process bears out.

    ``config`` is that of the daemon that runs, whatever this process was told.
    """

    config: Config
    daemon: DaemonState
    details: dict[str, Any]
    remarks: list[str]
    up: bool


def look(
    config: Config,
    recorded: DaemonState,
    *,
    patience_s: float = 0.0,
    is_starting: bool = False,
) -> Live:
    """Compare ``recorded`` with the processes there are, and ask the hub. Changes nothing.

    A hub that is about to let requests through may take ``patience_s`` seconds to. Of a daemon that
    ``is_starting``, it is not remarked that the hub does not answer yet.
    """
    holder = lock.living_holder(config.runtime.lock_path)
    supervised = supervision.load(supervision.path_of(config.paths.state_dir))
    ours = supervised.child.pid if supervised.child else None
    scaffold = find_scaffold(config.paths, ours=ours) if holder is None else NOBODY
    hub = _ask(config.runtime.hub_socket_path, patience_s) if holder else None
    is_mute = holder is not None and hub is None and not is_starting
    holder = holder or scaffold.daemon
    child = scaffold.child or supervised.child
    child_alive = is_alive(child)
    if hub is not None and not child_alive:
        # What a full disk keeps from the files, the plugin tells.
        recorded, child = _as_told(recorded, hub, child)
        child_alive = is_alive(child)
    daemon = _believe(recorded, holder is not None, child_alive, supervised)
    changed = is_alive(supervised.child) and binary_changed(supervised.executable)
    remarks = []
    if scaffold.daemon is not None:
        remarks.append(f"codexd: {describe_scaffold(config.paths, scaffold.daemon)}")
    if changed and supervised.executable:
        remarks.append(
            f"codexd: {supervised.executable[0]} on disk is not the one that runs: "
            "`codexd restart --when-idle` takes the new one."
        )
    if is_mute and daemon.child.status in ("running", "external"):
        remarks.append(
            "codexd: the hub does not answer, so no client gets in; the daemon replaces a plugin "
            "that hangs. Its log is codexd.log."
        )
    if holder is None and child_alive and child:
        remarks.append(
            f"codexd: the server (pid {child.pid}) lives without its daemon; "
            "the next `codexd start` ends it."
        )
    left = (
        []
        if holder or child_alive
        else family.survivors(family.path_of(config.runtime.runtime_dir))
    )
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        remarks.append(
            f"codexd: what an earlier server started lives without it (pid {pids}); "
            "the next `codexd start` ends it."
        )
    owner = foreign_owner(config.paths, config.runtime) if holder and not scaffold.daemon else None
    if owner is not None:
        remarks.append(f"codexd: {belongs_to(config.paths.state_dir, owner)}")
    unserved = _unserved(hub)
    remarks += [f"codexd: the hub is not on a socket that it was told: {why}" for why in unserved]
    fault = (_part(hub, "tcp") or {}).get("fault")
    remarks += [f"codexd: nobody new gets in over TCP: {fault}"] if fault else []
    remarks += [f"codexd: the server says: {fault}" for fault in _texts(hub, "configFaults")]
    details = {
        "daemonAlive": holder is not None,
        "daemonPid": holder.pid if holder else None,
        "childAlive": child_alive,
        "childPid": child.pid if child_alive and child else None,
        "leftPids": [process.pid for process in left],
        "binaryChanged": changed,
        "hub": hub,
        "health": _part(hub, "health"),
        "account": _part(hub, "account"),
    }
    spare = _part(hub, "spare")
    if spare is not None:
        details["spare"] = spare
    up = (
        daemon.started
        and hub is not None
        and not unserved
        and (
            bool(hub.get("ready"))
            or (daemon.child.mode == "exec" and daemon.child.status == "running")
        )
    )
    if holder is not None:
        config = running_config(config, recorded, holder.pid)
    return Live(config=config, daemon=daemon, details=details, remarks=remarks, up=up)


def _part(hub: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    part = hub.get(name) if hub is not None else None
    return part if isinstance(part, dict) else None


def _texts(hub: dict[str, Any] | None, name: str) -> list[str]:
    """A list of texts, each in one line, whatever is in it."""
    found = hub.get(name) if hub is not None else None
    texts = [str(text) for text in found] if isinstance(found, list) else []
    return ["".join(filter(str.isprintable, " ".join(text.split()))) for text in texts]


def running_config(config: Config, recorded: DaemonState, pid: int) -> Config:
    """The configuration of the daemon ``pid`` that ``config`` led to.

    What this process was told beyond that (its environment, its flags) says nothing of a daemon
    that was started elsewhere.
    """
    found = read_ini(config.runtime.circus_ini_path)
    if found is not None and found.paths.state_dir == config.paths.state_dir:
        config = found
    if recorded.pid != pid:
        return config
    # Under a stock circusd the ini may lie anywhere, and an older one here.
    child = recorded.child
    told = {
        "mode": child.mode,
        "endpoint": child.endpoint,
        "child_strategy": child.strategy,
    }
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **told))


def _ask(socket_path: str, patience_s: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + patience_s
    while True:
        hub = ask_hub(socket_path)
        is_coming = hub is not None and hub.get("server") == "recovering"
        if not is_coming or time.monotonic() > deadline:
            return hub
        time.sleep(_POLL_S)


def _unserved(hub: dict[str, Any] | None) -> list[str]:
    """Why sockets that the daemon was told to serve are not served, one line each."""
    found = hub.get("unservedSockets") if hub else None
    if not isinstance(found, list):
        return []
    return [str(entry.get("reason")) for entry in found if isinstance(entry, dict)]


def _as_told(
    recorded: DaemonState, hub: dict[str, Any], child: ProcessId | None
) -> tuple[DaemonState, ProcessId | None]:
    """The record, and the child, where the hub speaks of a newer one than the files do."""
    pid = hub.get("childPid")
    living = identify(pid) if isinstance(pid, int) else None
    if living is None:
        return recorded, child
    told = {"pid": living.pid, "status": "running", "ready": hub.get("ready") is True}
    ends = {"exited_at": None, "exit_code": None, "signal": None, "last_error": None}
    newer = msgspec.structs.replace(recorded.child, **told, **ends, next_restart_at=None)
    return msgspec.structs.replace(recorded, child=newer), living


def _believe(
    recorded: DaemonState,
    daemon_alive: bool,
    child_alive: bool,
    supervised: supervision.Supervision,
) -> DaemonState:
    child = msgspec.structs.replace(recorded.child)
    if child.status == "external" and not daemon_alive:
        child.status = "idle"
    if not child_alive and (child.status == "running" or not daemon_alive):
        _take_back(child, supervised)
    if not daemon_alive:
        child.next_restart_at = None
    if not (daemon_alive and (child_alive or child.status == "external")):
        child.ready = False
    return msgspec.structs.replace(
        recorded,
        started=recorded.started and daemon_alive,
        pid=recorded.pid if daemon_alive else None,
        child=child,
    )


def _take_back(child: ChildState, supervised: supervision.Supervision) -> None:
    """The process is gone and the record not yet (or never) corrected: say how it ended."""
    if child.status not in ("running", "starting"):
        return
    lives = [step for step in supervised.steps if step.kind in ("spawned", "ended")]
    last = lives[-1] if lives else None
    ended_well = last is not None and last.kind == "ended" and (last.asked or last.code == 0)
    child.status = "stopped" if ended_well else "failed"
    child.pid = None
    child.last_error = child.last_error if ended_well else "The process of the server is gone."
