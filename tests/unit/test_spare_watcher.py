"""What circusd makes of the plugin's word about the spare, and of a place that cannot be taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codexd.child.backoff import Backoff
from codexd.child.beside import SocketBeside
from codexd.child.command import Program
from codexd.child.pipes import ChildPipes, aside, io_dir
from codexd.child.spare import SpareMachine, SpareState
from codexd.child.told import Report
from codexd.circus_ext import spare_watcher
from codexd.circus_ext.spare_watcher import SpareWatcher

PLUGIN, SPARE = 100, 7


class Watcher(SpareWatcher):
    """Its spare is a number, and has just been started."""

    _server = None

    def __init__(self, runtime_dir: str = "", beside: SocketBeside | None = None) -> None:
        self.machine = SpareMachine(Backoff(50, 1000, 1000), lambda: 0.0)
        self.runtime_dir = runtime_dir
        self.beside = beside
        self.processes: dict[int, Any] = {}
        self.notes: list[SpareState] = []
        self.machine.wanted()
        self.machine.spawned(SPARE)

    def _note(self) -> None:
        self.notes.append(self.machine.state)


@pytest.mark.parametrize(
    ("reports", "state", "why"),
    [
        ([Report(plugin=PLUGIN)], SpareState.STARTED, ""),
        ([Report(plugin=PLUGIN, spare=SPARE)], SpareState.READY, ""),
        # Of another, which is over by now.
        ([Report(plugin=PLUGIN, spare=6, unfit_spare=5)], SpareState.STARTED, ""),
        (
            [Report(plugin=PLUGIN, spare=SPARE), Report(plugin=PLUGIN)],
            SpareState.ENDING,
            "the plugin does not vouch for it any more",
        ),
        # It did, for less than the time between two words.
        (
            [Report(plugin=PLUGIN, unfit_spare=SPARE)],
            SpareState.ENDING,
            "the plugin does not vouch for it any more",
        ),
        (
            [Report(plugin=PLUGIN), Report(plugin=PLUGIN + 1, spare=SPARE)],
            SpareState.ENDING,
            "the plugin was restarted",
        ),
    ],
)
def test_the_word_of_the_plugin_decides(reports: list[Report], state: SpareState, why: str) -> None:
    watcher = Watcher()
    for report in reports:
        watcher.heard(report)
    assert (watcher.machine.state, watcher._why) == (state, why)
    assert watcher.notes == ([SpareState.READY] if reports[0].spare == SPARE else [])


@pytest.mark.parametrize(
    ("beside", "state", "killed"),
    [
        (SocketBeside("/nowhere/s", "/nowhere"), SpareState.ENDING, [SPARE]),
        # On stdio nobody is in the way.
        (None, SpareState.STARTED, []),
    ],
)
def test_one_that_still_starts_makes_way_for_the_server(
    monkeypatch: pytest.MonkeyPatch,
    beside: SocketBeside | None,
    state: SpareState,
    killed: list[int],
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(spare_watcher, "end_group_members", ended.append)
    watcher = Watcher(beside=beside)
    assert watcher.give() is None
    # Another look changes nothing.
    assert watcher.give() is None
    assert (watcher.machine.state, ended) == (state, killed)


class Unmovable(SocketBeside):
    def come_forth(self) -> None:
        raise OSError(errno.EADDRINUSE, "somebody else listens there")


def test_pipes_go_back_where_the_socket_cannot_be_had(tmp_path: Path) -> None:
    run = str(tmp_path)
    pipes = ChildPipes.create(run, 3, spare=True)
    try:
        watcher = Watcher(run, Unmovable("/nowhere/s", run))
        why = watcher._come_forth(pipes)
        assert why == "its socket cannot be had at the endpoint: somebody else listens there"
        assert os.listdir(io_dir(run)) == [aside(3)]
        # On stdio there is nothing else to be had.
        assert Watcher(run)._come_forth(pipes) == ""
        assert os.listdir(io_dir(run)) == ["3"]
        assert "pipes are gone" in Watcher(run)._come_forth(pipes)
    finally:
        pipes.close()


class Settled(Watcher):
    """Beside a server that runs; it has read a program and two files, one behind a link."""

    def __init__(self, place: Path) -> None:
        super().__init__(str(place))
        self.place = place
        self.program = place / "codex"
        self.program.touch()
        (place / "mine.toml").touch()
        (place / "config.toml").symlink_to("mine.toml")
        self.env = {"CODEX_HOME": str(place)}
        self.working_dir = str(place)
        self.max_age_s, self.ready_timeout_s = 0.0, 10.0
        self.channel: Any = SimpleNamespace(is_over=False)
        self._seen = self._look_at_files()

    _server = SimpleNamespace(is_active=lambda: True)  # type: ignore[assignment]

    def _is_as_configured(self, server: Any) -> bool:
        return server is self._server

    def configured_program(self) -> Program:
        return Program(str(self.program), {})


def _fail(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _no_more_files(watcher: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "configured_program", _fail)


def _cannot_be_looked_at(_: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "lstat", _fail)


def _binary_is_being_replaced(watcher: Settled, _: pytest.MonkeyPatch) -> None:
    watcher.program.rename(watcher.place / "aside")


def _binary_was_replaced(watcher: Settled, _: pytest.MonkeyPatch) -> None:
    other = watcher.place / "other"
    other.touch()
    other.replace(watcher.program)


def _config_was_written(watcher: Settled, _: pytest.MonkeyPatch) -> None:
    (watcher.place / "mine.toml").write_text("model = 1")


def _config_was_removed(watcher: Settled, _: pytest.MonkeyPatch) -> None:
    (watcher.place / "mine.toml").unlink()


def _login_came(watcher: Settled, _: pytest.MonkeyPatch) -> None:
    (watcher.place / "auth.json").touch()


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (_no_more_files, ""),
        (_cannot_be_looked_at, ""),
        (_binary_is_being_replaced, ""),
        (_binary_was_replaced, "the binary has changed"),
        (_config_was_written, "config.toml has changed"),
        (_config_was_removed, "config.toml has changed"),
        (_login_came, "auth.json has changed"),
    ],
)
def test_only_what_has_changed_makes_it_stale(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Settled, pytest.MonkeyPatch], None],
    why: str,
) -> None:
    watcher = Settled(tmp_path)
    with monkeypatch.context() as patch:
        happens(watcher, patch)
        found = watcher._why_stale()
    assert found == why
