"""`codexd smoke`: the whole daemon, with a stub for a child."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from codexd.cli.options import CliError, config_options, json_option
from codexd.cli.status import status_document, status_line
from codexd.config import Config, resolve, setting_texts
from codexd.contracts import SmokeCheck
from codexd.live import look
from codexd.platform import lock
from codexd.settings import SETTINGS
from codexd.store.snapshot import Snapshot, read_snapshot

_STUB = """
import sys, time
print("codexd smoke ready", flush=True)
print("codexd smoke stderr", file=sys.stderr, flush=True)
time.sleep(0.025)
print("codexd smoke done", flush=True)
"""


@click.command("smoke")
@json_option
@config_options
def smoke(config: Config, as_json: bool) -> None:
    """Check that codexd works here: run a stub under the real circus, no codex needed."""
    with _place(config) as place:
        _run(place)
        snapshot = read_snapshot(place)
        checks = _checks(place, snapshot)
        _report(place, snapshot, checks, as_json)
    if any(check.status != "ok" for check in checks):
        sys.exit(1)


@contextlib.contextmanager
def _place(config: Config) -> Iterator[Config]:
    """Where to run: in the configured directories, or aside while a daemon uses them."""
    holder = lock.living_holder(config.runtime.lock_path)
    if holder is None:
        yield _with_stub(config, {})
        return
    click.echo(f"codexd: pid {holder.pid} runs here; the smoke test runs aside", err=True)
    with tempfile.TemporaryDirectory(prefix="codexd-smoke-") as directory:
        yield _with_stub(
            config, {"logs_dir": f"{directory}/logs", "state_dir": f"{directory}/state"}
        )


def _with_stub(config: Config, changes: dict[str, str]) -> Config:
    texts = {
        **setting_texts(config),
        "server_strategy": "spawn",
        "server_command": sys.executable,
        "server_args": msgspec.json.encode(["-c", _STUB]).decode(),
        "server_endpoint": "stdio://embedded-smoke-child",
        "server_cwd": "/",
        "restart": "never",
        **changes,
    }
    environ = {setting.env[0]: texts[setting.name] for setting in SETTINGS}
    return resolve({}, environ, cwd=config.paths.repo_root)


def _run(config: Config) -> None:
    from codexd.supervisor.daemon import Daemon
    from codexd.supervisor.errors import CannotStart

    daemon = Daemon(config, announce=None)
    try:
        daemon.prepare()
        session_id = daemon.open_session("smoke", {"source": "embedded-smoke"})
        try:
            daemon.run(lifetime_s=config.smoke_lifetime_ms / 1000)
        finally:
            daemon.finish(close_session=session_id)
    except CannotStart as error:
        raise CliError(str(error)) from error


def _checks(config: Config, snapshot: Snapshot) -> list[SmokeCheck]:
    paths = config.paths
    events = snapshot.recent.events
    sessions = snapshot.sessions.sessions
    closed = any(entry.purpose == "smoke" and entry.status == "closed" for entry in sessions)
    return [
        _file_check("structured_event_log", paths.structured_event_log_path, "child.exited"),
        _file_check("stdout_log", paths.stdout_log_path, "codexd smoke done"),
        _file_check("stderr_log", paths.stderr_log_path, "codexd smoke stderr"),
        _file_check("daemon_state", paths.daemon_state_path, '"stopped"'),
        _check("recent_event_cache", bool(events), f"{len(events)} cached events"),
        _check("session_registry", closed, f"{len(sessions)} recorded sessions"),
    ]


def _file_check(name: str, path: str, wanted: str) -> SmokeCheck:
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError:
        return _check(name, False, f"missing: {path}")
    found = wanted in text
    return _check(name, found, path if found else f"without {wanted}: {path}")


def _check(name: str, ok: bool, detail: str) -> SmokeCheck:
    return SmokeCheck(name=name, status="ok" if ok else "failed", detail=detail)


def _report(config: Config, snapshot: Snapshot, checks: list[SmokeCheck], as_json: bool) -> None:
    live = look(config, snapshot.daemon)
    if as_json:
        document: dict[str, Any] = {
            "checks": checks,
            "snapshot": status_document(config, snapshot, live),
        }
        click.echo(msgspec.json.format(msgspec.json.encode(document)))
        return
    identity = snapshot.identity
    click.echo(f"smoke daemon={identity.daemon_id if identity else 'none'}")
    for check in checks:
        click.echo(f"- {check.status} {check.name}: {check.detail}")
    click.echo(status_line(config, snapshot, live))
