"""`codexd app-server daemon VERB`: what each verb of the vendor's means for codexd.

The JSON, its order and the exit codes are those of codex 0.163 and 0.169 (measured); what they
say on stderr is for people, and ours is one line.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from codexd import __version__
from codexd.child import steps
from codexd.child.command import CommandNotFound, find_executable
from codexd.cli.attach import daemon_runs
from codexd.cli.codex import real_codex, version_of
from codexd.cli.options import BadValue, CliError
from codexd.client.live import Live, look
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.encoding import encode_json
from codexd.link.endpoint import BadEndpoint, default_control_socket, parse_endpoint
from codexd.platform import lock
from codexd.platform.process import ProcessId, is_alive
from codexd.store.snapshot import read_snapshot

_PATIENCE_S = 1.0
# A server that is not asked to give up remote control has one of the other states.
_REMOTE_OFF = "disabled"


def run_verb(config: Config, words: list[str]) -> None:
    """Do what `codex app-server daemon` is told with ``words``."""
    _daemon.main(
        args=words, prog_name="codexd app-server daemon", standalone_mode=False, obj=config
    )


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """codex's own overrides: the vendor's daemon takes them, and they are without effect there."""
    for names in (("-c", "--config"), ("--enable",), ("--disable",)):
        command = click.option(*names, multiple=True, expose_value=False, hidden=True)(command)
    return click.pass_obj(command)


@click.group("daemon", no_args_is_help=False)
@_common
def _daemon(_config: Config) -> None:
    """Drive the daemon, and answer as the vendor's does."""


@_daemon.command()
@_common
def version(config: Config) -> None:
    """Tell the versions of codex here and of the server."""
    facts = _look(config)
    if facts is None:
        path = _control_socket()
        raise CliError(f"failed to connect to {path}: codexd is not running.")
    facts.require_ready()
    _print({"status": "running", "backend": "pid", **facts.server, **facts.running})


@_daemon.command()
@_common
def start(config: Config) -> None:
    """Start codexd, on the vendor's control socket too, unless it runs."""
    pid, facts = _ensure(config)
    state = {"status": "alreadyRunning"} if pid is None else {"status": "started"}
    own = {"backend": "pid"} if pid is None else {"backend": "pid", "pid": pid}
    if facts.server["socketPath"] != _control_socket():
        # A tool that looks for it there does not find it.
        click.echo(
            f"codexd: it is not on {_control_socket()}, but on {facts.server['socketPath']}: for "
            "the other, start it with --hub-default-socket true.",
            err=True,
        )
    _print({**state, **own, **facts.server, **facts.running})


@_daemon.command()
@_common
def restart(config: Config) -> None:
    """Start the server anew; without a daemon, start one."""
    from codexd.cli.restart import restart_server

    if _living(config) is None:
        facts = _ensure(config)[1]
    else:
        restart_server(config)
        facts = _require(config)
    own = {"status": "restarted", "backend": "pid", "pid": facts.daemon.pid}
    _print({**own, **facts.server, **facts.running})


@_daemon.command()
@_common
def stop(config: Config) -> None:
    """Stop the daemon and its server."""
    from codexd.cli.stop import end_daemon

    facts, daemon = _look(config), _living(config)
    if facts is None or daemon is None:
        _print({"status": "notRunning", **_idle_server(config)})
        return
    end_daemon(config, daemon)
    _print({"status": "stopped", "backend": "pid", **facts.server})


@_daemon.command()
@click.option("--remote-control", is_flag=True)
@_common
def bootstrap(config: Config, remote_control: bool) -> None:
    """See that codexd runs, with remote control where that is asked for."""
    _, facts = _ensure(config)
    told = facts.hub.get("remoteControl")
    is_on = told is not None and told != _REMOTE_OFF
    if remote_control:
        _, is_on = _set_remote(facts.config, is_on=True)
    click.echo(
        "codexd: to have it come back with the machine, install it as a service: "
        "codexd service install",
        err=True,
    )
    state = {"autoUpdateEnabled": False, "remoteControlEnabled": is_on}
    _print({"status": "bootstrapped", "backend": "pid", **state, **facts.server, **facts.running})


@_daemon.command("enable-remote-control")
@_common
def enable_remote_control(config: Config) -> None:
    """Have the server take remote control."""
    _remote(config, is_on=True)


@_daemon.command("disable-remote-control")
@_common
def disable_remote_control(config: Config) -> None:
    """Have the server take no remote control."""
    _remote(config, is_on=False)


@_daemon.command()
@click.option("--from-cli", is_flag=True)
@click.option("-y", "--yes", is_flag=True)
@_common
def update(config: Config, from_cli: bool, yes: bool) -> None:
    """Refused: codexd installs no codex."""
    del config, from_cli, yes
    raise CliError(
        "codexd installs no codex: update it as you have installed it; "
        "`codexd restart --when-idle` then takes it."
    )


# -- what there is --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Facts:
    """A daemon that runs: its own configuration, and what the vendor's JSON tells of one."""

    config: Config
    daemon: ProcessId
    live: Live
    server: dict[str, Any]

    @property
    def running(self) -> dict[str, Any]:
        """What is told of a server that answers. Its version it tells once somebody uses it."""
        told = self.hub.get("serverVersion")
        if told is None and not self.live.details["binaryChanged"]:
            told = self.server["managedCodexVersion"]
        return {"appServerVersion": told}

    @property
    def hub(self) -> dict[str, Any]:
        """What the hub tells of itself; empty where it does not answer."""
        return self.live.details["hub"] or {}

    def require_ready(self) -> None:
        """Raises CliError: the server does not answer."""
        if not self.hub.get("ready"):
            child = self.live.daemon.child
            remark = child.last_error or f"it is {child.status}."
            raise CliError(f"codexd runs, and its server is not ready: {remark}")

    def wait_until_ready(self) -> None:
        """Raises CliError: it does not become ready."""
        from codexd.supervisor.readiness import wait_for_process

        if self.hub.get("ready"):
            return
        outcome = wait_for_process(self.config, self.daemon.pid, lambda: not is_alive(self.daemon))
        if outcome is None or outcome.kind == "failed":
            raise CliError(f"The server is not ready: {outcome.reason if outcome else 'it ended'}")


