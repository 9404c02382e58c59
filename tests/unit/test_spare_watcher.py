"""What circusd makes of the plugin's word about the spare, and of a place that cannot be taken."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from codexd.child.backoff import Backoff
from codexd.child.beside import SocketBeside
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
