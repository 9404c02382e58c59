"""Driving a running circusd over its own endpoint."""

from __future__ import annotations

import os
import time
from typing import Any

from codexd.client.errors import DaemonError
from codexd.client.http import ask_hub
from codexd.config import Config, Runtime
from codexd.platform import lock
from codexd.platform.files import require_private_directory
from codexd.platform.process import ProcessId, is_alive
from codexd.settings_ini import PLUGIN_GRACE_S, read_plugin_settings

WATCHER = "codex-app-server"
PLUGIN = "plugin:codexd"
_POLL_S = 0.05
# What circusd answers at once comes soon, unless it is hung.
_ANSWER_S = 5.0
# What circus needs beyond the child's own time to end.
MARGIN_S = 15.0


class UnknownCommand(DaemonError):
    """The circusd that runs is of a codexd that had no such command."""


def settings_of(config: Config) -> Config:
    """The settings that the running daemon itself has; ``config`` where it is too old to tell.

    Raises:
        DaemonError: circusd did not answer.
    """
    try:
        answer = call_circus(config.runtime, "codexd-settings", timeout_s=_ANSWER_S)
    except UnknownCommand:
        return config
    return read_plugin_settings(answer["settings"])


def running_turns(place: Runtime) -> int | None:
    """How many turns run; None where nobody can tell.

    Raises:
        DaemonError: circusd did not answer.
    """
    try:
        turns: int | None = call_circus(place, "codexd-turns", timeout_s=_ANSWER_S)["turns"]
    except UnknownCommand:
        hub = ask_hub(place.hub_socket_path)
        found = None if hub is None else hub.get("runningTurns")
        return found if isinstance(found, int) else None
    return turns


def order_restart(place: Runtime, grace_s: float | None, *, else_s: float) -> None:
    """Have the child end and another start; ``grace_s`` None is the daemon's own stop timeout.

    ``else_s``: what that is where nobody tells.

    Raises:
        DaemonError: circusd did not answer, or could not.
    """
    limit_s = (stop_timeout_s(place, else_s=else_s) if grace_s is None else grace_s) + MARGIN_S
    options = {} if grace_s is None else {"graceful_timeout": grace_s}
    try:
        answer = call_circus(
            place, "codexd-restart", timeout_s=limit_s, name=WATCHER, waiting=True, **options
        )
    except UnknownCommand:
        call_circus(place, "restart", timeout_s=limit_s, name=WATCHER, waiting=True)
        return
    if answer.get("failed"):
        raise DaemonError(f"The server was not restarted: {answer['failed']}")


def order_stop(place: Runtime, grace_s: float | None) -> float | None:
    """Have the daemon end; ``grace_s`` None is its own stop timeout.

    Returns:
        How many seconds the child may take; None where circusd does not know the command, and a
        signal must do.

    Raises:
        DaemonError: circusd did not answer.
    """
    options = {} if grace_s is None else {"graceful_timeout": grace_s}
    try:
        answer = call_circus(place, "codexd-stop", timeout_s=_ANSWER_S, **options)
    except UnknownCommand:
        if grace_s is not None:
            _set_grace(place, grace_s)
        return None
    return float(answer["graceful_timeout"])


def stop_timeout_s(place: Runtime, *, else_s: float) -> float:
    """How long the running daemon gives its child; ``else_s`` where nobody tells."""
    try:
        return _get(place, WATCHER, "graceful_timeout")
    except DaemonError:
        return else_s


def known_commands() -> frozenset[str]:
    """What circusctl can be told."""
    from circus.commands import get_commands

    return frozenset(get_commands())


def _set_grace(place: Runtime, seconds: float) -> None:
    """For a circusd that takes no time with its orders, and is about to end."""
    for name, grace_s in ((WATCHER, seconds), (PLUGIN, seconds + PLUGIN_GRACE_S)):
        options = {"graceful_timeout": grace_s}
        call_circus(place, "set", name=name, timeout_s=_ANSWER_S, options=options)


def _get(place: Runtime, name: str, option: str) -> float:
    answer = call_circus(place, "get", timeout_s=_ANSWER_S, name=name, keys=[option])
    return float(answer["options"][option])


class _Patience:
    """A poller of ZeroMQ's that waits for an answer only while the daemon lives to give it."""

    def __init__(self, poller: Any, daemon: ProcessId | None) -> None:
        self._poller = poller
        self._daemon = daemon

    def poll(self, timeout_ms: float) -> Any:
        """What is there to read, or nothing when the time is over.

        Raises:
            DaemonError: the daemon has ended.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            is_there = self._daemon is None or is_alive(self._daemon)
            # What it said before it ended is still there to read.
            slice_s = min(left_s, _POLL_S) if is_there else 0.0
            events = self._poller.poll(slice_s * 1000)
            if events or not left_s:
                return events
            if not is_there:
                raise DaemonError("codexd ended before it answered.")


def call_circus(
    place: Runtime, command: str, *, timeout_s: float, **properties: object
) -> dict[str, Any]:
    """Send one command and return the answer; ``timeout_s`` is how long circusd may take.

    Raises:
        UnknownCommand: it does not know the command.
        DaemonError: it did not answer, refused, or has ended.
    """
    from circus.client import CircusClient
    from circus.exc import CallError

    _check_place(place)
    client = CircusClient(endpoint=place.circus_endpoint, timeout=timeout_s)
    client.poller = _Patience(client.poller, lock.living_holder(place.lock_path))
    try:
        # Another circus command may be running; it is soon over.
        deadline = time.monotonic() + timeout_s
        while True:
            answer: dict[str, Any] = client.send_message(command, **properties)
            if "already running" not in str(answer.get("reason")) or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
    except CallError as error:
        raise DaemonError(f"circusd did not answer: {error}") from error
    finally:
        client.stop()
    if answer.get("status") == "error":
        reason = str(answer.get("reason"))
        kind = UnknownCommand if reason.startswith("unknown command") else DaemonError
        raise kind(f"circusd refused {command}: {reason}")
    return answer


def _check_place(place: Runtime) -> None:
    """ZeroMQ does not tell who answers: so nobody else may be able to stand there."""
    state_dir = os.path.dirname(place.lock_path)
    try:
        require_private_directory(place.runtime_dir)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        if is_missing and place.runtime_dir.startswith(state_dir):
            # The daemon is about to make it again, and nobody else can.
            return
        where = place.circus_endpoint
        raise DaemonError(f"circusd cannot be asked at {where}: {error.strerror}") from error
