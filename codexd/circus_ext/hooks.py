"""What circus loads into circusd by name: the hook that makes its watcher ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from circus import logger
from circus.exc import ConflictError
from circus.sighandler import SysHandler
from circus.watcher import Watcher

from codexd.child import family
from codexd.child.command import Program, check_cwd, find_program
from codexd.child.control import ChildControl
from codexd.child.inheritance import child_environment, child_files
from codexd.circus_ext import commands as commands  # registers them with circus
from codexd.circus_ext.arbiter import prepare, read_settings, wrap
from codexd.circus_ext.rebind import keep_runtime
from codexd.circus_ext.watcher import AppServerWatcher
from codexd.config import Config
from codexd.link.endpoint import child_arguments
from codexd.platform import signals
from codexd.platform.parent import adopt_orphans
from codexd.store.identity import ensure_identity

# How soon to try again what another circus command holds up.
_CONFLICT_RETRY_S = 0.02
# The same where the system refused something.
_TROUBLE_RETRY_S = 0.5


def before_start(watcher: Any, arbiter: Any, **_: Any) -> bool:
    """Circus's before_start hook; returning False keeps the watcher from starting."""
    if isinstance(watcher, AppServerWatcher):
        return True
    config = read_settings(arbiter.config_file)
    if config is None or not prepare(config):
        return False
    try:
        adopt(watcher, config)
    except OSError as error:
        logger.error("%s", error)
        return False
    attend(arbiter, config, watcher.look_after)
    return True


def attend(arbiter: Any, config: Config, look_after: Callable[[], None]) -> None:
    """What circus itself lacks as long as it runs, whatever it watches."""
    wake_on_child_death(arbiter)
    stop_on_signals(arbiter)
    keep_runtime(arbiter, config, look_after)


wrap(attend)


def adopt(watcher: Watcher, config: Config) -> None:
    """Turn circus's watcher into ours, set up for ``config``.

    Raises:
        OSError: the identity cannot be read or made.
    """
    identity = ensure_identity(config)
    configured_cmd = watcher.cmd
    watcher.__class__ = AppServerWatcher
    watcher.configured_cmd = configured_cmd
    watcher.configured_command = config.server.child_command
    watcher.configured_program = lambda: _program(config, watcher.env)
    watcher.configured_args = child_arguments(config.server)
    watcher.stdin_is_null = config.server.mode == "exec"
    watcher.drains = config.server.mode == "app-server"
    watcher.working_dir = config.server.child_cwd
    watcher.env = child_environment(os.environ, identity.daemon_id, config.server.endpoint)
    watcher.files = child_files(config)
    watcher.family = family.Family(
        family.path_of(config), lambda: _supervised(watcher.arbiter), adopts=adopt_orphans()
    )
    watcher.control = ChildControl(config, watcher.notify_event, watcher.loop.call_later)


def _program(config: Config, environ: dict[str, str]) -> Program:
    check_cwd(config.server)
    return find_program(config.server, environ)


def _supervised(arbiter: Any) -> set[int]:
    """Every process that circus itself started and looks after."""
    return {pid for watcher in arbiter.iter_watchers() for pid in watcher.processes}


def wake_on_child_death(arbiter: Any) -> None:
    """Have circus look at its children the moment one dies, not at its next check."""

    def manage() -> None:
        try:
            future = arbiter.manage_watchers()
        except ConflictError:
            arbiter.loop.call_later(_CONFLICT_RETRY_S, manage)
        else:
            arbiter.loop.add_future(future, looked)

    def looked(done: Any) -> None:
        try:
            done.result()
        except OSError as error:
            # No file descriptor is left, say: that passes.
            logger.error("circus could not look at its children: %s", error)
            arbiter.loop.call_later(_TROUBLE_RETRY_S, manage)

    arbiter.loop.asyncio_loop.add_signal_handler(signal.SIGCHLD, manage)


# The signal that ended the daemon; None while it runs or when a command ended it.
stopped_by: signal.Signals | None = None


def hold_signals() -> None:
    """From now on only note a signal that would end this process, for :func:`stop_on_signals`."""
    # Circus would put its own handlers in place, which lose a signal while watchers start.
    SysHandler.SIGNALS = []
    for signum in signals.ENDING:
        signal.signal(signum, lambda got, _frame: _note(signal.Signals(got)))


def _note(signum: signal.Signals) -> None:
    global stopped_by
    stopped_by = stopped_by or signum


def stop_on_signals(arbiter: Any) -> None:
    """End on SIGTERM, SIGINT, SIGQUIT and SIGHUP, whatever circus is doing at the time."""

    def on_signal(signum: signal.Signals) -> None:
        _note(signum)
        stop(arbiter)

    for signum in signals.ENDING:
        arbiter.loop.asyncio_loop.add_signal_handler(signum, on_signal, signum)
    if stopped_by is not None:
        arbiter.loop.add_callback(stop, arbiter)


def stop(arbiter: Any) -> None:
    """End circus. It refuses while another of its commands runs, so that is tried until it is."""
    if arbiter._stopping:
        return
    for watcher in arbiter.iter_watchers():
        for process in list(watcher.processes.values()):
            # Stopped (SIGSTOP), it would not hear that it shall end.
            process.send_signal(signal.SIGCONT)
    try:
        arbiter.loop.add_future(arbiter.stop(), lambda done: _stopped(arbiter, done))
    except ConflictError:
        arbiter.loop.call_later(_CONFLICT_RETRY_S, stop, arbiter)


def _stopped(arbiter: Any, done: Any) -> None:
    if done.exception() is not None:
        # Whatever went wrong, the daemon ends; what it leaves behind ends with it.
        logger.error("circus could not stop in order", exc_info=done.exception())
        arbiter.loop.stop()
