"""What a minute costs in which nobody wants anything, beside supervisord and circus alone.

``python -m tests.benchmarks.bench_idle``

Wake-ups (threads that had gone to sleep) and processor time of every process but the server; no
client, no TCP listener. All sides are there at once: what sleeps does not disturb another.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Final

import psutil

from tests.benchmarks.command import alone
from tests.benchmarks.kept import Kept, is_server
from tests.benchmarks.peers import Unavailable
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, of_home
from tests.support.daemon import daemon_box
from tests.support.figures import cpu_s, wake_ups

_PEER: Final = "supervisord"
# The same two processes, with nothing of codexd in them.
_WITH_PLUGIN: Final = "circus with a plugin"
_PEERS: Final = {_PEER: _PEER, _WITH_PLUGIN: "circus"}
_SETTLE_S: Final = 15.0
_QUICK_SETTLE_S: Final = 5.0
_WINDOWS: Final = 4
_WINDOW_S: Final = 15.0
_QUICK_WINDOW_S: Final = 5.0

WAKE_UPS: Final = Row(
    "idle.wake-ups", "wake-ups of an idle minute", "/s", tuple(_PEERS), (Mark(2),)
)
CPU: Final = Row("idle.cpu", "processor time of it, of a core", "%", tuple(_PEERS), (Mark(0.05),))


def idle(scene: Scene) -> None:
    """A minute, in parts."""
    scene.begin("idle")
    rows = (WAKE_UPS, CPU)
    with contextlib.ExitStack() as stack:
        box = stack.enter_context(daemon_box(scene.place("codexd")))
        box.start()
        sides = {}
        for side, peer in _PEERS.items():
            try:
                kept = Kept(peer, scene, with_plugin=side == _WITH_PLUGIN)
            except Unavailable as why:
                scene.miss(side, str(why), rows)
            else:
                stack.callback(kept.close)
                sides[side] = kept.others()
        if sys.platform != "linux":
            scene.miss(OURS, "only Linux counts them", (WAKE_UPS,))
        time.sleep(_QUICK_SETTLE_S if scene.is_quick else _SETTLE_S)
        sides[OURS] = [one for one in of_home(box.codex_home) if not is_server(one)]
        for _ in scene.rounds(_WINDOWS, quick=2):
            _take_window(scene, sides, _QUICK_WINDOW_S if scene.is_quick else _WINDOW_S)


def _take_window(scene: Scene, sides: dict[str, list[psutil.Process]], window_s: float) -> None:
    before = {side: (_wakes(found), _cpu_s(found)) for side, found in sides.items()}
    begun = time.monotonic()
    time.sleep(window_s)
    took = time.monotonic() - begun
    for side, found in sides.items():
        wakes, used = _wakes(found), _cpu_s(found)
        if sys.platform == "linux":
            scene.take(WAKE_UPS.name, side, (wakes - before[side][0]) / took)
        scene.take(CPU.name, side, (used - before[side][1]) / took * 100)


def _wakes(processes: list[psutil.Process]) -> int:
    return wake_ups([process.pid for process in processes])


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(cpu_s(process) for process in processes)


BENCHES: Final = (Bench((WAKE_UPS, CPU), idle),)

if __name__ == "__main__":
    alone(BENCHES)
