"""`codex exec` in place of a server that cannot be had."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Final

from codexd.config import Config

_END_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ExecOrder:
    """What `codex exec` is told."""

    prompt: str
    cwd: str
    thread_id: str | None
    model: str | None
    as_json: bool
    schema_file: str | None


def exec_command(codex: str, order: ExecOrder) -> list[str]:
    """Its command line; the prompt is read from stdin."""
    command = [codex, "exec", "--skip-git-repo-check", "-C", order.cwd]
    if order.model is not None:
        command += ["-m", order.model]
    if order.as_json:
        command.append("--json")
    if order.schema_file is not None:
        command += ["--output-schema", order.schema_file]
    if order.thread_id is not None:
        command += ["resume", order.thread_id]
    return [*command, "-"]


def run_exec(config: Config, order: ExecOrder, timeout_s: float | None) -> int:
    """Run it to its end; the exit code that `codexd run` has for it.

    Raises:
        codexd.child.command.CommandNotFound: there is no codex.
        OSError: it cannot be run.
    """
    from codexd.child.command import locate

    named = config.server.child_command
    command = named if os.path.basename(named).startswith("codex") else "codex"
    codex = locate(command, cwd=config.server.child_cwd, environ=os.environ)
    process = subprocess.Popen(
        exec_command(codex, order), stdin=subprocess.PIPE, env=_environment(config)
    )
    # Ctrl-C reaches it as well, and it is the one to end of that.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminated = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    try:
        try:
            process.communicate(order.prompt.encode("utf-8", "replace"), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return 4
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminated)
        if process.poll() is None:
            _end(process)
    if process.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
        return 4
    return 0 if process.returncode == 0 else 1


def _environment(config: Config) -> dict[str, str]:
    """The login and the threads are those of the daemon, where one runs."""
    from codexd.daemons.listing import running

    for daemon in running(os.environ):
        if daemon.state_dir == config.paths.state_dir and daemon.codex_home is not None:
            return {**os.environ, "CODEX_HOME": daemon.codex_home}
    return dict(os.environ)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
        return
    process.kill()
    process.wait()
