"""Directories, modes, disks and sockets."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Final

from codexd.child.command import check_cwd
from codexd.doctor.finding import Finding, failed, ok, warn
from codexd.doctor.scene import Scene
from codexd.link.endpoint import BadEndpoint, check_endpoint, default_control_socket
from codexd.platform.files import kind_of, require_private_directory
from codexd.platform.users import user_name
from codexd.runtime import UnusableDirectory, refuse_links
from codexd.store.snapshot import find_damage

_OTHERS: Final = 0o077
_MIB: Final = 1 << 20
# Less than this and logs, state and a thread's file soon cannot be written.
_TOO_LITTLE: Final = 64 * _MIB
_LITTLE: Final = 1024 * _MIB
# The path that a socket's address holds: unix(7), and sys/un.h of macOS.
SOCKET_PATH_LIMIT: Final = 103 if sys.platform == "darwin" else 107
_SHOWN: Final = 3


def directories(scene: Scene) -> Finding:
    """State, logs and working directory: there, ours, writable, or to be made."""
    paths = scene.config.paths
    for root, own, flag in (
        (paths.state_root_dir, paths.state_dir, "--state-dir"),
        (paths.logs_root_dir, paths.logs_dir, "--logs-dir"),
    ):
        try:
            refuse_links(root, paths.repo_root, flag)
        except UnusableDirectory as error:
            return failed(str(error), f"name the directory itself with {flag}")
        trouble = _unusable(own, flag)
        if trouble is not None:
            return trouble
    if scene.config.server.child_strategy == "spawn":
        try:
            check_cwd(scene.config.server)
        except NotADirectoryError as error:
            cwd = shlex.quote(scene.config.server.child_cwd)
            return failed(str(error), f"mkdir -p {cwd}")
    is_there = os.path.isdir(paths.state_dir)
    then = "" if is_there else "; `codexd start` makes what is not there yet"
    return ok(f"{paths.state_dir} and {paths.logs_dir} can be used{then}.")


def _unusable(path: str, flag: str) -> Finding | None:
    place = _nearest(path)
    quoted = shlex.quote(place)
    try:
        status = os.stat(place)
    except OSError as error:
        return failed(f"{place} leads nowhere: {error.strerror}.", f"rm {quoted}")
    if not stat.S_ISDIR(status.st_mode):
        what = kind_of(status.st_mode)
        return failed(f"{place} is {what}, and must be a directory.", f"mv {quoted} {quoted}.old")
    if status.st_uid != os.geteuid() and place == path:
        owner = user_name(status.st_uid)
        return failed(
            f"{place} belongs to {owner}.",
            f"run this as {owner}, or: sudo chown -R {user_name(os.geteuid())} {quoted}",
        )
    if not os.access(place, os.W_OK | os.X_OK):
        return failed(
            f"{place} cannot be written.", f"chmod u+rwx {quoted}, or choose another with {flag}"
        )
    return None


def _nearest(path: str, is_there: Callable[[str], bool] = os.path.lexists) -> str:
    """The path, or what there is above it."""
    while not is_there(path):
        path = os.path.dirname(path)
    return path


def modes(scene: Scene) -> Finding:
    """What codexd writes is its user's alone: directories 0700, files 0600."""
    config = scene.config
    places = (config.paths.state_dir, config.paths.logs_dir, config.runtime.runtime_dir)
    found = [path for place in places for path in _open_to_others(place)]
    if not found:
        return ok("Directories are 0700 and files 0600.")
    shown = ", ".join(found[:_SHOWN]) + (" and more" if len(found) > _SHOWN else "")
    top = [place for place in places if any(_is_in(path, place) for path in found)]
    words = " ".join(shlex.quote(place) for place in top)
    return warn(f"Others may read or write {shown}.", f"chmod -R go= {words}")


