"""The circus commands that codexd adds: what the plugin tells circusd, and what the CLI orders.

Circus registers a command when its class is made; the hooks module imports this one before
circus makes its controller.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from circus.commands.base import Command
from circus.exc import MessageError

from codexd.child.told import Report
from codexd.circus_ext.channel import Channel
from codexd.circus_ext.watcher import AppServerWatcher
from codexd.encoding import convert

_FOR_EVER: Final = float("inf")


def _watcher(command: Any, arbiter: Any, props: dict[str, Any]) -> AppServerWatcher:
    watcher = command._get_watcher(arbiter, props["name"])
    if not isinstance(watcher, AppServerWatcher):
        raise MessageError(f"{props['name']} is not supervised by codexd")
    return watcher


def _channel(arbiter: Any) -> Channel:
    channel: Channel | None = getattr(arbiter, "codexd", None)
    if channel is None:
        raise MessageError("this circusd is not codexd's")
    return channel


def _grace_s(channel: Channel, props: dict[str, Any]) -> float:
    """The time that the caller gives, or the one that circus has for the child."""
    given = props.get("graceful_timeout")
    return channel.grace_s if given is None else _seconds(given)


def _seconds(given: object) -> float:
    # To Python, JSON's true is a number.
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < _FOR_EVER:
        return float(given)
    raise MessageError(f"graceful_timeout must be a number of seconds, not {given!r}")


def _pid(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise MessageError(f"pid must be a whole number, not {given!r}")
    return given


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
        pid = _pid(props["pid"])
        _watcher(self, arbiter, props).control.became_ready(pid)
        _channel(arbiter).told.became_ready(pid)


class ReportCommand(Command):  # type: ignore[misc]
    """\
    Tell what goes on in the plugin (codexd)
    ========================================

    Property: `report`, see codexd/child/told.py.
    """

    name = "codexd-report"
    properties = ("report",)

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        """Note it; answers with what the plugin should know of those before it."""
        try:
            report = convert(props["report"], Report)
        except msgspec.ValidationError as error:
            raise MessageError(f"that is no report: {error}") from error
        answer: dict[str, Any] = msgspec.to_builtins(_channel(arbiter).take(report))
        return answer


class Turns(Command):  # type: ignore[misc]
    """\
    How many turns run, null where nobody can tell (codexd)
    =======================================================
    """

    name = "codexd-turns"

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        """The number, and how long a child may take to end."""
        del props
        channel = _channel(arbiter)
        return {"turns": channel.turns(), "graceful_timeout": channel.grace_s}


class Settings(Command):  # type: ignore[misc]
    """\
    The settings that the daemon runs with (codexd)
    ===============================================

    As they stand in circus.ini.
    """

    name = "codexd-settings"

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        """All that are not empty."""
        del props
        return {"settings": _channel(arbiter).settings}


class Stop(Command):  # type: ignore[misc]
    """\
    End the daemon in order (codexd)
    ================================

    Property: `graceful_timeout` in seconds; without it, the one of the child's watcher. Given once
    more, the last word counts.
    """

    name = "codexd-stop"

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        """Begin; answers with the time that the child gets."""
        channel = _channel(arbiter)
        grace_s = _grace_s(channel, props)
        channel.order_end(grace_s)
        return {"graceful_timeout": grace_s}


class Restart(Command):  # type: ignore[misc]
    """\
    End the child in order and start another (codexd)
    =================================================

    Properties: `name` of the watcher; `graceful_timeout` in seconds, without it the watcher's own.
    """

    name = "codexd-restart"
    properties = ("name",)

    def execute(self, arbiter: Any, props: dict[str, Any]) -> Any:
        """Do it; with `waiting` the answer comes when the next child was started."""
        watcher = _watcher(self, arbiter, props)
        return watcher.restart_in_order(_grace_s(_channel(arbiter), props))


class ChildStop(Command):  # type: ignore[misc]
    """\
    End the child in order; the daemon stays (codexd)
    =================================================

    Properties: as for `codexd-restart`.
    """

    name = "codexd-child-stop"
    properties = ("name",)

    def execute(self, arbiter: Any, props: dict[str, Any]) -> Any:
        """Do it; with `waiting` the answer comes when it has ended."""
        watcher = _watcher(self, arbiter, props)
        return watcher.stop_in_order(_grace_s(_channel(arbiter), props))


class ChildStart(Command):  # type: ignore[misc]
    """\
    Start the child unless it is there (codexd)
    ===========================================

    Property: `name` of the watcher.
    """

    name = "codexd-child-start"
    properties = ("name",)

    def execute(self, arbiter: Any, props: dict[str, Any]) -> Any:
        """Do it; with `waiting` the answer comes when it was started."""
        return _watcher(self, arbiter, props).start_in_order()


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
        return watcher.replace(_pid(props["pid"]), _seconds(props["graceful_timeout"]))


class Steps(Command):  # type: ignore[misc]
    """\
    What watcher.json should hold and does not (codexd)
    ===================================================

    Properties: `name` of the watcher. The answer's `record` is null where the file is as it should
    be.
    """

    name = "codexd-steps"
    properties = ("name",)

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        """Tell it."""
        return {"record": _watcher(self, arbiter, props).control.unsaved}
