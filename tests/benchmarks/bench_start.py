"""How long `codexd start` takes until its server is ready, beside a bare boot of codex.

``python -m tests.benchmarks.bench_start``

From the command to the moment that daemon-state.json gives as readyAt; each start in the same
directories, as the first one left them.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.benchmarks.boot import BareBoot
from tests.benchmarks.command import alone
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene
from tests.support.daemon import DaemonBox, daemon_box

_STARTS: Final = 10
_BOOT: Final = "bare boot"

START: Final = Row("start", "codexd start to ready", "ms", (_BOOT,), (Mark(5, _BOOT),))


def program() -> str:
    """`codexd`, as it is installed beside this Python."""
    return str(Path(sys.executable).with_name("codexd"))


def start(scene: Scene) -> None:
    """A boot and a start in turns; the first of each only makes what the others find."""
    scene.begin("codexd start")
    with daemon_box(scene.place("codexd")) as box:
        boot = BareBoot(scene.place("bare"), box.env)
        boot.seconds()
        start_seconds(box)
        for _ in scene.rounds(_STARTS, quick=3):
            scene.take(START.name, _BOOT, boot.seconds() * 1000)
            scene.take(START.name, OURS, start_seconds(box) * 1000)


def start_seconds(box: DaemonBox) -> float:
    """One start; the daemon is stopped again."""
    begun = time.time()
    box.launch(program(), "start", *box.flags)
    child = box.wait_ready()
    took = datetime.fromisoformat(child["readyAt"]).timestamp() - begun
    box.stop_cleanly()
    return took


BENCHES: Final = (Bench((START,), start),)

if __name__ == "__main__":
    alone(BENCHES)