def _is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _open_to_others(place: str) -> Iterator[str]:
    """What of a directory and its files others may use; sockets are guarded by the directory."""
    if not os.path.isdir(place):
        return
    if os.stat(place).st_mode & _OTHERS:
        yield place
    for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        is_secret = stat.S_ISREG(status.st_mode) and entry.name != ".gitignore"
        if is_secret and status.st_mode & _OTHERS:
            yield entry.path


def disk(scene: Scene) -> Finding:
    """Room for logs, state and threads."""
    paths = scene.config.paths
    least, where = None, ""
    for path in (paths.logs_dir, paths.state_dir, scene.codex_home):
        place = _nearest(path, is_there=os.path.exists)
        system = os.statvfs(place)
        if system.f_flag & os.ST_RDONLY:
            return failed(f"The disk of {place} is mounted read-only.", f"findmnt -T {place}")
        if system.f_files and not system.f_favail:
            return failed(f"The disk of {place} can take no more files.", f"df -i {place}")
        free = system.f_bavail * system.f_frsize
        if least is None or free < least:
            least, where = free, place
    assert least is not None
    detail = f"{least // _MIB} MiB are free on the disk of {where}."
    mend = f"make room: df -h {shlex.quote(where)}"
    if least < _TOO_LITTLE:
        return failed(detail, mend)
    return warn(detail, mend) if least < _LITTLE else ok(detail)


def state_files(scene: Scene) -> Finding:
    """The state files can be read, and the logs are files."""
    paths = scene.config.paths
    found = find_damage(paths, scene.config.server)
    for path in (paths.structured_event_log_path, paths.stdout_log_path, paths.stderr_log_path):
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            found.append(f"{path} is {kind_of(os.lstat(path).st_mode)}")
    if found:
        return warn(
            f"{'; '.join(found)}. The next start keeps a copy aside and goes on with what can be "
            "read.",
            "codexd start" if scene.process is None else "codexd stop && codexd start",
        )
    return ok("The state files can be read.")


def runtime_directory(scene: Scene) -> Finding:
    """Where the sockets are: ours alone, and there while a daemon runs."""
    place = scene.config.runtime
    path, quoted = place.runtime_dir, shlex.quote(place.runtime_dir)
    if not os.path.lexists(path):
        if scene.process is None:
            return ok(f"{path} is there while a daemon runs.")
        return failed(
            f"{path} is gone under the daemon, which makes it anew within a few seconds.",
            "codexd restart, if it stays so",
        )
    try:
        if path.startswith("/tmp/codexd-"):
            require_private_directory(os.path.dirname(path))
        require_private_directory(path)
    except OSError as error:
        return failed(f"{error.filename or path} {error.strerror}.", f"rm -rf {quoted}")
    if scene.process is None:
        return ok(f"{path} was left by a daemon that was killed; the next start clears it.")
    return ok(f"{path} is ours alone.")


def socket_paths(scene: Scene) -> Finding:
    """Every socket's path fits into an address."""
    config, limit = scene.config, SOCKET_PATH_LIMIT
    on_default = config.policy.hub_default_socket
    try:
        check_endpoint(config.server, scene.codex_environ, hub_on_the_default=on_default)
    except BadEndpoint as error:
        return failed(str(error), "name another with --server-endpoint")
    control = default_control_socket(scene.codex_environ)
    if len(os.fsencode(control)) > limit:
        detail = f"{control} is too long for a socket: at most {limit} bytes of path."
        mend = "give codex a shorter CODEX_HOME"
        if on_default:
            return failed(f"{detail} The hub cannot be there.", mend)
        return warn(f"{detail} A plain `codex` finds no server there.", mend)
    hub = config.runtime.hub_socket_path
    if not hub.startswith(config.paths.state_dir):
        return ok(
            f"The state directory's path is too long for a socket, or has odd characters: {hub} "
            "is the hub's."
        )
    return ok(f"{hub} has {len(os.fsencode(hub))} of {limit} bytes.")
