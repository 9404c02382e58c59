"""Whether a service can run on this machine, before it is installed; and whether it does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from codexd.child import steps
from codexd.child.command import CommandNotFound, check_cwd, find_executable
from codexd.config import Config, Paths
from codexd.daemons.homes import describe_other, served_home
from codexd.link.endpoint import BadEndpoint, check_endpoint
from codexd.listener_settings import check_settings
from codexd.platform import lock
from codexd.store.scaffold import describe_scaffold, find_scaffold
from codexd.store.snapshot import read_daemon

_POLL_S: Final = 0.1
# Below the home: where macOS asks the user before a program may look, and launchd cannot ask.
_CLOSED: Final = (
    "Documents",
    "Desktop",
    "Downloads",
    "Library/Mobile Documents",
    "Library/CloudStorage",
)


def find_obstacle(config: Config, environ: Mapping[str, str], own_pid: int | None) -> str | None:
    """Why a service of this configuration and environment could not run; None where it can.

    ``own_pid`` is the service itself, where it runs already.
    """
    try:
        on_default = config.policy.hub_default_socket
        check_endpoint(config.server, environ, hub_on_the_default=on_default)
        check_settings(config.policy)
        if config.server.child_strategy == "spawn":
            check_cwd(config.server)
            find_executable(config.server, environ)
    except CommandNotFound as error:
        return f"{error} (PATH of the service: {environ.get('PATH')})"
    except (BadEndpoint, OSError) as error:
        return str(error)
    home = served_home(config.server, environ)
    if home is not None and environ.get("CODEX_HOME", "").strip() and not os.path.isdir(home):
        return f'CODEX_HOME "{home}" is no directory, and codex does not start without it.'
    return _find_other(config, environ, own_pid)


def _find_other(config: Config, environ: Mapping[str, str], own_pid: int | None) -> str | None:
    paths = config.paths
    holder = lock.living_holder(config.runtime.lock_path)
    if holder is not None:
        return None if holder.pid == own_pid else _in_the_way(paths.state_root_dir, holder.pid)
    child = steps.load(steps.path_of(paths.state_dir)).child
    scaffold = find_scaffold(paths, ours=child.pid if child else None).daemon
    if scaffold is not None and scaffold.pid != own_pid:
        return describe_scaffold(paths, scaffold)
    home = served_home(config.server, environ)
    return None if home is None else describe_other(home, environ, but=own_pid)


def _in_the_way(state_root: str, pid: int) -> str:
    return (
        f"A codexd that is not this service runs on {state_root}, as pid {pid}: stop it first, "
        f"with `codexd stop --state-dir {state_root}`."
    )


def closed_directories(paths: Paths, child_cwd: str, home: str) -> list[str]:
    """What of the configuration lies where macOS lets no launchd job in (privacy protection)."""
    closed = [os.path.join(home, name) for name in _CLOSED] + ["/Volumes", "/Network"]
    wanted = [paths.repo_root, paths.logs_dir, paths.state_dir, child_cwd]
    return [
        path
        for path in dict.fromkeys(wanted)
        if any(os.path.join(path, "").startswith(os.path.join(place, "")) for place in closed)
    ]


def wait_for_service(
    config: Config,
    service_pid: Callable[[], int | None],
    has_ended: Callable[[], bool],
    patience_s: float,
) -> str | None:
    """Wait until the service is up; why it is not, or None where it is.

    ``service_pid`` tells the pid of its process, None while there is none; for ``patience_s``
    seconds there may be none, unless ``has_ended`` says that there will be none.
    """
    begun = missing_since = time.monotonic()
    ready_s = config.policy.ready_timeout_ms / 1000
    while True:
        now = time.monotonic()
        pid = service_pid()
        holder = lock.living_holder(config.runtime.lock_path)
        if holder is not None and holder.pid == pid:
            missing_since = now
            verdict = _judge(config.paths, holder.pid, is_late=now - begun > ready_s + patience_s)
            if verdict is not None:
                return verdict or None
        elif (pid is None and has_ended()) or now - missing_since > patience_s:
            return "The service ended before it was up."
        time.sleep(_POLL_S)


def _judge(paths: Paths, pid: int, *, is_late: bool) -> str | None:
    """Empty for up, a reason for not; None while it is too early to tell."""
    state = read_daemon(paths)
    if state is None or state.pid != pid or not state.started:
        return "The daemon runs and has recorded nothing." if is_late else None
    child = state.child
    if child.ready or child.status == "external":
        return ""
    if child.mode == "exec" and child.status in ("running", "stopped"):
        return ""
    if child.status == "failed" and (child.next_restart_at or is_late):
        return f"The daemon runs, but its server does not: {child.last_error}"
    return f"The daemon runs, but its server is {child.status} and not ready." if is_late else None
