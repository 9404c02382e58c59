"""The resolved configuration: settings turned into paths, server and policy."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from codexd.contracts import ChildStrategy, ServerMode
from codexd.settings import (
    BY_NAME,
    SETTINGS,
    Environment,
    Flags,
    Layer,
    Policy,
    Value,
    read_setting,
)
from codexd.settings_file import SettingsFile

# A socket path is at most 107 bytes on Linux and 103 on macOS; the shorter holds for both, so
# that a state directory means the same sockets everywhere.
_SOCKET_PATH_LIMIT = 103


class Paths(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """Where the documented files are; all absolute."""

    repo_root: str
    logs_root_dir: str
    state_root_dir: str
    logs_dir: str
    state_dir: str
    structured_event_log_path: str
    stdout_log_path: str
    stderr_log_path: str
    identity_path: str
    daemon_state_path: str
    session_registry_path: str
    recent_events_path: str


class Server(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """The child as configured."""

    mode: ServerMode
    endpoint: str
    child_strategy: ChildStrategy
    child_command: str
    child_args: list[str]
    child_cwd: str


class Runtime(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """Sockets, lock and rendered files of a running daemon."""

    runtime_dir: str
    circus_ini_path: str
    circus_endpoint: str
    circus_pubsub_endpoint: str
    hub_socket_path: str
    lock_path: str


class Config(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """Everything codexd was told, resolved."""

    node_id: str
    version: str | None
    event_cache_size: int
    smoke_lifetime_ms: int
    paths: Paths
    server: Server
    runtime: Runtime
    policy: Policy


def resolve(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    cwd: str,
    uid: int | None = None,
    file: SettingsFile | None = None,
) -> Config:
    """The configuration for the given flags, environment and file.

    Raises:
        codexd.settings.SettingError: a value that cannot be used.
    """
    return build(read_values(flags, environ, cwd=cwd, file=file), cwd=cwd, uid=uid)


def read_values(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    cwd: str,
    file: SettingsFile | None = None,
) -> dict[str, Value]:
    """The value of every setting, and where it is from: flags win over the environment, the
    environment over the file, the file over the default.

    Raises:
        codexd.settings.SettingError: a value that cannot be used.
    """
    given, environment = Flags(flags), Environment(environ)
    repo_root = read_setting(
        BY_NAME["repo_root"], given, [environment, *([file] if file is not None else [])]
    )
    layers: list[Layer] = [environment]
    if file is not None:
        layers += [file.of_repo(absolute(repo_root.value or "", cwd)), file]
    values = {setting.name: read_setting(setting, given, layers) for setting in SETTINGS}
    return {**values, "repo_root": repo_root}


def build(read: Mapping[str, Value], *, cwd: str, uid: int | None = None) -> Config:
    """The configuration that the values of all settings make."""
    values = {name: value.value for name, value in read.items()}
    repo_root = absolute(values["repo_root"] or "", cwd)
    paths = _paths(values, repo_root, cwd)
    return Config(
        node_id=values["node_id"],
        version=values["version"],
        event_cache_size=values["event_cache_size"],
        smoke_lifetime_ms=values["smoke_lifetime_ms"],
        paths=paths,
        server=Server(
            mode=values["mode"],
            endpoint=values["server_endpoint"],
            child_strategy=values["server_strategy"],
            child_command=values["server_command"],
            child_args=values["server_args"],
            child_cwd=absolute(values["server_cwd"] or repo_root, cwd),
        ),
        runtime=_runtime(paths.state_dir, os.getuid() if uid is None else uid),
        policy=_policy(values, cwd),
    )


def spare_refusal(config: Config) -> str | None:
    """Why there is no spare although one is wanted; None where there is one, or none is wanted."""
    server = config.server
    if not config.policy.spare:
        return None
    if server.child_strategy == "external":
        return "the server is not codexd's"
    if server.mode != "app-server" or "app-server" not in server.child_args:
        return "the server does not speak the protocol"
    if not server.endpoint.startswith(("stdio:", "unix:")):
        return f"a port cannot be taken over from {server.endpoint}; it takes stdio:// or unix://"
    if config.policy.restart == "never":
        return "--restart never"
    return None


def has_spare(config: Config) -> bool:
    """Whether a second server is kept that waits to take the place of the first."""
    return config.policy.spare and spare_refusal(config) is None


def absolute(path: str, cwd: str) -> str:
    """``path`` below ``cwd``, normalised without looking at the disk."""
    joined = os.path.normpath(os.path.join(cwd, path))
    # POSIX leaves a leading // to the implementation; every system here takes it for /.
    return joined[1:] if joined.startswith("//") else joined


def setting_texts(config: Config) -> dict[str, str]:
    """Each setting of ``config`` as a text that :func:`resolve` reads back to the same value."""
    server, paths = config.server, config.paths
    texts = {
        "repo_root": path_text(paths.repo_root),
        "node_id": config.node_id,
        "mode": server.mode,
        "logs_dir": path_text(paths.logs_root_dir),
        "state_dir": path_text(paths.state_root_dir),
        "server_endpoint": server.endpoint,
        "server_strategy": server.child_strategy,
        "server_command": server.child_command,
        # ASCII only: an argument may hold bytes that are no text.
        "server_args": json.dumps(server.child_args),
        "server_cwd": path_text(server.child_cwd),
        "event_cache_size": str(config.event_cache_size),
        "smoke_lifetime_ms": str(config.smoke_lifetime_ms),
        "version": config.version or "",
    }
    for name in Policy.__struct_fields__:
        value = getattr(config.policy, name)
        texts[name] = str(value).lower() if isinstance(value, bool) else str(value)
        if _is_path(name):
            texts[name] = value and path_text(value)
    return texts


def _is_path(name: str) -> bool:
    return BY_NAME[name].metavar == "PATH"


def path_text(path: str) -> str:
    """``path`` as the text of a setting, which loses the white space at its ends."""
    return path if path == path.strip() else f"{path}/"


def format_text(config: Config) -> str:
    """`codexd config`: one ``key: value`` line each."""
    server = config.server
    lines = {
        "node_id": config.node_id,
        "version": config.version or "not-set",
        "mode": server.mode,
        "endpoint": server.endpoint,
        "child_strategy": server.child_strategy,
        "child_command": server.child_command,
        "child_args": " ".join(server.child_args) or "(none)",
        "child_cwd": server.child_cwd,
        "logs_dir": config.paths.logs_dir,
        "state_dir": config.paths.state_dir,
        "event_cache_size": config.event_cache_size,
        "smoke_lifetime_ms": config.smoke_lifetime_ms,
    }
    return "\n".join(f"{key}: {value}" for key, value in lines.items())


def _paths(values: Mapping[str, Any], repo_root: str, cwd: str) -> Paths:
    logs_root = absolute(values["logs_dir"] or os.path.join(repo_root, "logs"), cwd)
    state_root = absolute(values["state_dir"] or os.path.join(repo_root, "state"), cwd)
    logs, state = os.path.join(logs_root, "codexd"), os.path.join(state_root, "codexd")
    return Paths(
        repo_root=repo_root,
        logs_root_dir=logs_root,
        state_root_dir=state_root,
        logs_dir=logs,
        state_dir=state,
        structured_event_log_path=os.path.join(logs, "events.jsonl"),
        stdout_log_path=os.path.join(logs, "stdout.log"),
        stderr_log_path=os.path.join(logs, "stderr.log"),
        identity_path=os.path.join(state, "identity.json"),
        daemon_state_path=os.path.join(state, "daemon-state.json"),
        session_registry_path=os.path.join(state, "session-registry.json"),
        recent_events_path=os.path.join(state, "recent-events.json"),
    )


def _runtime(state_dir: str, uid: int) -> Runtime:
    directory = os.path.join(state_dir, "run")
    longest = os.path.join(directory, "codexd.sock")
    # Circus and the shell-free parts of zmq take endpoint texts apart at odd characters.
    if len(os.fsencode(longest)) > _SOCKET_PATH_LIMIT or not _plain(directory):
        import hashlib

        digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
        # Fixed, not TMPDIR: every command must find the same place whatever its environment.
        directory = f"/tmp/codexd-{uid}/{digest}"
    return Runtime(
        runtime_dir=directory,
        circus_ini_path=os.path.join(directory, "circus.ini"),
        circus_endpoint=f"ipc://{directory}/circus.sock",
        circus_pubsub_endpoint=f"ipc://{directory}/events.sock",
        hub_socket_path=os.path.join(directory, "codexd.sock"),
        lock_path=os.path.join(state_dir, "daemon.lock"),
    )


def _plain(path: str) -> bool:
    return all(char.isascii() and (char.isalnum() or char in "/._-+@=,") for char in path)


def _policy(values: Mapping[str, Any], cwd: str) -> Policy:
    chosen = {name: values[name] for name in Policy.__struct_fields__}
    for name in filter(_is_path, chosen):
        chosen[name] = chosen[name] and absolute(chosen[name], cwd)
    if chosen["restart"] is None:
        chosen["restart"] = "on-failure" if values["mode"] == "exec" else "always"
    return Policy(**chosen)
