"""Driving a running circusd over its own endpoint."""

from __future__ import annotations

import time

from codexd.client.errors import DaemonError
from codexd.config import Config
from codexd.settings_ini import PLUGIN_GRACE_S

WATCHER = "codex-app-server"
PLUGIN = "plugin:codexd"
_POLL_S = 0.05
_MARGIN_S = 15.0


def set_grace(config: Config, seconds: float) -> None:
    """How long the child, and the plugin beyond it, may take to end.

    Raises:
        DaemonError: circusd did not take it.
    """
    if config.server.child_strategy == "external":
        return
    for name, grace_s in ((WATCHER, seconds), (PLUGIN, seconds + PLUGIN_GRACE_S)):
        options = {"graceful_timeout": grace_s}
        call_circus(config, "set", name=name, timeout_s=_MARGIN_S, options=options)


def call_circus(config: Config, command: str, *, timeout_s: float, **properties: object) -> None:
    """Send one command; ``timeout_s`` is how long circusd may take.

    Raises:
        DaemonError: it did not answer, or refused.
    """
    from circus.client import CircusClient
    from circus.exc import CallError

    client = CircusClient(endpoint=config.runtime.circus_endpoint, timeout=timeout_s)
    try:
        # Another circus command may be running; it is soon over.
        deadline = time.monotonic() + timeout_s
        while True:
            answer = client.send_message(command, **properties)
            if "already running" not in str(answer.get("reason")) or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
    except CallError as error:
        raise DaemonError(f"circusd did not answer: {error}") from error
    finally:
        client.stop()
    if answer.get("status") == "error":
        raise DaemonError(f"circusd refused {command}: {answer.get('reason')}")
