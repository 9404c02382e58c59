"""Whether the daemon has a server that can be asked now."""

from __future__ import annotations

import time
from typing import Any, Final

from codexd.cli.nouns import runs
from codexd.cli.options import CliError
from codexd.client.errors import DaemonAway
from codexd.client.sync import Client
from codexd.config import Config

# A server that is being restarted is back by then.
_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.2


def why_not_ready(status: dict[str, Any]) -> str | None:
    """Why the server cannot take a request now; None where it can."""
    hub, daemon = status.get("hub"), status.get("daemon")
    if not isinstance(hub, dict) or hub.get("ready"):
        return None
    child = daemon.get("child") if isinstance(daemon, dict) else None
    if not isinstance(child, dict):
        return "it is not ready."
    word, error = child.get("status"), child.get("lastError")
    if word == "external":
        return f"it does not answer on {child.get('endpoint')}."
    if error:
        end = "" if str(error).endswith((".", "!", "?", "…")) else "."
        return f"it is {word}: {error}{end}"
    return "it does not answer yet." if word == "running" else f"it is {word}."


def why_no_app_server(config: Config) -> str | None:
    """Why the daemon's child is never asked anything; None where it may be."""
    if config.server.mode == "app-server":
        return None
    return f"The daemon of {config.paths.state_dir} runs no app-server: --mode exec."


def why_no_server(client: Client, config: Config) -> str | None:
    """Why a turn cannot be run on the server, also after a while; None where it can."""
    reason = why_no_app_server(config)
    if reason is not None:
        return reason
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            reason = why_not_ready(client.status())
            text = None if reason is None else f"The server does not come: {reason}"
        except DaemonAway as error:
            # It has its plugin back within about a second.
            text = str(error)
            if not runs(config):
                return text
        if text is None or time.monotonic() >= deadline:
            return text
        time.sleep(_POLL_S)


def require_server(client: Client, config: Config) -> None:
    """See that the server can be asked: the daemon would wait for one that is away.

    Raises:
        CliError: it cannot.
    """
    reason = why_no_server(client, config)
    if reason is not None:
        raise CliError(reason)
