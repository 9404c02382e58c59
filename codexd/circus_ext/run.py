"""circusd in this process, for a daemon that knows nothing of circus."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable
from typing import Any

from circus.arbiter import Arbiter
from circus.util import configure_logger

from codexd.child.told import Told
from codexd.circus_ext import hooks
from codexd.keeper.circusd import WATCHER


class RunningCircus:
    """One arbiter while it runs."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter

    @property
    def is_over(self) -> bool:
        """Whether it ends."""
        return bool(self._arbiter.codexd.is_over)

    @property
    def told(self) -> Told:
        """What the plugin has told."""
        told: Told = self._arbiter.codexd.told
        return told

    def spawn(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call ``function``, which may be a coroutine function, in the loop."""
        self._arbiter.loop.add_callback(function, *arguments)

    def publish(self, topic: str, message: dict[str, Any]) -> None:
        """Send a message on circus's event stream, as one of the child's watcher."""
        self._arbiter.get_watcher(WATCHER).notify_event(topic, message)

    def stop(self) -> None:
        """End it in order."""
        hooks.stop(self._arbiter)


def run_circus(ini_path: str, begin: Callable[[RunningCircus], None]) -> bool:
    """Run one arbiter until it ends; True if an operator asked circus to restart it.

    ``begin`` is called before it starts.
    """
    arbiter = _load(ini_path)
    configure_logger(logging.getLogger(), "WARNING", "-")
    hooks.stop_on_signals(arbiter)
    begin(RunningCircus(arbiter))
    # What is loaded by now stays: every later look for garbage goes past it.
    gc.freeze()
    gc.enable()
    arbiter.start().result()
    return bool(arbiter._restarting) and not arbiter.codexd.is_ending


def _load(ini_path: str) -> Any:
    # Circus asks the DNS for this machine's full name, and does nothing with it: where no server
    # answers, that takes many seconds.
    look_up = socket.getfqdn
    socket.getfqdn = lambda name="": name or socket.gethostname()
    try:
        return Arbiter.load_from_config(ini_path)
    finally:
        socket.getfqdn = look_up
