"""What circus loads into circusd by name: the hook that makes its watcher ours."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from typing import Any

from circus import logger
from circus.exc import ConflictError
from circus.sighandler import SysHandler
from circus.watcher import Watcher

from codexd.child import family, steps
from codexd.child.backoff import Backoff
from codexd.child.beside import SocketBeside
from codexd.child.command import Program, check_cwd, find_program
from codexd.child.control import ChildControl, machine_for
from codexd.child.inheritance import child_environment, child_files
from codexd.child.ledger import Ledger
from codexd.child.pipes import PipeRack
from codexd.child.spare import SpareMachine
from codexd.circus_ext import commands as commands  # registers them with circus
from codexd.circus_ext.arbiter import manage, prepare, read_settings, wrap
from codexd.circus_ext.channel import Channel, say
from codexd.circus_ext.plugin_watcher import watch_plugins
from codexd.circus_ext.rebind import keeper_of_runtime
from codexd.circus_ext.spare_watcher import SpareWatcher
from codexd.circus_ext.watcher import AppServerWatcher
from codexd.config import Config, Paths, Runtime, Server
from codexd.link.endpoint import arguments_at, child_arguments, parse_endpoint
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
        adopt(watcher, config, arbiter.codexd)
    except OSError as error:
        logger.error("%s", error)
        return False
    attend(arbiter, config.paths, config.runtime, watcher)
    # Circus is in its own start by now, which does not say so.
    watcher.control.start()
    return True


def attend(
    arbiter: Any, paths: Paths, place: Runtime, watcher: AppServerWatcher | None = None
) -> None:
    """What circus itself lacks as long as it runs, whatever it watches."""
    wake_on_child_death(arbiter)
    stop_on_signals(arbiter)
    look_after = _nothing if watcher is None else watcher.look_after
    look = keeper_of_runtime(arbiter, paths, place, look_after)
    is_alone = _always if watcher is None else watcher.is_alone
    directories = (paths.state_dir, paths.logs_dir, place.runtime_dir)
    arbiter.codexd.begin(look, is_alone, directories)


def _nothing() -> None:
    """No child is ours to look after."""


def _always() -> bool:
    return True


wrap(attend)
watch_plugins()


def adopt(watcher: Watcher, config: Config, channel: Channel) -> None:
    """Turn circus's watcher into ours, set up for ``config``.

    Raises:
        OSError: the identity cannot be read or made.
    """
    daemon_id = ensure_identity(config).daemon_id
    watcher.__class__ = AppServerWatcher
    _furnish(watcher, config.server, config.policy.child_nofile, daemon_id, channel)
    watcher.drains = config.server.mode == "app-server"
    watcher.family = family.Family(
        family.path_of(config.runtime.runtime_dir),
        lambda: _supervised(watcher.arbiter),
        adopts=adopt_orphans(),
    )
    ledger, rack = _kept(steps.path_of(config.paths.state_dir), config.runtime.runtime_dir)
    ledger.attach(watcher.notify_event, watcher.loop.call_later)
    machine = machine_for(config.server, config.policy, time.monotonic)
    watcher.control = ChildControl(machine, ledger, rack, watcher.loop.call_later, watcher.wake)


def _furnish(watcher: Any, server: Server, nofile: int, daemon_id: str, channel: Channel) -> None:
    """What a server is started with, whether it is the child or a spare."""
    watcher.configured_cmd = watcher.cmd
    watcher.configured_command = server.child_command
    watcher.configured_program = lambda: _program(server, watcher.env)
    watcher.configured_args = child_arguments(server)
    watcher.stdin_is_null = server.mode == "exec"
    watcher.channel = channel
    watcher.working_dir = server.child_cwd
    watcher.env = child_environment(os.environ, daemon_id, server.endpoint)
    watcher.files = child_files(nofile)


def before_spare_start(watcher: Any, arbiter: Any, **_: Any) -> bool:
    """Circus's before_start hook of the spare's watcher."""
    if isinstance(watcher, SpareWatcher):
        return True
    config = read_settings(arbiter.config_file)
    if config is None or not prepare(config):
        return False
    try:
        adopt_spare(watcher, config, arbiter.codexd)
    except OSError as error:
        logger.error("%s", error)
        return False
    return True


def adopt_spare(watcher: Watcher, config: Config, channel: Channel) -> None:
    """Turn circus's watcher into that of a spare.

    Raises:
        OSError: the identity cannot be read or made.
    """
    policy, runtime_dir = config.policy, config.runtime.runtime_dir
    daemon_id = ensure_identity(config).daemon_id
    watcher.__class__ = SpareWatcher
    _furnish(watcher, config.server, policy.child_nofile, daemon_id, channel)
    watcher.runtime_dir = runtime_dir
    watcher.beside = _beside(config.server.endpoint, config.server.child_cwd, runtime_dir)
    watcher.args_at = functools.partial(arguments_at, config.server)
    watcher.max_age_s = policy.spare_max_age_ms / 1000
    watcher.ready_timeout_s = policy.ready_timeout_ms / 1000
    watcher.family = family.Family(
        family.spare_path_of(runtime_dir), lambda: _supervised(watcher.arbiter), adopts=False
    )
    watcher.ledger, _ = _kept(steps.path_of(config.paths.state_dir), runtime_dir)
    backoff = Backoff(
        policy.restart_backoff_ms, policy.restart_backoff_max_ms, policy.restart_reset_ms
    )
    watcher.machine = SpareMachine(backoff, time.monotonic)


@functools.cache
def _kept(path: str, runtime_dir: str) -> tuple[Ledger, PipeRack]:
    """What outlives a watcher: circus makes it anew (`circusctl reloadconfig`) in one daemon."""
    return Ledger(path), PipeRack(runtime_dir)


@functools.cache
def _beside(url: str, cwd: str, runtime_dir: str) -> SocketBeside | None:
    """Kept as long, for the same reason."""
    endpoint = parse_endpoint(url, os.environ, cwd=cwd)
    return SocketBeside(endpoint.path, runtime_dir) if endpoint.kind == "unix" else None


def _program(server: Server, environ: dict[str, str]) -> Program:
    check_cwd(server)
    return find_program(server, environ)


def _supervised(arbiter: Any) -> set[int]:
    """Every process that circus itself started and looks after."""
    return {pid for watcher in arbiter.iter_watchers() for pid in watcher.processes}


def wake_on_child_death(arbiter: Any) -> None:
    """Have circus look at its children the moment one dies, not at its next check."""
    is_set = False

    def later(seconds: float) -> None:
        nonlocal is_set
        if not is_set:
            is_set = True
            arbiter.loop.call_later(seconds, look)

    def look() -> None:
        nonlocal is_set
        is_set = False
        try:
            future = manage(arbiter)
        except ConflictError:
            later(_CONFLICT_RETRY_S)
        else:
            arbiter.loop.add_future(future, looked)

    def looked(done: Any) -> None:
        try:
            done.result()
        except OSError as error:
            # No file descriptor is left, say: that passes.
            logger.error("circus could not look at its children: %s", error)
            later(_TROUBLE_RETRY_S)

    arbiter.loop.asyncio_loop.add_signal_handler(signal.SIGCHLD, look)


# The signal that ended the daemon; None while it runs or when a command ended it.
stopped_by: signal.Signals | None = None

# What a person or a manager sends a second time, to say that it shall not wait.
_CUTTING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# A manager may signal a process and its group: so soon after the first it is no second word.
_SAME_WORD_S = 0.3

_arbiter: Any = None
_noted_at = 0.0


def hold_signals() -> None:
    """From now on a signal that would end this process ends the arbiter there is, or will be.

    The handlers stay for as long as the process does: it ends in its own way, not by a signal.
    """
    # Circus would put its own handlers in place, which lose a signal while watchers start.
    SysHandler.SIGNALS = []
    for signum in signals.ENDING:
        signal.signal(signum, lambda got, _frame: _received(signal.Signals(got)))


def ignore_signals() -> None:
    """Everything is done: until the process is gone, no signal changes how it ends."""
    for signum in signals.ENDING:
        signal.signal(signum, signal.SIG_IGN)


def _received(signum: signal.Signals) -> None:
    # Python runs this between two instructions of whatever runs: only the loop may act on it.
    if _arbiter is None:
        _note(signum)
        return
    with contextlib.suppress(RuntimeError):
        # The loop is closed: all that is left to do is being done.
        _arbiter.loop.asyncio_loop.call_soon_threadsafe(_act_on, _arbiter, signum)


def _note(signum: signal.Signals) -> bool:
    """Whether it is the first one."""
    global stopped_by, _noted_at
    if stopped_by is not None:
        return False
    stopped_by, _noted_at = signum, time.monotonic()
    return True


def _act_on(arbiter: Any, signum: signal.Signals) -> None:
    # One that begins anew as a whole (`circusctl restart`) does not end by that.
    was_ending = arbiter.codexd.is_over and not arbiter._restarting
    is_first = _note(signum)
    if is_first and not was_ending:
        stop(arbiter)
    elif signum in _CUTTING and _is_second_word(signum, is_first=is_first):
        say(f"{signum.name}: what still runs is cut")
        arbiter.codexd.hurry()


def _is_second_word(signum: signal.Signals, *, is_first: bool) -> bool:
    # After `codexd stop` a person at the terminal, who was told so, cuts with the first Ctrl-C.
    if is_first:
        return signum is signal.SIGINT
    return time.monotonic() - _noted_at > _SAME_WORD_S


def stop_on_signals(arbiter: Any) -> None:
    """End on SIGTERM, SIGINT, SIGQUIT and SIGHUP, whatever circus is doing at the time."""
    global _arbiter
    _arbiter = arbiter
    hold_signals()
    # At its end circus would put back the handlers that were there before it.
    arbiter.ctrl.sys_hdl._old = {}
    if stopped_by is not None:
        arbiter.loop.add_callback(stop, arbiter)


def stop(arbiter: Any) -> None:
    """End the daemon in order, also while another command of circus runs."""
    arbiter.codexd.order_end(arbiter.codexd.grace_s)
