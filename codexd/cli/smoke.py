"""`codexd smoke`: the whole daemon, with a stub for a child."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from codexd.cli.options import CliError, config_options, json_option, run_once_ignored
from codexd.cli.status import status_document, status_line
from codexd.client.live import look
from codexd.config import Config, resolve, setting_texts
from codexd.contracts import SmokeCheck
from codexd.encoding import encode_json
from codexd.platform import lock
from codexd.platform.files import open_to_read, stamp
from codexd.session_id import new_session_id
from codexd.settings import SETTINGS
from codexd.store.snapshot import Snapshot, read_snapshot

# Stays until its session is on record, or ten seconds: the registry and the session are its
# arguments.
_STUB = """
import sys, time
print("codexd smoke ready", flush=True)
print("codexd smoke stderr", file=sys.stderr, flush=True)
registry, session = sys.argv[1:]
for _ in range(400):
    time.sleep(0.025)
    try:
        if session in open(registry).read():
            break
    except OSError:
        pass
print("codexd smoke done", flush=True)
"""


@click.command("smoke")
@run_once_ignored
@json_option
@config_options
def smoke(config: Config, as_json: bool) -> None:
    """Check that codexd works here: run a stub under the real circus, no codex needed."""
    session_id = new_session_id()
    with _place(config, session_id) as place:
        before = _Before(place)
        _run(place, session_id)
        snapshot = read_snapshot(place)
        checks = _checks(place, snapshot, before)
        _report(place, snapshot, checks, as_json)
    if any(check.status != "ok" for check in checks):
        sys.exit(1)


@contextlib.contextmanager
def _place(config: Config, session_id: str) -> Iterator[Config]:
    """Where to run: in the configured directories, or aside while a daemon uses them."""
    holder = lock.living_holder(config.runtime.lock_path)
    if holder is None:
        yield _with_stub(config, session_id, {})
        return
    click.echo(f"codexd: pid {holder.pid} runs here; the smoke test runs aside", err=True)
    with tempfile.TemporaryDirectory(prefix="codexd-smoke-") as directory:
        aside = {"logs_dir": f"{directory}/logs", "state_dir": f"{directory}/state"}
        yield _with_stub(config, session_id, aside)


def _with_stub(config: Config, session_id: str, changes: dict[str, str]) -> Config:
    state_root = changes.get("state_dir", config.paths.state_root_dir)
    registry = f"{state_root}/codexd/session-registry.json"
    texts = {
        **setting_texts(config),
        "server_strategy": "spawn",
        "server_command": sys.executable,
        "server_args": json.dumps(["-c", _STUB, registry, session_id]),
        "server_endpoint": "stdio://embedded-smoke-child",
        "server_cwd": "/",
        "restart": "never",
        # Nobody is to come in.
        "hub_listen": "",
        "hub_default_socket": "false",
        **changes,
    }
    environ = {setting.env[0]: texts[setting.name] for setting in SETTINGS}
    return resolve({}, environ, cwd=config.paths.repo_root)


def _run(config: Config, session_id: str) -> None:
    from codexd.supervisor.daemon import Daemon
    from codexd.supervisor.errors import CannotStart
    from codexd.supervisor.session import NewSession

    daemon = Daemon(config, announce=None)
    session = NewSession(session_id, "smoke", {"source": "embedded-smoke"})
    try:
        daemon.prepare()
        try:
            daemon.run(lifetime_s=config.smoke_lifetime_ms / 1000, session=session)
        finally:
            daemon.finish(close_session=session_id)
    except CannotStart as error:
        raise CliError(str(error)) from error


class _Before:
    """How long the logs were before the run: only what it added proves anything."""

    def __init__(self, config: Config) -> None:
        self._stamps = {path: stamp(path) for path in _logs(config)}

    def added(self, path: str) -> str | None:
        """What the run wrote into a log; None where it is not there."""
        try:
            with open(open_to_read(path), "rb") as file:
                before, now = self._stamps.get(path), os.fstat(file.fileno())
                # Another file, or a shorter one: it was rotated, or set aside for what it was.
                if before and before.inode == now.st_ino and before.size <= now.st_size:
                    file.seek(before.size)
                return file.read().decode("utf-8", "replace")
        except OSError:
            return None


def _logs(config: Config) -> tuple[str, ...]:
    paths = config.paths
    return (paths.structured_event_log_path, paths.stdout_log_path, paths.stderr_log_path)


def _checks(config: Config, snapshot: Snapshot, before: _Before) -> list[SmokeCheck]:
    paths = config.paths
    events = snapshot.recent.events
    sessions = snapshot.sessions.sessions
    log, out, err = _logs(config)
    closed = "session.closed" in (before.added(log) or "") and any(
        entry.purpose == "smoke" and entry.status == "closed" for entry in sessions
    )
    child = snapshot.daemon.child
    ended = child.status == "stopped" and child.exit_code == 0
    cached = bool(events) or config.event_cache_size == 0
    return [
        _log_check("structured_event_log", log, before, "child.exited"),
        _log_check("stdout_log", out, before, "codexd smoke done"),
        _log_check("stderr_log", err, before, "codexd smoke stderr"),
        _check("daemon_state", ended, paths.daemon_state_path),
        _check("recent_event_cache", cached, f"{len(events)} cached events"),
        _check("session_registry", closed, f"{len(sessions)} recorded sessions"),
    ]


def _log_check(name: str, path: str, before: _Before, wanted: str) -> SmokeCheck:
    added = before.added(path)
    if added is None:
        return _check(name, False, f"missing: {path}")
    found = wanted in added
    return _check(name, found, path if found else f"without {wanted}: {path}")


def _check(name: str, ok: bool, detail: str) -> SmokeCheck:
    return SmokeCheck(name=name, status="ok" if ok else "failed", detail=detail)


def _report(config: Config, snapshot: Snapshot, checks: list[SmokeCheck], as_json: bool) -> None:
    live = look(config, snapshot.daemon)
    if as_json:
        document: dict[str, Any] = {
            "checks": checks,
            "snapshot": status_document(snapshot, live),
        }
        click.echo(msgspec.json.format(encode_json(document)))
        return
    identity = snapshot.identity
    click.echo(f"smoke daemon={identity.daemon_id if identity else 'none'}")
    for check in checks:
        click.echo(f"- {check.status} {check.name}: {check.detail}")
    click.echo(status_line(snapshot, live))
