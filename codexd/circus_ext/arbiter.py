"""What circusd itself must do before it binds its sockets, and after all is over.

Circus has no hook that early or that late, so the initialize method of its arbiter is wrapped when
circusd loads codexd's hooks or plugin by name. `codexd start` has done the same by then, and more;
then nothing is left to do here.
"""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from circus import logger
from circus.arbiter import Arbiter
from circus.commands.errors import INVALID_JSON
from circus.config import get_config
from circus.controller import Controller
from circus.exc import ConflictError

from codexd import runtime
from codexd.child.told import Patience
from codexd.circus_ext.channel import Channel
from codexd.config import Config, Paths, Runtime
from codexd.contracts import RUNNING_TURN
from codexd.platform import lock, signals
from codexd.platform.limits import raise_own_limit
from codexd.records.records import record_end
from codexd.settings_ini import encode_settings, read_plugin_settings
from codexd.store.snapshot import read_sessions

_PLUGIN = "plugin:codexd"
_TURNS_TOLD = 10


def wrap(attend: Callable[[Any, Paths, Runtime], None]) -> None:
    """Have every arbiter of this process prepare, and ``attend`` where no watcher's hook does."""
    bind = Arbiter.initialize

    def initialize(arbiter: Any) -> None:
        config = read_settings(getattr(arbiter, "config_file", None))
        if config is not None:
            if not prepare(config):
                raise SystemExit(1)
            arbiter.codexd = _channel(arbiter, config)
            arbiter.manage_watchers = functools.partial(manage_or_leave_it, arbiter)
            arbiter.stop_controller_and_close_sockets = functools.partial(close, arbiter)
            arbiter.ctrl.handle_message = functools.partial(handle_message, arbiter.ctrl)
        raise_own_limit()
        signals.settle()
        bind(arbiter)
        if config is not None and config.server.child_strategy == "external":
            place = (config.paths, config.runtime)
            arbiter.loop.add_callback(attend, arbiter, *place)

    Arbiter.initialize = initialize


def _channel(arbiter: Any, config: Config) -> Channel:
    policy = config.policy
    patience = Patience.of(
        timeout_ms=policy.health_timeout_ms,
        misses=policy.health_misses,
        ready_timeout_ms=policy.ready_timeout_ms,
    )
    told = functools.partial(turns_told, config.paths)
    return Channel(arbiter, patience, encode_settings(config), told)


def turns_told(paths: Paths) -> list[str]:
    """The turns that run, as far as they are on record, a line each for people."""
    running = [
        entry
        for entry in read_sessions(paths).sessions
        if entry.status == "active" and RUNNING_TURN in entry.metadata
    ]
    lines = [f"  a turn runs on thread {entry.thread_id}" for entry in running[:_TURNS_TOLD]]
    more = len(running) - _TURNS_TOLD
    return [*lines, f"  and {more} more"] if more > 0 else lines


def close(arbiter: Any) -> None:
    """As circus when an arbiter has ended; after `circusctl restart` the next one has the loop."""
    arbiter.codexd.close()
    Arbiter.stop_controller_and_close_sockets(arbiter)


def handle_message(controller: Any, frames: Sequence[bytes]) -> None:
    """As circus, but whoever sends what is no command is told so.

    Circus would raise, and then hear what has come behind it only once more comes.
    """
    try:
        Controller.handle_message(controller, frames)
    except Exception as error:
        reason = f"that is no command: {type(error).__name__}: {error}"
        logger.warning("a message on circus's socket was refused: %s", reason)
        controller.send_error(None, frames[0], b"", reason, errno=INVALID_JSON)


def manage(arbiter: Any) -> Any:
    """Have circus look at its children; returns a future.

    Raises:
        ConflictError: another command of circus runs.
    """
    return Arbiter.manage_watchers(arbiter)


def manage_or_leave_it(arbiter: Any) -> Any:
    """The periodic look: while another command of circus runs there is none, and no traceback.

    Circus's own reads eight files of /proc to find that nobody has died.
    """
    if is_complete(arbiter):
        return None
    try:
        return manage(arbiter)
    except ConflictError:
        return None


def is_complete(arbiter: Any) -> bool:
    """Whether a look of circus would find nothing to do: no child has ended, and none is wanted."""
    if not hasattr(os, "waitid"):
        return False
    watchers = [each for each in arbiter.iter_watchers() if each.on_demand or not each.is_stopped()]
    return _lives(os.P_ALL, 0) and all(map(_has_all, watchers))


def _has_all(watcher: Any) -> bool:
    is_plain = watcher.is_active() and not watcher.on_demand and not watcher.max_age
    has_number = 0 < watcher.numprocesses == len(watcher.processes)
    return is_plain and has_number and all(_lives(os.P_PID, pid) for pid in watcher.processes)


def _lives(kind: int, pid: int) -> bool:
    """Whether there are such children, and none of them waits to be reaped."""
    try:
        return os.waitid(kind, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def read_settings(ini: str | None) -> Config | None:
    """The settings in ``ini``, which circus reads anew from time to time; None without ours."""
    if not ini:
        return None
    try:
        seen = os.stat(ini)
    except OSError:
        # Circus says what is wrong.
        return _settings_in(ini)
    return _as_seen(ini, (seen.st_ino, seen.st_mtime_ns, seen.st_size))


@functools.lru_cache(maxsize=1)
def _as_seen(ini: str, _as_what: tuple[int, int, int]) -> Config | None:
    # A start asks three times, and to read it takes circus 2 ms.
    return _settings_in(ini)


def _settings_in(ini: str) -> Config | None:
    sections = get_config(ini)["plugins"]
    found = [section for section in sections if section["name"] == _PLUGIN]
    return read_plugin_settings(found[0]) if found else None


def prepare(config: Config) -> bool:
    """Become the daemon of the state directory, unless this process is; False if it cannot."""
    if lock.is_held(config.runtime.lock_path):
        return True
    try:
        repairs = runtime.make_directories(config.paths, config.runtime)
        for repair in repairs + runtime.take_over(config, logger.warning):
            logger.warning("%s", repair)
    except lock.LockedElsewhere as locked:
        logger.error("codexd already runs on this state directory, as pid %s", locked.holder)
        return False
    except OSError as error:
        logger.error("%s", error)
        return False
    atexit.register(_finish, config)
    return True


def _finish(config: Config) -> None:
    try:
        record_end(config)
    except OSError as error:
        logger.error("the end of codexd could not be recorded: %s", error)
    runtime.leave(config.paths, config.runtime)
