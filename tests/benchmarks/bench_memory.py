"""What everything but codex holds in memory, beside what keeps a codex elsewhere.

``python -m tests.benchmarks.bench_memory``

The share of each page (PSS) of every process but the server, one supervisor at a time. codexd has
had a client, `/v1/status` and `/metrics` by then, so that what loads late is loaded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

import psutil

from tests.benchmarks.command import alone
from tests.benchmarks.kept import Kept, Vendors, is_server
from tests.benchmarks.peers import Unavailable
from tests.benchmarks.raw_client import RawClient
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, of_home
from tests.support.daemon import daemon_box
from tests.support.figures import memory_mib
from tests.support.http import ask

_STARTS: Final = 3
# What a start leaves behind is let go by then.
_CALM_S: Final = 3.0
_ASKED: Final = ("/v1/status", "/metrics")
_CIRCUS: Final = "circus"
_WITH_PLUGIN: Final = "circus with a plugin"
_VENDOR: Final = "vendor's daemon"
_PEERS: Final = {"supervisord": "supervisord", "pm2": "pm2", _WITH_PLUGIN: _CIRCUS}

MEMORY: Final = Row(
    "memory",
    "memory of everything but codex, the API loaded",
    "MiB",
    (*_PEERS, _VENDOR),
    (Mark(52),),
)


def memory(scene: Scene) -> None:
    """Each started, looked at and ended, in turns."""
    scene.begin("memory")
    for _ in scene.rounds(_STARTS, quick=1):
        with codexd(scene) as processes:
            scene.take(MEMORY.name, OURS, memory_mib(processes))
        for side in MEMORY.baselines:
            _take_peer(scene, side)


@contextlib.contextmanager
def codexd(scene: Scene) -> Iterator[list[psutil.Process]]:
    """A codexd that was asked; its processes but the server."""
    with daemon_box(scene.place("codexd")) as box:
        box.start()
        path = box.config.runtime.hub_socket_path
        client = RawClient(path)
        client.ask("thread/loaded/list", {"limit": 1})
        for target in _ASKED:
            assert ask(path, "GET", target).status == 200
        client.close()
        time.sleep(_CALM_S)
        yield [process for process in of_home(box.codex_home) if not is_server(process)]


def _take_peer(scene: Scene, side: str) -> None:
    if side in scene.measured[MEMORY.name].missing:
        return
    try:
        if side == _VENDOR:
            kept: Kept | Vendors = Vendors(scene)
        else:
            kept = Kept(_PEERS[side], scene, with_plugin=side == _WITH_PLUGIN)
    except Unavailable as why:
        scene.miss(side, str(why), (MEMORY,))
        return
    try:
        time.sleep(_CALM_S)
        scene.take(MEMORY.name, side, memory_mib(kept.others()))
    finally:
        kept.close()


BENCHES: Final = (Bench((MEMORY,), memory),)

if __name__ == "__main__":
    alone(BENCHES)
