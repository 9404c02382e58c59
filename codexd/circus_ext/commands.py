"""What the plugin tells circusd, as circus commands of our own on circus's own socket.

Circus registers a command when its class is made; the hooks module imports this one before
circus makes its controller.
"""

from __future__ import annotations

from typing import Any

from circus.commands.base import Command
from circus.exc import MessageError

from codexd.circus_ext.watcher import AppServerWatcher


def _watcher(command: Any, arbiter: Any, props: dict[str, Any]) -> AppServerWatcher:
    watcher = command._get_watcher(arbiter, props["name"])
    if not isinstance(watcher, AppServerWatcher):
        raise MessageError(f"{props['name']} is not supervised by codexd")
    return watcher


class Ready(Command):  # type: ignore[misc]
    """\
    Tell that a child answers (codexd)
    ==================================

    Properties: `name` of the watcher, `pid` of the child.
    """

    name = "codexd-ready"
    properties = ("name", "pid")

    def execute(self, arbiter: Any, props: dict[str, Any]) -> None:
        """Note it."""
        _watcher(self, arbiter, props).control.became_ready(props["pid"])


class Replace(Command):  # type: ignore[misc]
    """\
    End an unhealthy child so that a new one starts (codexd)
    ========================================================

    Properties: `name` of the watcher, `pid` of the child, `graceful_timeout` in seconds.
    """

    name = "codexd-replace"
    properties = ("name", "pid", "graceful_timeout")

    def execute(self, arbiter: Any, props: dict[str, Any]) -> Any:
        """End it, SIGTERM first."""
        watcher = _watcher(self, arbiter, props)
        return watcher.replace(props["pid"], props["graceful_timeout"])
