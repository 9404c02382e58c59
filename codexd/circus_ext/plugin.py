"""The circus plugin: an adapter between circus's plugin runner and :mod:`.keeper`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from circus.plugins import CircusPlugin
from tornado.ioloop import IOLoop

from codexd.circus_ext import early
from codexd.config import Config
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.handler import AppendLogHandler
from codexd.platform import signals
from codexd.platform.files import explain
from codexd.platform.limits import raise_own_limit
from codexd.platform.lock import read_holder
from codexd.platform.parent import end_with_parent, raise_signal_in, watch_parent
from codexd.postpone import postpone
from codexd.records.records import Records, open_records
from codexd.runtime import make_directories
from codexd.settings_ini import read_plugin_settings

if TYPE_CHECKING:
    from codexd.circus_ext.circus_client import CircusClient
    from codexd.keeper.keeper import Keeper

if "circus.arbiter" in sys.modules:
    # This is circusd, seeing that the class is there. The plugin's own process has no arbiter.
    import codexd.circus_ext.hooks  # noqa: F401

logger = logging.getLogger("codexd")

# How long the process that wrote the files before may take to let go of them.
_HANDOVER_S = 30.0
# Before a plugin that cannot start is tried again.
_PAUSE_S = 2.0
_LOG_BYTES = 4 << 20


def fast_loop() -> IOLoop | None:
    """uvloop's event loop, where the extra `fast` is installed: a tenth less for each message."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: IOLoop = IOLoop(asyncio_loop=uvloop.new_event_loop())
    return loop


class CodexdPlugin(CircusPlugin):  # type: ignore[misc]
    """Subscribes to circus's events and keeps the files; see :class:`.keeper.Keeper`."""

    name = "codexd"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        fast = fast_loop()
        if fast is not None:
            self.loop.close()
            self.loop: Any = fast
        self._settings: Config = read_plugin_settings(options)
        self._daemon_pid = 0
        self._stack = ExitStack()
        self._keeper: Keeper | None = None
        self._ending = False

    def _find_daemon(self) -> int:
        """The pid of the circusd that started this process, also if it is dead by now."""
        holder = read_holder(self._settings.runtime.lock_path)
        return os.getppid() if holder is None else holder.pid

    def handle_init(self) -> None:
        """Circus calls this before it connects: from here on this process ends with circusd."""
        if early.is_early():
            _load()
            if not early.wait():
                raise SystemExit
        self._daemon_pid = self._find_daemon()
        # Whatever the starter's is for the server: the plugin makes files of its own only.
        os.umask(0o077)
        raise_own_limit()
        end_with_parent(self._daemon_pid, signal.SIGTERM)
        watch_parent(self._daemon_pid, raise_signal_in(os.getpid()))
        make_directories(self._settings.paths, self._settings.runtime)
        _log_to_file(self._settings.paths.logs_dir)
        loop = self.loop.asyncio_loop
        asyncio.set_event_loop(loop)
        for signum in signals.ENDING:
            loop.add_signal_handler(signum, self._end)
        self.loop.add_callback(self._begin)

    async def _begin(self) -> None:
        try:
            make_client, assemble = _load()
            records = self._stack.enter_context(open_records(self._settings, timeout_s=_HANDOVER_S))
            circus = make_client(self.endpoint)
            self._stack.callback(circus.close)
            keeper = assemble(self._settings, records, circus)
            self._keeper = keeper
            await keeper.start(self._daemon_pid)
        except Exception as error:
            if isinstance(error, OSError):
                # A full disk, say, or a directory that is gone: nothing of it is in our code.
                logger.error("the plugin cannot start: %s", explain(error))
            else:
                logger.exception("the plugin cannot start")
            # Circus starts another the moment this one ends.
            await asyncio.sleep(_PAUSE_S)
            self._end()
        else:
            # What is there by now stays: every later look for garbage goes past it.
            gc.freeze()
        finally:
            gc.enable()

    def handle_recv(self, data: Any) -> None:
        """One message of circus's event stream; a strange one must not end the plugin."""
        if self._keeper is None:
            return
        try:
            watcher, action, message = self.split_data(data)
            self._keeper.circus_event(watcher, action, message)
        except Exception:
            logger.exception("an event of circus could not be taken")

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            self.loop.add_callback(self._finish)

    async def _finish(self) -> None:
        # At shutdown circus stops the plugin beside the child: the child's end comes first.
        try:
            if self._keeper is not None:
                await self._keeper.see_the_child_end(self._daemon_pid)
                await self._keeper.stop()
        except Exception:
            logger.exception("the plugin could not end in order")
        self._leave()

    def _leave(self) -> None:
        self._stack.close()
        self.stop()

    def handle_stop(self) -> None:
        """Circus calls this when the loop ends."""
        self._stack.close()


def _load() -> tuple[type[CircusClient], Callable[[Config, Records, CircusClient], Keeper]]:
    """All of the plugin. circusd looks for its class, too, and need not load more than that."""
    # Nothing that is loaded is garbage, and to look for some takes a tenth of the time.
    gc.disable()
    # websockets would ask it for its own version, if that were not a released one.
    postpone("importlib.metadata")
    from codexd.circus_ext.circus_client import CircusClient
    from codexd.keeper.assembly import assemble

    return CircusClient, assemble


def _log_to_file(logs_dir: str) -> None:
    """Circus sends a plugin's stderr to /dev/null, so codexd's own log is a file."""
    path = os.path.join(logs_dir, "codexd.log")
    handler = AppendLogHandler(AppendLog(path, max_bytes=_LOG_BYTES, backups=2))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    sys.excepthook = _log_exception
    threading.excepthook = lambda args: _log_exception(
        args.exc_type, args.exc_value or SystemError(), args.exc_traceback
    )


def _log_exception(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    logger.critical("unhandled", exc_info=(kind, error, traceback))
