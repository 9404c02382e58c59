"""The circus watcher of the plugin: circus's own, with pauses between tries.

Circus would start a plugin that ends at once again at once, for ever, and one whose Python cannot
be executed (a virtual environment that is being made anew) in a loop in which circusd does nothing
else.
"""

from __future__ import annotations

import time
from typing import Any

from circus import logger
from circus.process import Process
from circus.watcher import Watcher
from tornado import gen

from codexd.child.backoff import Backoff
from codexd.circus_ext import early
from codexd.circus_ext.channel import PLUGIN
from codexd.circus_ext.patient import PatientWatcher
from codexd.circus_ext.spawning import CannotSpawn, told_apart

# Nobody can use the server while there is no plugin, so the longest pause is a short one.
_PAUSE_MS = 500
_LONGEST_PAUSE_MS = 5_000
_RESET_MS = 30_000
# Python and its imports may take this long before a plugin that cannot begin ends.
_BOOT_MS = 4_000


class PluginProcess(Process):  # type: ignore[misc]
    """The plugin's process."""

    def spawn(self) -> None:
        """As circus, but the first one may have been started already.

        Raises:
            CannotSpawn: the process cannot be started.
        """
        begun = early.take(self.format_args(), self.env, self.working_dir)
        if begun is not None:
            self.started = time.time()
            self._worker = begun
            return
        with told_apart():
            super().spawn()


class PluginWatcher(PatientWatcher):
    """Watches one plugin. A plugin that lived for some seconds is followed by another at once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begun = 0.0
        self._backoff = Backoff(_PAUSE_MS, _LONGEST_PAUSE_MS, _RESET_MS)
        self._timer: Any = None
        self._told = ""

    @property
    def _process_class(self) -> type[PluginProcess]:
        return PluginProcess

    def spawn_process(self, recovery_wid: Any = None) -> Any:
        """As circus, but not during a pause, and a failure is followed by one."""
        if self._timer is not None:
            return True
        try:
            return super().spawn_process(recovery_wid)
        except CannotSpawn as error:
            self._rest(0, f"the plugin cannot be started: {error}")
            return True

    def notify_event(self, topic: str, msg: dict[str, Any]) -> None:
        """As circus; the plugin's end is taken from here, before the next one starts."""
        super().notify_event(topic, msg)
        if topic == "spawn":
            self._begun = time.monotonic()
        elif topic == "reap" and not self.is_stopping():
            age_ms = (time.monotonic() - self._begun) * 1000
            self._rest(age_ms, "the plugin ends soon after it was started (see codexd.log)")

    def _rest(self, age_ms: float, reason: str) -> None:
        delay_ms = self._backoff.ended(age_ms=age_ms, well_ms=age_ms - _BOOT_MS)
        if not self._backoff.failures:
            self._told = ""
        elif self._backoff.failures > 1 and reason != self._told:
            self._told = reason
            logger.error("%s; it is tried again until it stays", reason)
        self._timer = self.loop.call_later((delay_ms or 0) / 1000, self._pause_over)

    def _pause_over(self) -> None:
        self._timer = None
        self.wake()

    @gen.coroutine
    def _start(self) -> Any:
        # An operator waits for nothing.
        self._forget()
        yield super()._start()

    @gen.coroutine
    def _stop(self, close_output_streams: bool = False) -> Any:
        self._forget()
        yield super()._stop(close_output_streams)

    def _forget(self) -> None:
        if self._timer is not None:
            self.loop.remove_timeout(self._timer)
            self._timer = None
        self._backoff.forget()


def watch_plugins() -> None:
    """From now on circus makes watchers of this class for codexd's plugin."""
    make = Watcher.load_from_config.__func__

    def load_from_config(cls: type[Watcher], config: dict[str, Any]) -> Watcher:
        return make(PluginWatcher if config.get("name") == PLUGIN else cls, config)

    Watcher.load_from_config = classmethod(load_from_config)