def _living(config: Config) -> ProcessId | None:
    check_owner(config.paths, config.runtime)
    return lock.living_holder(config.runtime.lock_path)


def _look(config: Config) -> _Facts | None:
    """None where no daemon runs."""
    daemon = _living(config)
    if daemon is None:
        return None
    live = look(config, read_snapshot(config).daemon, patience_s=_PATIENCE_S)
    executable = steps.load(steps.path_of(config.paths.state_dir)).executable
    program = executable[0] if executable else _program(live.config)
    socket_path = live.config.runtime.hub_socket_path
    hub = live.details["hub"] or {}
    if live.config.policy.hub_default_socket and not hub.get("unservedSockets"):
        socket_path = _control_socket()
    return _Facts(live.config, daemon, live, _server(program, socket_path))


def _require(config: Config) -> _Facts:
    facts = _look(config)
    if facts is None:
        raise CliError("codexd has ended.")
    return facts


def _idle_server(config: Config) -> dict[str, Any]:
    return _server(_program(config), _control_socket())


def _server(program: str, socket_path: str) -> dict[str, Any]:
    return {
        "managedCodexPath": program,
        "managedCodexVersion": version_of(program),
        "socketPath": socket_path,
        "cliVersion": _cli_version(),
    }


def _program(config: Config) -> str:
    """What would be started as the server; as it was configured where there is no such program."""
    try:
        return find_executable(config.server, os.environ)
    except CommandNotFound:
        return config.server.child_command


def _cli_version() -> str:
    try:
        return version_of(real_codex()) or __version__
    except CommandNotFound:
        return __version__


def _control_socket() -> str:
    """Where tools look for the vendor's daemon, and for ours when a verb has started it."""
    return default_control_socket(os.environ)


def _print(document: dict[str, Any]) -> None:
    click.echo(encode_json(document))


# -- what is done ---------------------------------------------------------------------------------


def _ensure(config: Config) -> tuple[int | None, _Facts]:
    """See that a daemon runs and its server is ready; its pid, where it was started here."""
    pid = None
    if _living(config) is None:
        try:
            pid = _start(config)
        except CliError:
            # Somebody else may have started one in the same moment.
            if _living(config) is None:
                raise
    facts = _require(config)
    facts.wait_until_ready()
    return pid, facts


def _start(config: Config) -> int:
    """Start the daemon as the vendor's is: detached, and where a plain `codex` finds it."""
    from codexd.cli.start import start_detached, tell_whose_place_it_is

    tell_whose_place_it_is(config)
    server = config.server
    try:
        endpoint = parse_endpoint(server.endpoint, os.environ, cwd=server.child_cwd)
    except BadEndpoint as error:
        raise BadValue(str(error)) from error
    # There the server itself may be: then a plain `codex` finds that.
    if endpoint.path != _control_socket():
        policy = msgspec.structs.replace(config.policy, hub_default_socket=True)
        config = msgspec.structs.replace(config, policy=policy)
    return start_detached(config)


def _remote(config: Config, *, is_on: bool) -> None:
    facts = _look(config)
    if facts is None:
        verb = "enabled" if is_on else "disabled"
        raise CliError(
            f"codexd is not running, and remote control is {verb} in the server: start it first."
        )
    facts.require_ready()
    changed, is_on = _set_remote(facts.config, is_on=is_on)
    word = "enabled" if is_on else "disabled"
    status = word if changed else f"already{word.capitalize()}"
    server = {key: facts.server[key] for key in ("socketPath", "cliVersion")}
    state = {"remoteControlEnabled": is_on}
    _print({"status": status, "backend": "pid", **state, **server, **facts.running})


def change_remote(call: Callable[[str], Any], *, is_on: bool) -> tuple[bool, bool]:
    """Turn remote control on or off by ``call(method)``: whether that changed anything, and how
    it is now.

    Raises:
        CliError: the server does not tell.
    """
    if _has_remote(call("remoteControl/status/read")) == is_on:
        return False, is_on
    return True, _has_remote(call("remoteControl/enable" if is_on else "remoteControl/disable"))


def _has_remote(answer: Any) -> bool:
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, str):
        raise CliError("The server does not tell how its remote control stands.")
    return status != _REMOTE_OFF


def _set_remote(config: Config, *, is_on: bool) -> tuple[bool, bool]:
    changed: tuple[bool, bool] = _ask(config, lambda call: change_remote(call, is_on=is_on))
    return changed


def _ask(config: Config, question: Callable[[Callable[[str], Any]], Any]) -> Any:
    from codexd.client.caller import HubCaller, Refused
    from codexd.client.hub_wire import BridgeError, HubConnector

    runs = functools.partial(daemon_runs, config)
    try:
        caller = HubCaller(HubConnector(config.runtime.hub_socket_path, runs))
        with contextlib.closing(caller):
            return question(lambda method: caller.call(method, {}))
    except Refused as error:
        raise CliError(f"The server refuses it: {error}.") from error
    except BridgeError as error:
        raise CliError(str(error)) from error
